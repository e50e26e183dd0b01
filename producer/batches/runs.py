"""Runs: what was worked on a batch since it was last submitted to, and how fast.

The same batch is submitted to night after night. Each submission begins a run, so that a night's
speed is that of the night: files that had ended before are `known`, and time in which no worker had
a file of the batch is no working time.
"""

from typing import Self

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.counts import Tally, read_tally
from producer.connection import server_errors
from producer.scripts import Scripts
from producer.settings import Settings

# Speed is that of the last minutes of work: long enough for a steady time left, short enough to
# notice a new worker. Lua keeps samples for as long.
SPEED_WINDOW_S = 600.0


class Run(BaseModel):
    """What was done of a batch since its last submission began.

    Attributes:
        worked_s: Seconds in which a worker had a file of the batch.
        audio_s_per_s: Speed in the last ten minutes of them: audio hours per hour.
    """

    model_config = ConfigDict(frozen=True)

    started_at_s: float = Field(0.0, description="Seconds since the epoch, by the server's clock.")
    done: int = Field(0, description="Files that ended in the run, failed ones too.")
    known: int = Field(0, description="Files that had ended before it.")
    left: int = Field(0, description="Files still to be done.")
    worked_s: float = 0.0
    worked_audio_s: float = Field(0.0, description="Seconds of audio done in them.")
    audio_s_per_s: float | None = Field(None, description="None before anything was done.")

    @classmethod
    def from_tally(cls, tally: Tally) -> Self:
        """Return the run that a batch's tally tells of."""
        counts = tally.counts
        return cls(
            started_at_s=tally.run_at_s,
            done=min(tally.ended, counts.done),
            known=max(0, counts.done - tally.ended),
            left=counts.left,
            worked_s=max(0.0, tally.worked_s - tally.run_worked_s),
            worked_audio_s=max(0.0, tally.worked_audio_s - tally.run_worked_audio_s),
            audio_s_per_s=recent_speed(tally),
        )

    @property
    def files_per_s(self) -> float | None:
        """Return the files that ended in a second of work; None before the first did."""
        return self.done / self.worked_s if self.done and self.worked_s > 0 else None


def start_run(connection: redis.Redis, settings: Settings, batch: str) -> None:
    """Begin a run of a batch; call it before the first job of a submission."""
    with server_errors(connection):
        Scripts(connection).run("start_run", batch=batch, ttl_s=settings.queue.result_ttl_s)


def read_run(connection: redis.Redis, batch: str) -> Run:
    """Return the last run of a batch; without one, what was done since the batch began.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    return Run.from_tally(read_tally(connection, batch))


def recent_speed(tally: Tally) -> float | None:
    """Return the audio seconds done in a second of work, in the run's last ten minutes of work."""
    begin = (tally.run_worked_s, tally.run_worked_audio_s)
    oldest_s = max(tally.run_worked_s, tally.worked_s - SPEED_WINDOW_S)
    later = [sample for sample in (begin, *tally.samples) if sample[0] >= oldest_s]
    worked_s, audio_s = min(later, default=begin)
    work_s, done_s = tally.worked_s - worked_s, tally.worked_audio_s - audio_s
    return done_s / work_s if work_s > 0 and done_s > 0 else None
