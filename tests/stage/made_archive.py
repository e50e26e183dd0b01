"""Makes an archive of short recordings with odd names, some broken, and knows the truth about it."""

import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from worker.audio.recording import open_recording

RATE_HZ = 16_000
CLIP_S = 0.25
RECORDED_AT_S = 1_700_000_000
# The farm of these tests refuses longer recordings.
MAX_SECONDS = 5.0

ODD_NAMES = (
    b"plain.wav",
    b"with space.wav",
    b'it\'s "quoted".wav',
    b"two\nlines.wav",
    b"tab\there.wav",
    b"not utf-8 \xff\xfe.wav",
    b"--option.wav",
    "ümläut 日本 🎙.wav".encode(),
    b"percent %20 [x] {y} $z.wav",
    b"a.b.c.wav",
    b"n" * 251 + b".wav",
    b"same stem.wav",
    b"same stem.flac",
    b"Case.wav",
    b"case.wav",
    b"loud.WAV",
)
FOLDERS = ("", "2019", "2019/march", "2020/tapes & reels", "2020/tapes & reels/quiet", "Ä/b/c/d")


@dataclass
class MadeArchive:
    """An archive and its truth, by absolute path.

    Attributes:
        good: Recordings that must succeed.
        broken: Recordings that must fail, with their codes.
        problems: Files that cannot even be submitted, with their codes.
        vanishing: Recordings that are to be deleted between submit and work.
    """

    folder: Path
    good: list[Path] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    problems: dict[Path, str] = field(default_factory=dict)
    vanishing: list[Path] = field(default_factory=list)

    @property
    def num_jobs(self):
        return len(self.good) + len(self.broken)

    def vanish(self):
        for path in self.vanishing:
            path.unlink()


def make_archive(folder, num_files, *, seed=7, clips=None):
    """Write `num_files` files below `folder`, every twentieth broken, in ten ways in turn.

    `clips` yields arrays of samples; without it they are noise. No two good files sound the same.
    """
    chance = random.Random(seed)
    archive = MadeArchive(folder)
    for number in range(num_files):
        home = folder / FOLDERS[number % len(FOLDERS)]
        home.mkdir(parents=True, exist_ok=True)
        samples = next(clips) if clips else noise(chance.randrange(2**32))
        if number % 20 == 19:
            _BROKEN[number // 20 % len(_BROKEN)](archive, home / f"broken {number}.wav", samples)
            continue
        path = home / _name(number)
        write(path, samples)
        archive.good.append(path)
    for path in (*archive.good, *archive.broken):
        # Recorded a while ago: nobody is writing to them any more.
        os.utime(path, (RECORDED_AT_S, RECORDED_AT_S))
    return archive


def cut_speech(folder):
    """Yield clips cut one after another from the recordings below `folder`, no two alike."""
    length, seen = int(RATE_HZ * CLIP_S), set()
    for path in sorted(folder.rglob("*.flac")):
        rest = np.zeros(0, np.float32)
        for block in open_recording(path, max_seconds=7200, target_rate_hz=RATE_HZ):
            rest = np.concatenate([rest, block])
            for start in range(0, len(rest) - length + 1, length):
                clip = rest[start : start + length]
                written = np.round(clip * 2**15).tobytes()
                if written not in seen:  # digital silence is
                    seen.add(written)
                    yield clip
            rest = rest[len(rest) - len(rest) % length :]


def noise(seed):
    values = np.random.default_rng(seed).normal(0, 0.1, int(RATE_HZ * CLIP_S))
    return values.astype(np.float32)


def write(path, samples):
    """Write 16-bit audio in the format that the name asks for, whatever bytes it has."""
    kind = "FLAC" if path.suffix == ".flac" else "WAV"
    with path.open("wb") as file:
        soundfile.write(file, samples, RATE_HZ, format=kind, subtype="PCM_16")


def _name(number):
    if number < len(ODD_NAMES) * len(FOLDERS):
        return os.fsdecode(ODD_NAMES[number // len(FOLDERS)])
    return f"talk {number:05d}.{'flac' if number % 3 else 'wav'}"


def _zero_bytes(archive, path, _samples):
    path.write_bytes(b"")
    archive.broken[path] = "empty_input"


def _text(archive, path, _samples):
    path.write_text(f"This is not audio but {path}.\n" * 20, "utf-8", "surrogateescape")
    archive.broken[path] = "unsupported_format"


def _no_samples(archive, path, _samples):
    write(path, np.zeros(0, np.float32))
    archive.broken[path] = "empty_input"


def _breaks_off(archive, path, samples):
    write(path, samples)
    os.truncate(path, path.stat().st_size // 2)
    archive.broken[path] = "corrupt_audio"


def _not_a_number(archive, path, samples):
    spoilt = samples.copy()
    spoilt[len(spoilt) // 2] = np.nan
    with path.open("wb") as file:
        soundfile.write(file, spoilt, RATE_HZ, format="WAV", subtype="FLOAT")
    archive.broken[path] = "non_finite"


def _too_long(archive, path, samples):
    write(path, np.tile(samples, int(2 * MAX_SECONDS / CLIP_S)))
    archive.broken[path] = "out_of_range"


def _absurd_rate(archive, path, samples):
    write(path, samples)
    with path.open("r+b") as file:
        file.seek(24)
        file.write(struct.pack("<I", 1))
    archive.broken[path] = "out_of_range"


def _vanishes(archive, path, samples):
    write(path, samples)
    archive.broken[path] = "source_not_found"
    archive.vanishing.append(path)


def _dangling(archive, path, _samples):
    path.symlink_to("nowhere.wav")
    archive.problems[path] = "source_not_found"


def _pipe(archive, path, _samples):
    os.mkfifo(path)
    archive.problems[path] = "unsupported_format"


_BROKEN = (
    _zero_bytes,
    _text,
    _no_samples,
    _breaks_off,
    _not_a_number,
    _too_long,
    _absurd_rate,
    _vanishes,
    _dangling,
    _pipe,
)
