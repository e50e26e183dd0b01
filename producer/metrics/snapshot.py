"""The farm at one moment, as monitors see it: two calls of the server, however many jobs wait."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from producer.connection import server_errors
from producer.keys import split_queue
from producer.metrics.stored import Counters
from producer.models_served import unserved
from producer.roster import Roster, read_roster
from producer.rq_data import parse_time
from producer.scripts import Scripts
from producer.settings import Settings
from producer.stored_fields import stored_text

# A farm has three queues, and as many again for each model that was ever asked for.
MAX_QUEUES = 1000


class Queue(NamedTuple):
    """One queue, of any model or of one.

    Attributes:
        waiting: Jobs that could be claimed.
        running: Jobs in hand.
        delayed: Jobs that wait for another try, or for another job.
        oldest_s: Seconds since the job at its head was submitted; None if it is empty.
    """

    name: str
    waiting: int
    running: int
    delayed: int
    oldest_s: float | None

    @property
    def base(self) -> str:
        """The queue without the model."""
        return split_queue(self.name).queue

    @property
    def model(self) -> str:
        """The model as in the queue's name; "" is any."""
        return self.name.partition("@")[2]


@dataclass(frozen=True)
class Snapshot:
    """The farm at one moment.

    Attributes:
        now_s: The server's time, seconds since the epoch.
        num_queues_left_out: Beyond `MAX_QUEUES`.
    """

    now_s: float
    is_paused: bool
    queues: list[Queue]
    num_queues_left_out: int
    counters: Counters
    roster: Roster

    def jobs(self) -> dict[str, dict[str, int]]:
        """Return jobs by queue, of all models, and state: queued, running, waiting."""
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for queue in self.queues:
            states = found[queue.base]
            states["queued"] += queue.waiting
            states["running"] += queue.running
            states["waiting"] += queue.delayed
        return found

    def oldest_s(self) -> dict[str, float]:
        """Return how long the oldest waiting job has waited, by queue; 0 where none waits."""
        found: dict[str, float] = defaultdict(float)
        for queue in self.queues:
            found[queue.base] = max(found[queue.base], queue.oldest_s or 0.0)
        return found

    @property
    def num_unserved(self) -> int:
        """Jobs that wait for a model that no worker has."""
        queued = {queue.model: 0 for queue in self.queues}
        for queue in self.queues:
            queued[queue.model] += queue.waiting
        return sum(unserved(queued, self.roster.alive).values())

    @property
    def speed(self) -> float:
        """Audio seconds a second of all workers together, in their last minutes of work."""
        return sum(worker.audio_s_per_s or 0.0 for worker in self.roster.alive)

    @property
    def time_left_s(self) -> float | None:
        """Seconds until all jobs are done at this speed; None if nothing is known.

        A job is taken to be as long as those that ended, failed ones included.
        """
        num_left = sum(each.waiting + each.running + each.delayed for each in self.queues)
        if not num_left:
            return 0.0
        if not self.speed or not self.counters.total_audio_s:
            return None
        mean_s = self.counters.total_audio_s / self.counters.num_ended
        return num_left * mean_s / self.speed

    @property
    def works_until_s(self) -> float | None:
        """When the last worker's hours close, seconds since the epoch; None if one's never do."""
        awake = [worker for worker in self.roster.alive if worker.sleeps_until_s is None]
        closings = [worker.works_until_s for worker in awake]
        known = [closing for closing in closings if closing is not None]
        return max(known) if known and len(known) == len(closings) else None


def take_snapshot(connection: redis.Redis, settings: Settings) -> Snapshot:
    """Return the farm as it stands.

    Raises:
        ServerUnreachable: no server answers.
    """
    with server_errors(connection):
        reply = Scripts(connection).run(
            "scrape", queues=settings.worker.queues, max_queues=MAX_QUEUES
        )
    now, is_paused, queues, left_out, counters = reply
    now_s = float(now)
    return Snapshot(
        now_s=now_s,
        is_paused=bool(is_paused),
        queues=list(_queues(queues, now_s)),
        num_queues_left_out=left_out,
        counters=Counters.parse(zip(counters[::2], counters[1::2], strict=False)),
        roster=read_roster(connection, settings),
    )


def _queues(rows: Iterable[list[Any]], now_s: float) -> Iterator[Queue]:
    for name, waiting, running, scheduled, deferred, oldest in rows:
        yield Queue(stored_text(name), waiting, running, scheduled + deferred, _age(oldest, now_s))


def _age(enqueued: bytes, now_s: float) -> float | None:
    try:
        return max(0.0, now_s - parse_time(stored_text(enqueued)))
    except ValueError:
        return None
