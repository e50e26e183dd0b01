"""A plan held against a farm that works three nights off: the real queue, time that is simulated.

Its workers claim from the server and commit to it by the farm's own scripts. Their engines go window by
window, a step a window for all recordings in hand, which the plan knows nothing of: it is given what
a worker says of itself, the lengths of headers, and the failures of an earlier batch.
"""

import heapq
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from producer.active_hours import is_active, next_change
from producer.errors import CorruptAudio
from producer.job import Job
from producer.planning.plan import make_plan
from producer.planning.speeds import known_workers
from producer.planning.work import Load
from producer.queue import submit
from producer.result import Failure
from producer.worker_records import WorkerRecord
from tests.stage.claims import MODEL, make_transcript
from worker.farm.commit import CommitVerdict, commit
from worker.farm.endings import Outcome
from worker.farm.job_hash import read_job
from worker.farm.scripts import FarmScripts, Release, served_models

NIGHT, ZONE = "22:00-06:00", "Europe/Berlin"
BEGINS = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
WINDOW_S = 30.0
SLOTS, CAPACITY = 16, 24
# Seconds of a round: a batch costs its encoder's time for each row, and a decoder's for all.
ENCODE_S, DECODE_S = 0.4, 17.0
FAILED_SHARE, PASSING_SHARE = 0.06, 0.03
NUM_JOBS = 1080


def round_s(num_rows):
    return ENCODE_S * num_rows + DECODE_S


@dataclass
class SimulatedWorker:
    """Claims while its hours are open, and gives every recording in its slots a window a round."""

    scripts: FarmScripts
    connection: object
    lengths: dict
    random_: random.Random
    now: datetime = BEGINS
    held: list = field(default_factory=list)
    num_done: int = 0

    def round(self):
        """Work one round, or sleep until the hours open; return how many ended."""
        if is_active(NIGHT, ZONE, self.now):
            num_free = CAPACITY - len(self.held)
            for claim in self.scripts.claim(num_free, suspects=1) if num_free else ():
                source = read_job(claim).source
                length_s, fails_at_s = self.lengths[source]
                self.held.append([claim, length_s, fails_at_s, self.random_.random()])
        elif not self.held:
            self.now = next_change(NIGHT, ZONE, self.now)
            return 0
        if not self.held:
            self.now += timedelta(seconds=60)
            return 0
        rows = self.held[:SLOTS]
        self.now += timedelta(seconds=round_s(len(rows)))
        ended = [row for row in rows if self._advance(row)]
        self.held = [row for row in self.held if row not in ended]
        self.num_done += len(ended)
        return len(ended)

    def _advance(self, row):
        claim, left_s, fails_in_s, luck = row
        row[1], row[2] = left_s - WINDOW_S, fails_in_s - WINDOW_S
        if row[2] <= 0:
            error = CorruptAudio("decode", "must be intact audio", "frame 7")
            self._end(claim, Failure.from_error(claim.job_id, error, worker="simulated"))
            return True
        if luck < PASSING_SHARE and row[1] > 0:
            # The share stalls: the recording goes back, and whoever takes it goes on there.
            self.lengths[read_job(claim).source] = (row[1], row[2])
            self.scripts.release([Release(claim.job_id, claim.execution_id, claim.queue)])
            self.held.remove(row)
            return False
        if row[1] <= 0:
            self._end(claim, make_transcript().model_copy(update={"job_id": claim.job_id}))
            return True
        return False

    def _end(self, claim, result):
        outcome = Outcome(claim, result, ttl_s=86_400)
        assert commit(self.connection, outcome) is CommitVerdict.DONE


def made_lengths(random_, count):
    """Return (seconds, where it fails) by source, an archive's mixture: clips, talks, a few long days."""
    lengths = {}
    for number in range(count):
        length_s = min(4 * 3600.0, 60 + random_.lognormvariate(7.5, 0.9))
        fails = random_.random() < FAILED_SHARE
        fails_at_s = random_.random() * length_s if fails else float("inf")
        lengths[f"/archive/{number:05}.flac"] = (length_s, fails_at_s)
    return lengths


def worked_s(begins, end):
    """Return the seconds of open hours, and of finishing behind them, from a time until another."""
    now, total = begins, 0.0
    while (change := next_change(NIGHT, ZONE, now)) < end:
        total += (change - now).total_seconds() if is_active(NIGHT, ZONE, now) else 0.0
        now = change
    return total + (end - now).total_seconds() * is_active(NIGHT, ZONE, now)


def work_off(workers, num_jobs):
    """Let the workers work in the order of their clocks; return when the last job ended."""
    agenda = [(worker.now, number) for number, worker in enumerate(workers)]
    num_done, last = 0, BEGINS
    while num_done < num_jobs:
        now, number = heapq.heappop(agenda)
        assert now < BEGINS + timedelta(days=10)
        ended = workers[number].round()
        num_done += ended
        last = workers[number].now if ended else last
        heapq.heappush(agenda, (workers[number].now, number))
    return last


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_plan_for_three_nights_agrees_with_the_farms_finish(connection, settings, seed):
    random_ = random.Random(seed)
    lengths = made_lengths(random_, NUM_JOBS)
    headers = [length_s for length_s, _ in lengths.values()]
    jobs = [
        Job(source=each, model=MODEL.name, audio_sha256=sha256(each.encode()).hexdigest())
        for each in lengths
    ]
    submit(connection, settings, jobs)
    says = WorkerRecord(
        name="mini",
        active_hours=f"{NIGHT} {ZONE}",
        slots=SLOTS,
        capacity=CAPACITY,
        rows=15.2,
        audio_s_per_s=SLOTS * WINDOW_S / round_s(SLOTS),
    )
    farm = known_workers([says.model_copy(update={"name": f"mini-{n}"}) for n in range(2)])
    unknown = headers[::40]
    known = [length_s for number, length_s in enumerate(headers) if number % 40]
    mean_s = sum(known) / len(known)
    load = Load("archive", len(headers), known, mean_s, FAILED_SHARE)
    assert load.num_unknown == len(unknown)
    plan = make_plan([load], farm, BEGINS)

    workers = [
        SimulatedWorker(
            FarmScripts(connection, settings, f"mini-{n}", served_models(MODEL, settings.model)),
            connection,
            lengths,
            random.Random(n),
        )
        for n in range(2)
    ]
    end = work_off(workers, len(jobs))
    planned, real = worked_s(BEGINS, plan.done.middle), worked_s(BEGINS, end)
    print(f"planned {planned / 3600:.2f} h of work, worked {real / 3600:.2f} h; {plan.done}, {end}")
    assert plan.done.nights == 3
    assert abs(planned - real) <= 0.1 * real
    assert plan.done.early <= end <= plan.done.late
