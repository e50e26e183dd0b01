"""The farm at one moment, as all pages show it: read once, however many browsers look.

Everything is a count that the scripts keep, a record of a worker, or a file in hand. Nothing is
looked at that grows with the number of jobs.
"""

import contextlib
import time
from typing import NamedTuple, Self

import redis

from producer.batches.counts import read_tally
from producer.batches.running import Running, running_files
from producer.batches.runs import Run
from producer.batches.views import BatchCounts, latest_batches
from producer.batches.watching import time_left_s
from producer.connection import server_errors
from producer.errors import JobNotFound
from producer.fleet import is_suspended
from producer.models_served import count_jobs, farm_queues, unserved
from producer.roster import read_roster
from producer.settings import Settings
from producer.throughput import Slot, read_throughput, speed
from producer.worker_records import WorkerRecord

# Batches of the overview; the others are behind "more".
NUM_BATCHES = 10
# Files in hand that are looked up in each queue: pages list a dozen; lengths of so many are enough to
# say when a batch will be done.
MAX_FILES = 100


class BatchView(NamedTuple):
    """Where a batch stands, and when it will be done: seconds from now, None if nobody knows."""

    name: str
    counts: BatchCounts
    run: Run
    running: tuple[Running, ...] = ()
    eta_s: float | None = None

    @classmethod
    def empty(cls, name: str) -> Self:
        """Return what is shown of a batch that the server does not know any more."""
        return cls(name, BatchCounts(), Run())


class FarmView(NamedTuple):
    """The farm at one moment.

    Attributes:
        now_s: By the server's clock, seconds since the epoch.
        queued, running: Jobs that wait, and that are in hand, of all queues.
        unserved: Jobs that wait for a model that no worker has, by model.
        speed: Seconds of audio done in a second, lately.
        eta_s: Seconds until the batches shown are done; None if nobody knows.
    """

    now_s: float
    is_paused: bool
    workers: tuple[WorkerRecord, ...]
    queued: int
    running: int
    unserved: dict[str, int]
    files: tuple[Running, ...]
    batches: tuple[BatchView, ...]
    throughput: tuple[Slot, ...]
    speed: float | None
    eta_s: float | None

    @property
    def alive(self) -> list[WorkerRecord]:
        """The workers with a fresh heartbeat."""
        return [worker for worker in self.workers if worker.is_alive]

    @property
    def day_succeeded(self) -> int:
        """Jobs that succeeded in the last 24 hours."""
        return sum(slot.succeeded for slot in self.throughput)

    @property
    def day_failed(self) -> int:
        """Jobs that failed in the last 24 hours."""
        return sum(slot.failed for slot in self.throughput)

    @property
    def day_audio_s(self) -> float:
        """Seconds of audio that were done in the last 24 hours."""
        return sum(slot.audio_s for slot in self.throughput)

    def batch(self, name: str) -> BatchView | None:
        """Return a batch that was asked for; None if the server does not know it."""
        return next((each for each in self.batches if each.name == name), None)


class Reader:
    """Reads the farm, the slow figures less often than the quick ones."""

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self._connection, self._settings = connection, settings
        self._throughput: tuple[float, list[Slot]] = (-1e9, [])

    def read(self, watched: frozenset[str] = frozenset()) -> FarmView:
        """Return the farm now, with its latest batches and those that are watched.

        Raises:
            ServerUnreachable: no server answers.
        """
        connection, queue_names = self._connection, self._settings.worker.queues
        with server_errors(connection):
            queues = farm_queues(connection, queue_names)
        queued, running, by_model = count_jobs(connection, queue_names)
        roster = read_roster(connection, self._settings)
        files = (
            tuple(running_files(connection, queues, most=MAX_FILES))
            if any(running.values())
            else ()
        )
        names = dict.fromkeys([*latest_batches(connection, NUM_BATCHES), *sorted(watched)])
        batches = tuple(self._batches(list(names), files))
        slots = self._slots()
        # What the workers say is of now; the slots go on when none of them says anything.
        own = sum(worker.audio_s_per_s or 0.0 for worker in roster.alive)
        farm_speed = own or speed(slots, roster.now_s)
        return FarmView(
            now_s=roster.now_s,
            is_paused=is_suspended(connection),
            workers=tuple(roster.workers),
            queued=sum(queued.values()),
            running=sum(running.values()),
            unserved=unserved(by_model, roster.alive),
            files=files,
            batches=batches,
            throughput=tuple(slots),
            speed=farm_speed,
            eta_s=farm_eta_s(batches, farm_speed),
        )

    def _batches(self, names: list[str], files: tuple[Running, ...]) -> list[BatchView]:
        return [view for name in names if (view := self.batch(name, files)) is not None]

    def batch(self, name: str, files: tuple[Running, ...] = ()) -> BatchView | None:
        """Return one batch; None if the server does not know it."""
        with contextlib.suppress(JobNotFound):
            tally = read_tally(self._connection, name)
            run, own = Run.from_tally(tally), tuple(each for each in files if name in each.batches)
            eta_s = time_left_s(tally.counts, run, list(own)) if tally.counts.left else 0.0
            return BatchView(name, tally.counts, run, own, eta_s)
        return None

    def _slots(self) -> list[Slot]:
        read_at, slots = self._throughput
        if time.monotonic() - read_at > 10:  # noqa: PLR2004 seconds; a slot is five minutes
            slots = read_throughput(self._connection)
            self._throughput = (time.monotonic(), slots)
        return slots


def farm_eta_s(batches: tuple[BatchView, ...], farm_speed: float | None) -> float | None:
    """Return when the batches will all be done, by the farm's speed; None if that is not known.

    Recordings that are not known yet are taken to be as long as those of all batches that ended.
    """
    left = sum(batch.counts.left for batch in batches)
    if not left:
        return 0.0
    num_done = sum(batch.counts.succeeded + batch.counts.failed for batch in batches)
    audio_s = sum(batch.counts.audio_s for batch in batches)
    if not num_done or not audio_s or not farm_speed:
        return max((batch.eta_s for batch in batches if batch.eta_s), default=None)
    in_hand_s = sum(file.seconds_done for batch in batches for file in batch.running)
    return max(0.0, left * audio_s / num_done - in_hand_s) / farm_speed
