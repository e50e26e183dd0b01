"""When progress and endings are written, in which order, and what a refusal costs; no server."""

import pytest
import redis

from producer.errors import SourceUnreachable
from producer.server_replies import NOT_NOW
from producer.settings import QueueSettings, Settings
from tests.stage.claims import NotingEngine, make_claim, make_progress, make_transcript
from tests.stage.farm import make_settings
from worker.engine.messages import Done, Failed
from worker.farm import fenced_writes
from worker.farm.commit import CommitVerdict
from worker.farm.fenced_writes import FencedWrites
from worker.farm.held_jobs import HeldJobs
from worker.farm.scripts import MAX_JOBS_A_CALL
from worker.farm.self_report import SelfReport


class NotingScripts:
    """Takes progress and releases; all is ours unless `is_ours` says otherwise."""

    def __init__(self):
        self.is_ours = True
        self.stored, self.released, self.aside = [], [], []
        self.errors = {}

    def progress(self, claim, fields, checkpoint):
        if claim.execution_id in self.errors:
            raise self.errors[claim.execution_id]
        self.stored.append((claim.execution_id, fields["seconds_done"], checkpoint != ""))
        return self.is_ours

    def set_aside(self, job):
        if job.execution_id in self.errors:
            raise self.errors[job.execution_id]
        self.aside.append(job.execution_id)
        return True

    def release(self, jobs):
        for job in jobs:
            if job.execution_id in self.errors:
                raise self.errors[job.execution_id]
        self.released.append([job.execution_id for job in jobs])
        return [job.execution_id for job in jobs]


class Commits:
    """Stands for `commit`: notes what is committed, raises what the test says for a name."""

    def __init__(self):
        self.done, self.errors, self.outcomes = [], {}, {}

    def __call__(self, _connection, outcome):
        name = outcome.claim.execution_id
        if self.errors.get(name):
            error = (
                self.errors[name].pop(0)
                if isinstance(self.errors[name], list)
                else self.errors[name]
            )
            raise error
        self.done.append(name)
        self.outcomes[name] = outcome
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
    report = SelfReport(NotingEngine(), Settings(), ["default"])
    return FencedWrites(None, scripts, held, "w", QueueSettings(), report=report)


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


REFUSED = redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


def test_an_ending_that_cannot_be_stored_is_stored_more_plainly(held, writes, commits):
    """The text first without the job's metadata, then the bare failure; the others lose nothing."""
    start(held, "text", "bare", "good", kwargs={"metadata": {"a": 1}})
    for name in ("text", "bare", "good"):
        held.handle(Done(name, make_transcript()))
    commits.errors = {"text": [ValueError("surrogates")], "bare": [REFUSED, ValueError("again")]}
    writes.write_endings()
    assert commits.done == ["text", "bare", "good"]
    assert len(held) == 0
    text, bare, good = (commits.outcomes[name].result for name in ("text", "bare", "good"))
    assert (text.text, text.metadata) == ("text", {})
    assert bare.error.code == "internal"
    assert good.metadata == {"a": 1}


def test_a_job_that_cannot_be_ended_is_set_aside(held, writes, commits, scripts):
    """Committed or given back: nobody claims it again, and the others are written."""
    start(held, "bad", "worse", "good", "away", "gone")
    for name in ("bad", "worse", "good"):
        held.handle(Done(name, make_transcript()))
    held.hand_back()
    commits.errors = {"bad": REFUSED, "worse": REFUSED}
    scripts.errors = {"away": REFUSED, "worse": REFUSED}
    writes.write_endings()
    assert commits.done == ["good"]
    assert scripts.aside == ["bad"]
    assert scripts.released == [["gone"]]
    assert len(held) == 0


def test_progress_that_the_server_does_not_take_costs_the_job_nothing(held, writes, scripts):
    """It goes on without, and its neighbour's progress is stored."""
    start(held, "a", "b")
    for name in ("a", "b"):
        held.handle(make_progress(name))
    scripts.errors["a"] = REFUSED
    writes.store_progress()
    assert [name for name, *_ in scripts.stored] == ["b"]
    assert len(held.flights) == 2


@pytest.mark.parametrize("code", sorted(NOT_NOW))
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_server_that_says_not_now_costs_no_result(held, writes, commits, code, in_pipeline):
    """However often it says so, and whatever class redis-py makes of it."""
    start(held, "a")
    held.handle(Done("a", make_transcript()))
    command = 'Command # 1 (SET a {"text": "ERR"}) of pipeline caused error: '
    reply = redis.ResponseError((command if in_pipeline else "") + f"{code} try later")
    commits.errors["a"] = reply
    for _ in range(20):
        with pytest.raises(redis.ResponseError):
            writes.write_endings()
    commits.errors.clear()
    writes.write_endings()
    assert commits.outcomes["a"].result.text == "text"


def test_an_outage_counts_as_no_refusal(held, writes, commits):
    """However long it takes, the result is committed afterwards."""
    start(held, "a")
    held.handle(Done("a", make_transcript()))
    commits.errors["a"] = redis.ConnectionError("gone")
    for _ in range(20):
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
