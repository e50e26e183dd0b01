"""The way of a held job from its claim to what is written, without server and engine."""

import pytest

from producer.errors import CorruptAudio, DeviceLost, Internal, InvalidModel, SourceUnreachable
from tests.stage.claims import NotingEngine, make_claim, make_progress, make_transcript
from tests.stage.farm import make_settings, wait_until
from worker.engine.messages import Done, Failed, Opened
from worker.farm import held_jobs
from worker.farm.endings import Outcome
from worker.farm.held_jobs import HeldJobs
from worker.farm.in_flight import InFlight, Phase
from worker.farm.scripts import Release

URL = "redis://nobody.example"


@pytest.fixture
def engine():
    """Return an engine that does nothing."""
    return NotingEngine()


@pytest.fixture
def held(engine):
    """Return an empty `HeldJobs` over that engine."""
    return HeldJobs(engine, make_settings(URL), "w")


def start(held, *names, draining=False, checked=True):
    for name in names:
        held.start(make_claim(name), None, draining=draining)
    if checked:
        held.submit_checked()


def codes(held):
    return [ending.result.error.code for ending in held.endings]


def test_a_started_job_reaches_the_engine_once_its_path_is_checked(held, engine):
    """Until then it is at work, but the engine does not know it."""
    start(held, "a", checked=False)
    assert [flight.phase for flight in held.flights] == [Phase.CHECKING_SOURCE]
    assert engine.submitted == []
    held.submit_checked()
    assert [flight.phase for flight in held.flights] == [Phase.IN_ENGINE]
    (ticket,) = engine.submitted
    assert (ticket.execution_id, ticket.job_id) == ("a", "job-a")
    assert ticket.job.source == "/archive/a.wav"


def test_a_transcript_becomes_an_outcome_and_the_lease_stays_until_it_is_forgotten(held):
    """A heartbeat in between must still renew it."""
    start(held, "a")
    held.handle(Done("a", make_transcript()))
    assert held.flights == []
    (outcome,) = held.endings
    assert (outcome.result.text, outcome.worker) == ("text", "w")
    assert [claim.job_id for claim in held.claims] == ["job-a"]
    held.forget("a")
    assert (len(held), held.endings) == (0, [])


def test_progress_is_kept_with_the_recording(held):
    """The last report is what the server is still to get."""
    start(held, "a")
    held.handle(make_progress("a", windows=1))
    held.handle(make_progress("a", windows=2))
    (flight,) = held.flights
    assert flight.progress.last.seconds_done == 60.0
    assert not flight.progress.is_stored


def test_a_permanent_error_ends_a_job_and_a_transient_one_gives_it_back(held):
    """The retry policy decides; the job's neighbour goes on."""
    start(held, "a", "b", "c")
    held.handle(Failed("a", CorruptAudio("audio", "breaks off")))
    held.handle(Failed("b", SourceUnreachable("share", "must answer")))
    failed, released = held.endings
    assert failed.result.error.code == "corrupt_audio"
    assert isinstance(released, Release)
    assert released.delay_s > 0
    assert [flight.claim.execution_id for flight in held.flights] == ["c"]


def test_events_of_jobs_that_are_not_in_flight_are_ignored(held):
    """They were lost, forgotten or handed back while the engine worked."""
    start(held, "ended", "lost")
    held.handle(Failed("ended", CorruptAudio("audio", "breaks off")))
    held.lose("lost")
    for name in ("ended", "lost", "unknown"):
        held.handle(Done(name, make_transcript()))
        held.handle(make_progress(name))
    assert codes(held) == ["corrupt_audio"]
    assert len(held) == 1


def test_a_job_that_cannot_be_read_is_refused_and_never_at_work(held, engine):
    """It has a lease all the same: the failure must be written."""
    held.start(make_claim("a", data=b"{"), None, draining=False)
    held.submit_checked()
    assert codes(held) == ["job_refused"]
    assert [claim.execution_id for claim in held.claims] == ["a"]
    assert engine.submitted == []


def test_a_job_of_a_dead_worker_goes_back_with_a_try_spent(held, engine):
    """The first death costs no delay."""
    held.start(make_claim("a", lost_worker=b"mini-3", deaths=b"1"), None, draining=False)
    held.submit_checked()
    (release,) = held.endings
    assert (release.delay_s, release.at_front) == (0.0, True)
    assert "worker_lost" in release.record
    assert engine.submitted == []


def test_when_the_device_is_lost_every_recording_is_tried_again_and_none_is_a_suspect(held):
    """The GPU failed under all of them; the worker ends and starts again with a fresh one."""
    start(held, "a", "b")
    held.break_down(DeviceLost("device", "must finish what it was given", "timeout"))
    assert [(release.died, "device_lost" in release.record) for release in held.endings] == [
        (False, True),
        (False, True),
    ]


def test_a_job_that_reaches_a_draining_worker_goes_back_with_no_try_spent(held, engine):
    """A claim that was adopted late, for example."""
    start(held, "a", draining=True)
    (release,) = held.endings
    assert (release.execution_id, release.record) == ("a", "")
    assert engine.submitted == []


def test_cancelling_by_job_or_execution_id_asks_the_engine_once(held, engine):
    """The job ends when the engine answers; its neighbours are not touched."""
    start(held, "a", "b", "c")
    held.cancel("job-a", "was stopped")
    held.cancel("b", "was cancelled")
    held.cancel("a", "was cancelled")
    assert {key: error.constraint for key, error in engine.cancelled.items()} == {
        "a": "was stopped",
        "b": "was cancelled",
    }
    assert held.endings == []
    held.handle(Failed("a", engine.cancelled["a"]))
    assert codes(held) == ["cancelled"]


def test_cancelling_before_the_engine_has_the_recording_ends_it_at_once(held, engine):
    """The answer of the path check comes too late to start it."""
    start(held, "a", checked=False)
    held.cancel("job-a", "was stopped")
    assert codes(held) == ["cancelled"]
    held.submit_checked()
    assert (engine.submitted, engine.cancelled) == ([], {})


def test_a_lost_job_is_dropped_by_the_engine_and_leaves_nothing_to_write(held, engine):
    """It belongs to another execution now, whatever we know about it."""
    start(held, "a", "b")
    held.handle(Done("b", make_transcript()))
    held.lose("a")
    held.lose("b")
    held.lose("unknown")
    assert list(engine.cancelled) == ["a"]
    assert engine.cancelled["a"].code == "worker_lost"
    assert (len(held), held.endings) == (0, [])


def test_a_job_over_its_time_is_cancelled_with_the_limit(held, engine):
    """The RQ job asked for seconds; it is a timeout that is not tried again."""
    held.start(make_claim("a", timeout=b"5"), None, draining=False)
    held.submit_checked()
    held.enforce_deadlines()
    assert engine.cancelled == {}
    held.flights[0].started_at -= 600  # the line before a reading thread
    held.handle(Opened("a", 1.0))
    held.enforce_deadlines()
    assert engine.cancelled == {}
    held.flights[0].opened_at -= 6
    held.enforce_deadlines()
    assert engine.cancelled["a"].code == "job_timeout"
    assert "5 s" in engine.cancelled["a"].constraint


def test_a_path_check_without_an_answer_makes_the_source_unreachable(held):
    """The share may be back for the next try."""
    start(held, "a", checked=False)
    held.flights[0].phase_since -= held_jobs.SOURCE_CHECK_S + 1
    held.enforce_deadlines()
    (release,) = held.endings
    assert "source_unreachable" in release.record


def test_an_engine_that_does_not_drop_a_cancelled_job_is_broken(held):
    """The worker ends for its supervisor to start it again."""
    start(held, "a")
    held.cancel("a", "was stopped")
    held.enforce_deadlines()
    held.flights[0].phase_since -= held_jobs.CANCEL_ANSWER_S + 1
    with pytest.raises(Internal, match="must drop a job within 60 s"):
        held.enforce_deadlines()


def test_handing_back_returns_all_that_is_at_work_and_keeps_what_has_ended(held):
    """The checkpoint goes with it; no try is spent."""
    start(held, "a", "b")
    held.handle(Done("a", make_transcript()))
    held.handle(make_progress("b"))
    held.hand_back()
    outcome, release = held.endings
    assert isinstance(outcome, Outcome)
    assert (release.execution_id, release.record, release.died) == ("b", "", False)
    assert "window 0" in release.checkpoint
    held.hand_back()
    assert held.endings == [outcome, release]


def test_a_broken_engine_makes_suspects_of_all_that_is_at_work(held):
    """One of them may be what broke it."""
    start(held, "a", "b")
    held.break_down(InvalidModel("engine", "the device is gone"))
    assert [(release.execution_id, release.died) for release in held.endings] == [
        ("a", True),
        ("b", True),
    ]
    assert all("the device is gone" in release.record for release in held.endings)


def test_what_a_jobs_data_raises_ends_that_job_alone(held, engine, monkeypatch):
    """At its claim, on its way into the engine, with its progress, at its end, at the drain."""

    def boom(*_, **__):
        raise ZeroDivisionError("caf\udce9")

    start(held, "engine", "event", "deadline", "drain", "sound")
    for name, module, function in (
        ("claim", held_jobs, "read_flight"),
        ("event", held_jobs, "success"),
        ("deadline", InFlight, "limit_s"),
        ("drain", held_jobs, "hand_back"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, function, boom)
            if name == "claim":
                start(held, "claim", checked=False)
            elif name == "event":
                held.handle(Done("event", make_transcript()))
            elif name == "deadline":
                held.enforce_deadlines()
            else:
                held.hand_back()
    assert held.flights == []
    assert set(codes(held)) == {"internal"}
    assert "sound" in engine.cancelled
    assert "ZeroDivisionError: caf?" in held.endings[0].result.error.message
    assert all(ending.document for ending in held.endings)


def test_an_engine_that_takes_a_job_badly_costs_only_that_job(held, engine, monkeypatch):
    """The worker, and the jobs behind it, go on."""
    submit = engine.submit

    def choosy(ticket):
        if ticket.execution_id == "a":
            raise ValueError("not this one")
        submit(ticket)

    monkeypatch.setattr(engine, "submit", choosy)
    start(held, "a", "b")
    assert codes(held) == ["internal"]
    assert [flight.claim.execution_id for flight in held.flights] == ["b"]


def test_a_path_outside_the_roots_is_a_failure(engine, tmp_path):
    """The check runs in a thread of its own; its error is the job's."""
    settings = make_settings(URL, audio={"roots": (tmp_path,)})
    held = HeldJobs(engine, settings, "w")
    start(held, "a")

    def ended():
        held.submit_checked()
        return held.endings

    wait_until(ended)
    assert codes(held) == ["source_forbidden"]
    assert engine.submitted == []


def test_what_no_thread_has_opened_is_handed_back_without_a_try(held, engine):
    """In the check of its path or in the engine's line; the one that is being read stays."""
    start(held, "open", "line")
    held.handle(Opened("open", 60.0))
    start(held, "check", checked=False)
    held.hand_back_unopened()
    assert [ending.execution_id for ending in held.endings] == ["line", "check"]
    assert all(isinstance(ending, Release) and not ending.record for ending in held.endings)
    assert list(engine.cancelled) == ["line"]
    assert [flight.claim.execution_id for flight in held.flights] == ["open"]


def test_a_long_file_on_a_slow_share_has_the_time_that_its_length_asks_for(held, engine):
    """Twelve hours of audio; reading alone takes longer than the least deadline."""
    start(held, "a")
    held.handle(Opened("a", 43_200.0))
    held.flights[0].opened_at -= 3_600
    held.enforce_deadlines()
    assert engine.cancelled == {}
