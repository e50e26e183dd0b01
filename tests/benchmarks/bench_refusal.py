"""What refusing an over-long recording costs: memory, and bytes read from the file.

    python tests/benchmarks/bench_refusal.py

Each case runs in a fresh process (Linux) with the cap at 30 s. Exits 1 if any case is not refused
as `out_of_range`, grows memory by 8 MB or more, or reads beyond the header.
"""

import json
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import psutil
import soundfile

from producer.errors import ScribefarmError
from worker.audio.recording import load_audio, probe

HOUR_S = 3600
MAX_GROWTH_BYTES = 8_000_000
# Headers, and the read-ahead of libsndfile's own buffers (16 KiB for a FLAC frame).
MAX_HEADER_BYTES = 64 * 1024
OPUS = Path(__file__).parents[3] / "shared" / "data" / "audio" / "long" / "kerstin-60min.opus"


def write_lying_wav(path: Path) -> None:
    """A 44-byte WAV whose header claims ten hours of 16 kHz mono."""
    num_bytes = 10 * HOUR_S * 16_000 * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    path.write_bytes(
        b"RIFF"
        + struct.pack("<I", 36 + num_bytes)
        + b"WAVEfmt "
        + fmt
        + b"data"
        + struct.pack("<I", num_bytes)
    )


def write_hour(path: Path, container: str) -> None:
    """One hour of quiet noise, 16 kHz mono."""
    second = np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)
    with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16", format=container) as sound:
        for _ in range(HOUR_S):
            sound.write(second)


def bytes_read() -> int:
    """Bytes that this process asked the system for so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "rchar":
            return int(value)
    raise RuntimeError("/proc/self/io has no rchar")


def measure(path: Path, warm: Path) -> dict[str, object]:
    """Refuse one file in this process and say what it cost."""
    probe(warm)  # pays for the libraries' own start
    process = psutil.Process()
    cost_of_counting = -bytes_read() + bytes_read()
    tracemalloc.start()
    rss_before, read_before = process.memory_info().rss, bytes_read()
    try:
        load_audio(path, max_seconds=30.0)
        outcome = "not refused"
    except ScribefarmError as error:
        outcome = error.code
    read_after = bytes_read()
    _, traced_bytes = tracemalloc.get_traced_memory()
    return {
        "outcome": outcome,
        "read_bytes": read_after - read_before - cost_of_counting,
        "traced_peak_bytes": traced_bytes,
        "rss_growth_bytes": process.memory_info().rss - rss_before,
    }


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
        return 0
    passed = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm = folder / "warm.wav"
        soundfile.write(warm, np.zeros(1600, np.float32), 16_000)
        write_lying_wav(folder / "claims-10-hours.wav")
        write_hour(folder / "one-hour.wav", "WAV")
        write_hour(folder / "one-hour.flac", "FLAC")
        paths = [*sorted(folder.glob("*-hour*")), *([OPUS] if OPUS.exists() else [])]
        print(
            f"{'file':22} {'bytes':>11} {'read':>9} {'tracemalloc peak':>17} {'RSS growth':>11}  outcome"
        )
        for path in paths:
            command = [sys.executable, __file__, str(path), str(warm)]
            cost = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            # Ogg counts nothing in its header: 30 s of it are decoded before the cap is passed.
            is_counted = path != OPUS
            passed &= (
                cost["outcome"] == "out_of_range"
                and max(cost["traced_peak_bytes"], cost["rss_growth_bytes"]) < MAX_GROWTH_BYTES
                and (cost["read_bytes"] <= MAX_HEADER_BYTES or not is_counted)
            )
            print(
                f"{path.name:22} {path.stat().st_size:11,} {cost['read_bytes']:9,} "
                f"{cost['traced_peak_bytes']:17,} {cost['rss_growth_bytes']:11,}  {cost['outcome']}"
            )
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
