"""Recordings of real speech, as many as are asked for, in whole windows of 30 s.

    python -m tests.benchmarks.gpu.speech --speech FOLDER --recordings FOLDER [--count 48]

The FLAC files of 16 kHz in a folder are joined and cut into FLAC files of 30 to 180 s, so that all
engines compute the same windows and recordings end at different times.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.gpu.shapes import RATE_HZ, WINDOW_S, parser, tell

# Windows of a recording, in turn.
WINDOWS = (1, 4, 2, 6, 3, 5)
# "fLaC" and the block of 4 + 34 bytes that is first in every FLAC file.
FIRST_BLOCK_END = 42
APPLICATION_BLOCK = 2


def write_recordings(speech, folder, count):
    """Write recordings unless they are there; return their paths."""
    paths = [folder / f"{number:03}.flac" for number in range(count)]
    missing = [each for each in enumerate(paths) if not each[1].is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        samples = joined(speech)
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(_write, samples), *zip(*missing, strict=True)))
    return paths


def joined(speech):
    """Return all speech of 16 kHz in a folder, int16."""
    paths = sorted(speech.glob("*.flac"))
    paths = [path for path in paths if soundfile.info(path).samplerate == RATE_HZ]
    if not paths:
        raise SystemExit(f"{speech}: has no FLAC file of {RATE_HZ} Hz")
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])


def num_windows(number):
    """Return the windows of a recording."""
    return WINDOWS[number % len(WINDOWS)]


def _write(samples, number, path):
    length = num_windows(number) * WINDOW_S * RATE_HZ
    # A step that has no divisor in common with the length: no two recordings begin alike.
    start = number * 7919 * 16 % len(samples)
    taken = np.resize(np.roll(samples, -start), length)
    draft = path.with_suffix(".draft")
    soundfile.write(draft, taken, RATE_HZ, format="FLAC", subtype="PCM_16")
    draft.rename(path)


def write_copies(paths, folder, count):
    """Write copies that differ in a number among their metadata: other jobs, the same audio."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for number, path in enumerate(islice(cycle(paths), count)):
        content = Path(path).read_bytes()
        block = b"SFBN" + number.to_bytes(4, "big")
        header = bytes([APPLICATION_BLOCK]) + len(block).to_bytes(3, "big")
        copy = folder / f"{number:05}.flac"
        copy.write_bytes(content[:FIRST_BLOCK_END] + header + block + content[FIRST_BLOCK_END:])
        copies.append(copy)
    return copies


def main():
    flags = parser(__doc__)
    flags.add_argument("--speech", type=Path, required=True)
    flags.add_argument("--count", type=int, default=48)
    arguments = flags.parse_args()
    paths = write_recordings(arguments.speech, arguments.recordings, arguments.count)
    windows = sum(map(num_windows, range(len(paths))))
    size = sum(path.stat().st_size for path in paths)
    tell({"recordings": len(paths), "windows": windows, "megabytes": round(size / 1e6)})


if __name__ == "__main__":
    main()
