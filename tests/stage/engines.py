"""The engines that must behave alike, each with recordings that it reads: for tests of conformance.

The real engine has a small random Whisper: its text means nothing and is always the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from producer.errors import ScribefarmError
from producer.job import Job, Options
from producer.settings import Settings
from tests.stage import archive_engine, fake_engine
from tests.stage.archive_engine import ArchiveEngine
from tests.stage.fake_engine import FakeEngine
from tests.stage.tiny_models import tiny_random_whisper, write_mlx
from worker.engine.engine import BatchEngine
from worker.models.load import load_family

RATE_HZ = 16_000
# A window of the random Whisper costs 0.2 s, mostly its encoder; its text may be short.
FEW_TOKENS = Options(temperatures=(0.0,), beam_size=None, sample_len=4)


@dataclass
class Stage:
    """An engine under test and what it can be given.

    Attributes:
        short: Recordings that succeed soon, each with a text of its own.
        long: One that takes seconds, in several windows where the engine has windows.
        bad: One that fails, and with which code.
        has_progress: Whether it reports windows, and so can resume.
    """

    engine: Any
    short: list[Job]
    long: Job
    bad: tuple[Job, str]
    has_progress: bool = True

    def break_down(self, error: ScribefarmError) -> None:
        """Make the engine lose its device."""
        if isinstance(self.engine, FakeEngine):
            self.engine.break_down(error)
            return

        def fail() -> None:
            raise error

        self.engine._inbox.put(fail)


def fake(_folder: Path, *, busy: bool) -> Stage:
    """Return the engine of the farm's tests; nothing is read, `busy` makes the long one slow."""
    job = fake_engine.job
    return Stage(
        engine=FakeEngine(capacity=4),
        short=[job(f"short{number}", windows=2) for number in range(4)],
        long=job("long", windows=6, window_s=0.5 if busy else 0.01),
        bad=(job("bad", error="corrupt_audio"), "corrupt_audio"),
    )


def archive(folder: Path, *, busy: bool) -> Stage:
    """Return the engine of the archive's tests: it reads real files, and has no windows."""
    archive_engine.WORK_S = 0.5 if busy else 0.0
    return Stage(
        engine=ArchiveEngine(Settings(), capacity=4),
        short=[_job(_noise(folder, number, 1.0)) for number in range(4)],
        long=_job(_noise(folder, 9, 5.0)),
        bad=(_job(_text(folder)), "unsupported_format"),
        has_progress=False,
    )


def real(folder: Path, *, busy: bool) -> Stage:
    """Return the worker's own engine, over its own device, with a small model."""
    model = write_mlx(tiny_random_whisper(), folder / "model")
    settings = Settings(model={"name": str(model), "dtype": "float32"}, worker={"slots": 4})
    return Stage(
        engine=BatchEngine(settings, load_family),
        short=[_job(_noise(folder, number, 2.0)) for number in range(4)],
        long=_job(_noise(folder, 9, 150.0 if busy else 65.0)),
        bad=(_job(_text(folder)), "unsupported_format"),
    )


ENGINES = {"fake": fake, "archive": archive, "real": real}


def _job(path: Path) -> Job:
    return Job(source=str(path), options=FEW_TOKENS)


def _noise(folder: Path, seed: int, seconds: float) -> Path:
    path = folder / f"noise-{seed}.wav"
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ))
    soundfile.write(path, samples, RATE_HZ)
    return path


def _text(folder: Path) -> Path:
    path = folder / "text.wav"
    path.write_text("This is a letter, not a recording.\n" * 100)
    return path
