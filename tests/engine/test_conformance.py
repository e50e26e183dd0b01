"""What the farm worker may rely on, asked of the real engine and of both that stand in for it.

A farm test over a fake is worth something only while the fake keeps the promises of the protocol
`worker.engine.messages.Engine` exactly as the real engine does.
"""

import threading
import time
from collections import Counter

import pytest

from producer.errors import Cancelled, Internal, ScribefarmError
from tests.stage import archive_engine
from tests.stage.engines import ENGINES
from worker.engine.messages import Done, Failed, Opened, Progress, Ticket

DROPPED = Cancelled("job", "was cancelled")
WAIT_S = 60.0


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Return a function that starts an engine of a kind with its recordings; all are stopped."""
    monkeypatch.setattr(archive_engine, "WORK_S", 0.0)
    stages = []

    def run(kind, *, busy=False):
        stages.append(ENGINES[kind](tmp_path, busy=busy))
        return stages[-1]

    yield run
    for stage in stages:
        stage.engine.stop()


@pytest.fixture(params=ENGINES)
def stage(request, start):
    """Return one engine after the other, with a long recording that is done soon."""
    return start(request.param)


@pytest.fixture(params=ENGINES)
def busy(request, start):
    """Return one engine after the other, with a long recording that takes seconds."""
    return start(request.param, busy=True)


def ticket(job, name, checkpoint=None):
    return Ticket(name, f"job-{name}", job, checkpoint)


def collect(engine, num_endings):
    """Return what the engine says until `num_endings` recordings have ended, and a moment more.

    Without `Opened`, of which a test of its own is below.
    """
    events = collect_all(engine, num_endings)
    return [event for event in events if not isinstance(event, Opened)]


def collect_all(engine, num_endings):
    events, deadline = [], time.monotonic() + WAIT_S
    while len(endings(events)) < num_endings:
        assert time.monotonic() < deadline, f"only {events}"
        events += engine.poll(0.2)
    return events + engine.poll(0.2)


def endings(events):
    """Return the events after which nothing may come, of each recording."""
    return [event for event in events if isinstance(event, Done | Failed)]


def test_every_recording_ends_exactly_once_and_under_its_own_name(stage):
    """As many as there is room for, good and bad ones, handed over by several threads at once."""
    bad, code = stage.bad
    jobs = {f"good-{number}": job for number, job in enumerate(stage.short[:3])} | {"bad": bad}
    assert stage.engine.capacity >= len(jobs)
    tickets = [ticket(job, name) for name, job in jobs.items()]
    threads = [threading.Thread(target=stage.engine.submit, args=(each,)) for each in tickets]
    for thread in threads:
        thread.start()
    ended = endings(collect(stage.engine, len(jobs)))
    assert Counter(event.execution_id for event in ended) == dict.fromkeys(jobs, 1)
    done = {event.execution_id: event for event in ended}
    assert isinstance(done["bad"], Failed)
    assert isinstance(done["bad"].error, ScribefarmError)
    assert done["bad"].error.code == code
    transcripts = {name: event.transcript for name, event in done.items() if name != "bad"}
    assert all(each.model == stage.engine.model for each in transcripts.values())
    assert all(each.job_id == f"job-{name}" for name, each in transcripts.items())
    assert all(each.audio.duration_s > 0 for each in transcripts.values())
    for each in transcripts.values():
        assert "".join(segment.text for segment in each.segments) == each.text


def test_a_recording_is_opened_once_before_all_else(stage):
    """With it the job's clock starts; one whose file cannot be read may end without it."""
    for number, job in enumerate(stage.short[:2]):
        stage.engine.submit(ticket(job, f"short-{number}"))
    events = collect_all(stage.engine, 2)
    for name in ("short-0", "short-1"):
        said = [event for event in events if event.execution_id == name]
        assert [isinstance(event, Opened) for event in said] == [True] + [False] * (len(said) - 1)
    assert stage.engine.can_read
    assert stage.engine.num_lost_threads == 0


def test_the_same_recording_gives_the_same_text_each_time(stage):
    """Also to two executions at once: a text is a function of the job alone."""
    for name in ("first", "second"):
        stage.engine.submit(ticket(stage.short[0], name))
    first, second = (event.transcript for event in endings(collect(stage.engine, 2)))
    assert first.text == second.text != ""
    said = [[(s.start, s.end, s.tokens) for s in each.segments] for each in (first, second)]
    assert said[0] == said[1]


def test_progress_comes_in_order_and_only_before_the_end(stage):
    """A long recording says how far it is; a short one need not."""
    stage.engine.submit(ticket(stage.long, "long"))
    *progress, done = collect(stage.engine, 1)
    assert isinstance(done, Done)
    assert {type(event) for event in progress} <= {Progress}
    assert bool(progress) is stage.has_progress
    seconds = [event.seconds_done for event in progress]
    assert seconds == sorted(seconds)
    assert all(event.execution_id == "long" for event in progress)
    assert all(0 < event.seconds_done <= event.duration_s for event in progress)
    assert all(event.duration_s == done.transcript.audio.duration_s for event in progress)


def test_a_recording_resumed_from_any_checkpoint_ends_with_the_same_transcript(stage):
    """Whatever worker wrote it; what was done before is not done again."""
    stage.engine.submit(ticket(stage.long, "whole"))
    *progress, whole = collect(stage.engine, 1)
    for number, stop in enumerate(progress):
        stage.engine.submit(ticket(stage.long, f"resumed-{number}", stop.checkpoint))
        *rest, resumed = collect(stage.engine, 1)
        assert resumed.transcript.text == whole.transcript.text
        assert resumed.transcript.segments == whole.transcript.segments
        assert all(event.seconds_done > stop.seconds_done for event in rest)
        assert resumed.transcript.timing.windows < whole.transcript.timing.windows


def test_a_cancelled_recording_ends_once_with_the_error_given_and_the_others_go_on(busy):
    """Right after it was handed over, and in the middle of its work."""
    engine = busy.engine
    for name in ("at once", "later"):
        engine.submit(ticket(busy.long, name))
    engine.submit(ticket(busy.short[0], "short"))
    engine.cancel("at once", DROPPED)
    events = engine.poll(0.1)
    while busy.has_progress and not any(isinstance(event, Progress) for event in events):
        events += engine.poll(WAIT_S)
    engine.cancel("later", DROPPED)
    events += collect(engine, 3 - len(endings(events)))
    ended = {event.execution_id: event for event in endings(events)}
    assert len(endings(events)) == len(ended) == 3
    assert isinstance(ended["short"], Done)
    for name in ("at once", "later"):
        assert isinstance(ended[name], Failed)
        assert ended[name].error is DROPPED


def test_cancelling_what_is_done_or_unknown_says_nothing(stage):
    """And is not held against a later recording under that name."""
    engine = stage.engine
    engine.submit(ticket(stage.short[0], "done"))
    collect(engine, 1)
    for name in ("done", "unknown"):
        engine.cancel(name, DROPPED)
    assert engine.poll(0.3) == []
    for name in ("done", "unknown"):
        engine.submit(ticket(stage.short[0], name))
    assert {type(event) for event in endings(collect(engine, 2))} == {Done}


def test_poll_returns_at_the_first_event_or_empty_when_its_time_is_over(stage):
    """The farm's heart beats between two polls: neither may be late."""
    started = time.monotonic()
    assert stage.engine.poll(0.2) == []
    assert 0.15 < time.monotonic() - started < 2
    started = time.monotonic()
    assert stage.engine.poll(0.0) == []
    assert time.monotonic() - started < 1
    stage.engine.submit(ticket(stage.short[0], "short"))
    events = stage.engine.poll(WAIT_S)
    assert events
    assert time.monotonic() - started < WAIT_S / 2


def engine_threads():
    """Return the threads that run, but for NumPy's: all engines of a process share those."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("numpy")}


def test_stopping_gives_up_all_work_without_events_and_ends_the_threads(start, wait_until):
    """A stopped engine is silent: its recordings belong to somebody else soon."""
    for kind in ENGINES:
        before = engine_threads()
        stage = start(kind, busy=True)
        for name in ("first", "second"):
            stage.engine.submit(ticket(stage.long, name))
        stage.engine.poll(0.1)
        stage.engine.stop()
        assert endings(stage.engine.poll(0.7)) == [], kind
        wait_until(lambda before=before: engine_threads() <= before)


@pytest.mark.parametrize("busy", ["fake", "real"], indirect=True)
def test_a_broken_engine_says_so_at_every_poll_once_its_events_are_told(busy):
    """A typed error, not an ending of some job: the farm gives back what it holds."""
    engine = busy.engine
    engine.submit(ticket(busy.short[0], "short"))
    (done,) = endings(collect(engine, 1))
    engine.submit(ticket(busy.long, "long"))
    busy.break_down(Internal("device", "must work", "a defect"))
    for _ in range(2):
        with pytest.raises(Internal, match="a defect"):
            assert endings(collect(engine, 1)) == []
    assert isinstance(done, Done)
