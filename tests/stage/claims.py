"""Claimed jobs without a server, and an engine that only notes what it is asked to do."""

import json
from dataclasses import dataclass, field

from producer.errors import ScribefarmError
from producer.job import TASK_NAME
from producer.result import Audio, Model, Segment, Timing, Transcript
from worker.engine.messages import Checkpoint, EngineFigures, Event, Progress, Ticket
from worker.farm.scripts import FIELDS, Claim

FIGURES = EngineFigures("fake", slots=8)
MODEL = Model(name="fake", revision="0", dtype="float32")


def make_claim(name: str = "a", *, kwargs: dict | None = None, **fields: bytes) -> Claim:
    """Return a claim of job `job-NAME` as execution `NAME`; `fields` are those of its hash."""
    asked = {"source": f"/archive/{name}.wav"} | (kwargs or {})
    data = json.dumps([TASK_NAME, None, [], asked]).encode()
    stored = dict.fromkeys(FIELDS, b"") | {"data": data} | fields
    return Claim(f"job-{name}", name, "default", 1_700_000_000.0, "", stored)


def make_progress(name: str, windows: int = 1) -> Progress:
    """Return the report after `windows` windows of 30 s, of a recording of 300 s."""
    segments = tuple(
        Segment(
            id=window,
            seek=window * 3000,
            start=window * 30.0,
            end=window * 30.0 + 30.0,
            text=f" window {window}",
            tokens=[],
            temperature=0.0,
            avg_logprob=0.0,
            compression_ratio=1.0,
            no_speech_prob=0.0,
        )
        for window in range(windows)
    )
    return Progress(name, windows * 30.0, 300.0, Checkpoint(segments=segments, language="en"))


def make_transcript() -> Transcript:
    """Return a transcript as an engine gives it: without what only the farm knows."""
    return Transcript(
        job_id="",
        text="text",
        language="en",
        segments=[],
        audio=Audio(duration_s=1, sample_rate_hz=16000, channels=1, format="fake"),
        model=MODEL,
        timing=Timing(),
    )


@dataclass
class NotingEngine:
    """Takes recordings and does nothing with them: a test says what happens next."""

    capacity: int = 8
    model: Model = MODEL
    submitted: list[Ticket] = field(default_factory=list)
    cancelled: dict[str, ScribefarmError] = field(default_factory=dict)
    num_lost_threads: int = 0
    figures: EngineFigures = FIGURES
    can_read: bool = True

    def submit(self, ticket: Ticket) -> None:
        self.submitted.append(ticket)

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        self.cancelled[execution_id] = error

    def poll(self, timeout_s: float) -> list[Event]:
        del timeout_s
        return []

    def stop(self) -> None:
        pass
