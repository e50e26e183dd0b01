"""What a model makes of the packaged recording, stage by stage: for who has weights that we had not."""

import re
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from producer.errors import InvalidOptions
from producer.job import Job, Options
from producer.result import Transcript
from producer.settings import Settings
from worker.audio.recording import load_audio
from worker.cli.measure import clip
from worker.engine.engine import BatchEngine
from worker.engine.family import Family
from worker.engine.messages import Done, Event, Failed, Ticket
from worker.models.load import load_family

# What is said in the recording; its sha256 is in tests/data/silero.json.
SPOKEN = "Ever tried, ever failed. No matter, try again. Fail again. Fail better."
# Greedy, which every family is or can be.
OPTIONS = Options(temperatures=(0.0,), beam_size=None, word_timestamps=True)
POLL_S = 0.2


@runtime_checkable
class Inspectable(Protocol):
    """A family that shows what the stages of its network make of a piece."""

    def figures(self, samples: NDArray[np.float32]) -> Sequence[tuple[str, str]]:
        """Return the name of each stage, and its output in a few numbers."""


class Verified(BaseModel):
    """What a model made of the recording.

    Attributes:
        figures: What the stages of its network made of it; empty where a family does not tell.
        num_wrong: Words that are wrong, missing or too many, by the fewest edits.
        num_words: That are spoken.
    """

    model_config = ConfigDict(frozen=True)

    figures: list[tuple[str, str]]
    transcript: Transcript
    num_wrong: int
    num_words: int


def verify(settings: Settings) -> Verified:
    """Load the model of the settings, and transcribe the packaged recording with it.

    Raises:
        InvalidOptions: the recording's package is not installed.
        ScribefarmError: the model cannot be loaded, or fails at the recording.
    """
    path = clip()
    if path is None:
        raise InvalidOptions("models verify", "needs useful-moonshine-onnx, which has the clip")
    samples, _ = load_audio(str(path))
    found: list[tuple[str, str]] = []

    def load(effective: Settings) -> Family:
        """Load and look in the engine's thread: only that thread may use the model."""
        family = load_family(effective)
        if isinstance(family, Inspectable):
            found.extend(family.figures(samples))
        return family

    engine = BatchEngine(settings, load)
    try:
        job = Job(source=str(path), options=OPTIONS)
        engine.submit(Ticket("clip", "clip", job))
        transcript = _ended(engine)
    finally:
        engine.stop()
    spoken, heard = _words(SPOKEN), _words(transcript.text)
    return Verified(
        figures=found,
        transcript=transcript,
        num_wrong=edits(spoken, heard),
        num_words=len(spoken),
    )


def _ended(engine: BatchEngine) -> Transcript:
    while True:
        events: list[Event] = engine.poll(POLL_S)
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                return event.transcript


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the fewest words to insert, leave out or change to make one text of the other."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, start=1):
        above, row = row, [number]
        for index, said in enumerate(other):
            row.append(min(above[index + 1] + 1, row[index] + 1, above[index] + (word != said)))
    return row[-1]
