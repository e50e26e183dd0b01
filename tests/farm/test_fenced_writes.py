"""When progress and endings are written, in which order, and what a refusal costs; no server."""

import pytest
import redis

from producer.errors import SourceUnreachable
from tests.stage.claims import NotingEngine, make_claim, make_progress, make_transcript
from tests.stage.farm import make_settings
from worker.engine.messages import Done, Failed
from worker.farm import fenced_writes
from worker.farm.commit import CommitVerdict
from worker.farm.fenced_writes import MAX_COMMIT_TRIES, FencedWrites
from worker.farm.held_jobs import HeldJobs
from worker.farm.scripts import MAX_JOBS_A_CALL


class NotingScripts:
    """Takes progress and releases; all is ours unless `is_ours` says otherwise."""

    def __init__(self):
        self.is_ours = True
        self.stored, self.released = [], []

    def progress(self, claim, fields, checkpoint):
        self.stored.append((claim.execution_id, fields["seconds_done"], checkpoint != ""))
        return self.is_ours

    def release(self, jobs):
        self.released.append([job.execution_id for job in jobs])
        return [job.execution_id for job in jobs]


class Commits:
    """Stands for `commit`: notes what is committed, raises what the test says for a name."""

    def __init__(self):
        self.done, self.errors = [], {}

    def __call__(self, _connection, outcome):
        name = outcome.claim.execution_id
        if name in self.errors:
            raise self.errors[name]
        self.done.append(name)
        return CommitVerdict.DONE


@pytest.fixture
def commits(monkeypatch):
    """Return what takes the commits."""
    commits = Commits()
    monkeypatch.setattr(fenced_writes, "commit", commits)
    return commits


@pytest.fixture
def scripts():
    """Return what takes the other writes."""
    return NotingScripts()


@pytest.fixture
def held():
    """Return an empty `HeldJobs`."""
    return HeldJobs(NotingEngine(), make_settings("redis://nobody.example"), "w")


@pytest.fixture
def writes(held, scripts, commits):
    """Return the writes under test."""
    return FencedWrites(None, scripts, held, "w")


def start(held, *names, **fields):
    for name in names:
        held.start(make_claim(name, **fields), None, draining=False)
    held.submit_checked()


def test_what_is_written_is_forgotten(held, writes, scripts, commits):
    """The lease of a job ends with the write of its ending, and not before."""
    start(held, "done", "away", "working")
    held.handle(Done("done", make_transcript()))
    held.handle(Failed("away", SourceUnreachable("share", "must answer")))
    assert len(held) == 3
    writes.write_endings()
    assert (commits.done, scripts.released) == (["done"], [["away"]])
    assert [claim.execution_id for claim in held.claims] == ["working"]


def test_releases_go_from_the_last_claim_to_the_first_in_bounded_calls(held, writes, scripts):
    """Pushed to the front one by one, so the first claim is the first again."""
    names = [f"e{number}" for number in range(MAX_JOBS_A_CALL + 6)]
    start(held, *names)
    held.hand_back()
    writes.write_endings()
    assert [len(call) for call in scripts.released] == [MAX_JOBS_A_CALL, 6]
    assert [name for call in scripts.released for name in call] == names[::-1]


def test_a_refused_commit_is_tried_again_behind_the_others_and_then_left(held, writes, commits):
    """One job with damaged keys costs no other job its result."""
    start(held, "bad", "good")
    for name in ("bad", "good"):
        held.handle(Done(name, make_transcript()))
    commits.errors["bad"] = redis.ResponseError("WRONGTYPE")
    for _ in range(MAX_COMMIT_TRIES - 1):
        with pytest.raises(redis.ResponseError):
            writes.write_endings()
    assert [claim.execution_id for claim in held.claims] == ["bad"]
    assert commits.done == ["good"]
    writes.write_endings()
    assert len(held) == 0


def test_an_outage_counts_as_no_refusal(held, writes, commits):
    """However long it takes, the result is committed afterwards."""
    start(held, "a")
    held.handle(Done("a", make_transcript()))
    commits.errors["a"] = redis.ConnectionError("gone")
    for _ in range(2 * MAX_COMMIT_TRIES):
        with pytest.raises(redis.ConnectionError):
            writes.write_endings()
    commits.errors.clear()
    writes.write_endings()
    assert commits.done == ["a"]


def test_progress_is_stored_once_a_second_and_checkpoints_every_ten(held, writes, scripts):
    """The first write of a recording has both."""
    start(held, "a")
    (flight,) = held.flights
    writes.store_progress()
    held.handle(make_progress("a", windows=1))
    writes.store_progress()
    held.handle(make_progress("a", windows=2))
    writes.store_progress()
    assert scripts.stored == [("a", "30.000", True)]
    flight.progress.stored_at -= 1
    writes.store_progress()
    writes.store_progress()
    assert scripts.stored[1:] == [("a", "60.000", False)]
    held.handle(make_progress("a", windows=3))
    flight.progress.stored_at -= 10
    flight.progress.checkpointed_at -= 10
    writes.store_progress()
    assert scripts.stored[2:] == [("a", "90.000", True)]


def test_a_suspects_first_window_is_stored_at_once_and_clears_it(held, writes, scripts):
    """From then on it is written as any other recording."""
    start(held, "a", deaths=b"1")
    (flight,) = held.flights
    flight.mark_stored(with_checkpoint=False)
    held.handle(make_progress("a", windows=1))
    writes.store_progress()
    assert scripts.stored == [("a", "30.000", True)]
    assert not flight.is_suspect
    held.handle(make_progress("a", windows=2))
    writes.store_progress()
    assert len(scripts.stored) == 1


def test_progress_that_the_fence_refuses_gives_the_job_up(held, writes, scripts):
    """Another execution has it, and the engine is told to drop it."""
    start(held, "a")
    held.handle(make_progress("a"))
    scripts.is_ours = False
    writes.store_progress()
    assert len(held) == 0
    assert list(held._engine.cancelled) == ["a"]
