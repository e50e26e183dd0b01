"""What a worker says of itself, and what becomes an event: once, whoever notices."""

import signal
import time
from datetime import UTC, datetime

import pytest

from producer.archive.submission_log import SubmissionLog
from producer.batches.actions import cancel_jobs, retry_jobs
from producer.batches.views import note_batch
from producer.errors import DeviceLost, InvalidOptions, NoWorker
from producer.events import ALL_KINDS, read_events
from producer.fleet import farm_status, live_workers, pause, resume
from producer.keys import FACTS_KEY, LOST_KEY, METRICS_KEY, PAUSED_KEY, ROSTER_KEY
from producer.pausing import pause_worker, resume_worker
from producer.roster import _with_slow, read_roster, tell_of_lost
from producer.worker_records import WorkerRecord
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until
from worker.farm import farm_worker


def told(farm, *kinds):
    """Return (kind, worker) of the events of some kinds."""
    found = read_events(farm.connection, kinds=ALL_KINDS)
    return [(event.kind, event.worker) for event in found if event.kind in kinds]


def alive(farm):
    """Return the workers that have sent a heartbeat; one that is just born is RQ's record alone."""
    return [each for each in live_workers(farm.connection, farm.settings) if each.version]


def test_a_heartbeat_says_what_a_worker_is_and_has(farm):
    """Model, version, load, memory, the names of its recordings: one record, checked."""
    farm.configure(grace_s=0.0)
    farm.start()
    farm.submit(job("long", windows=400, window_s=0.05), job("bad", error="corrupt_audio"))
    (worker,) = wait_until(
        lambda: [each for each in alive(farm) if each.in_flight and each.last_error]
    )
    assert (worker.family, worker.model, worker.revision) == ("fake", "fake", "0")
    assert (worker.state, worker.in_flight, worker.capacity) == ("busy", 1, 8)
    assert worker.known_as == "thread"
    assert worker.version
    assert worker.resident_bytes > 1 << 20
    assert worker.recordings == ("fake:long?windows=400&window_s=0.05",)
    assert worker.last_error.code == "corrupt_audio"
    assert (worker.num_succeeded, worker.num_failed) == (0, 1)
    assert worker.marks == ()


def test_the_speed_is_of_the_work_in_hand(farm):
    """Audio seconds a second; a worker without work has none."""
    farm.configure(grace_s=0.0)
    farm.start()
    wait_until(lambda: alive(farm))
    assert alive(farm)[0].audio_s_per_s is None
    farm.submit(*(job(f"a{n}", windows=200, window_s=0.02) for n in range(4)))
    speed = wait_until(lambda: alive(farm)[0].audio_s_per_s)
    # Four recordings at once, a window of 30 s each 0.02 s at best.
    assert 0 < speed < 4 * 30 / 0.02


def test_start_drain_and_end_are_told_once(farm):
    """By the worker's own heartbeats."""
    worker = farm.start()
    (record,) = wait_until(lambda: alive(farm))
    worker.worker.drain()
    worker.wait()
    kinds = ("worker_started", "worker_draining", "worker_ended", "worker_lost")
    assert [kind for kind, _ in told(farm, *kinds)] == [
        "worker_started",
        "worker_draining",
        "worker_ended",
    ]
    assert {name for _, name in told(farm, *kinds)} == {record.name}
    assert read_roster(farm.connection, farm.settings).workers == []
    assert farm.connection.hlen(FACTS_KEY) == 0


def test_a_worker_whose_engine_breaks_is_lost_at_once(farm):
    """With the error's code; its lease need not run out."""
    engine = FakeEngine()
    worker = farm.start(engine)
    (record,) = wait_until(lambda: alive(farm))
    engine.break_down(DeviceLost("device", "went away"))
    assert worker.wait() == 1
    (event,) = read_events(farm.connection, kinds={"worker_lost", "worker_ended"})
    assert (event.kind, event.worker, event.code) == ("worker_lost", record.name, "device_lost")
    (lost,) = read_roster(farm.connection, farm.settings).workers
    assert (lost.state, lost.is_alive) == ("lost", False)


def test_more_queues_than_a_record_holds_end_no_worker(farm):
    """The first of them are said."""
    farm.configure(queues=tuple(f"queue-{n}" for n in range(300)))
    farm.start()
    (record,) = wait_until(lambda: alive(farm))
    assert 300 < len(record.queues) <= 1000


@pytest.mark.slow
def test_a_killed_worker_is_told_of_once_by_whoever_looks(farm):
    """Three peers and a monitor see it; it stays known for a day, and its name says which."""
    victim = farm.start_process()
    (record,) = wait_until(lambda: alive(farm))
    victim.signal(signal.SIGKILL)
    for _ in range(3):
        farm.start()
    wait_until(lambda: told(farm, "worker_lost"))
    assert tell_of_lost(farm.connection) == []
    wait_until(lambda: len(alive(farm)) == 3)
    assert told(farm, "worker_lost") == [("worker_lost", record.name)]
    (lost,) = [
        each for each in read_roster(farm.connection, farm.settings).workers if not each.is_alive
    ]
    assert (lost.name, lost.state, lost.marks) == (record.name, "lost", ("lost",))
    assert lost.lost_at_s
    assert farm.connection.hget(METRICS_KEY, "workers_lost") == b"1"


def test_a_worker_that_was_lost_may_come_back(farm):
    """A laptop that slept: it is heard again."""
    farm.start()
    (record,) = wait_until(lambda: alive(farm))
    farm.connection.zadd(ROSTER_KEY, {record.name: time.time() - 5})
    assert tell_of_lost(farm.connection) == [record.name]
    wait_until(lambda: told(farm, "worker_back"))
    assert told(farm, "worker_lost", "worker_back") == [
        ("worker_lost", record.name),
        ("worker_back", record.name),
    ]
    assert farm.connection.zcard(LOST_KEY) == 0


def test_a_paused_worker_finishes_what_it_has_and_claims_nothing_more(farm):
    """Its peers go on; a restart under the same name is paused as well; resume lets it claim."""
    engine = FakeEngine()
    farm.start(engine)
    (first,) = farm.submit(job("first", windows=30, window_s=0.02))
    wait_until(lambda: engine.in_flight and alive(farm))
    assert pause_worker(farm.connection, farm.settings, "thr") == "thread"
    assert pause_worker(farm.connection, farm.settings, alive(farm)[0].name) == "thread"
    (second,) = farm.submit(job("second"))
    assert farm.result(first).status == "succeeded"
    farm.start(FakeEngine())
    wait_until(lambda: len(alive(farm)) == 2)
    assert {worker.state for worker in alive(farm)} == {"paused"}
    assert farm.state(second) == "queued"
    assert resume_worker(farm.connection, farm.settings, "thread") == ("thread", True)
    assert farm.result(second).status == "succeeded"
    assert resume_worker(farm.connection, farm.settings, "thread") == ("thread", False)
    kinds = ("worker_paused", "worker_resumed")
    assert told(farm, *kinds) == [(kind, "thread") for kind in kinds]


def test_a_pause_ends_after_its_time(farm):
    """Told once, by the first claim after it."""
    farm.start()
    wait_until(lambda: alive(farm))
    pause_worker(farm.connection, farm.settings, "thread", 1)
    assert alive(farm)[0].paused_until_s
    (job_id,) = farm.submit(job("a"))
    assert farm.result(job_id).status == "succeeded"
    assert told(farm, "worker_resumed") == [("worker_resumed", "thread")]
    assert not alive(farm)[0].is_paused


def test_nobody_is_paused_by_a_name_that_nobody_has(farm):
    """Those that there are are named; without a worker there is nobody to ask."""
    for change in (pause_worker, resume_worker):
        with pytest.raises(NoWorker):
            change(farm.connection, farm.settings, "thread")
    farm.start()
    wait_until(lambda: alive(farm))
    for change in (pause_worker, resume_worker):
        with pytest.raises(InvalidOptions, match="alive are thread"):
            change(farm.connection, farm.settings, "nobody")


def test_the_farms_pause_is_told_once(farm):
    """However often it is asked for."""
    for _ in range(2):
        pause(farm.connection, 60)
    for _ in range(2):
        resume(farm.connection)
    assert [kind for kind, _ in told(farm, *ALL_KINDS)] == ["farm_paused", "farm_resumed"]


def test_hours_that_close_are_told_once_by_workers_with_the_same_hours(farm):
    """A whole day's window is open; the next day's has not begun."""
    hour = datetime.now(UTC).hour
    closed = f"{(hour + 3) % 24:02}:00-{(hour + 4) % 24:02}:00"
    farm.configure(active_hours=closed, timezone="UTC")
    for _ in range(3):
        farm.start()
    wait_until(lambda: len(alive(farm)) == 3)
    events = list(read_events(farm.connection, kinds={"hours_closed", "hours_opened"}))
    assert [event.kind for event in events] == ["hours_closed"]
    assert events[0].until.startswith(datetime.now(UTC).isoformat()[:4])
    assert {worker.state for worker in alive(farm)} == {"asleep"}
    assert alive(farm)[0].active_hours == f"{closed} UTC"


def test_a_batch_that_is_done_is_told_once_a_time(farm):
    """When its last file ends, failed or not; again when files were added or retried."""
    in_batch = {"batch": "night"}
    note_batch(farm.connection, farm.settings, "night")
    farm.start()
    jobs = [job(f"a{n}").model_copy(update=in_batch) for n in range(20)]
    bad = job("bad", error="corrupt_audio").model_copy(update=in_batch)
    for job_id in farm.submit(*jobs, bad):
        farm.result(job_id)
    wait_until(lambda: done(farm))
    assert done(farm) == [("night", 20, 1)]
    list(retry_jobs(farm.connection, farm.settings, [bad_id(farm)]))
    wait_until(lambda: len(done(farm)) == 2)
    assert done(farm) == [("night", 20, 1)] * 2


def test_a_batch_is_not_done_while_files_are_still_submitted_to_it(farm):
    """Workers may be faster than the archive is read; the end of the submission tells."""
    farm.start()
    log = SubmissionLog(farm.connection, farm.settings, "night")
    with log.until_the_end():
        for number in range(3):
            (job_id,) = farm.submit(job(f"a{number}").model_copy(update={"batch": "night"}))
            log.page_done()
            assert farm.result(job_id).status == "succeeded"
        assert done(farm) == []
    assert done(farm) == [("night", 3, 0)]
    # Submitting the same again ends nothing.
    with SubmissionLog(farm.connection, farm.settings, "night").until_the_end():
        pass
    assert done(farm) == [("night", 3, 0)]


def done(farm):
    events = read_events(farm.connection, kinds={"batch_done"})
    return [(event.batch, event.num_succeeded, event.num_failed) for event in events]


def bad_id(farm):
    (failed,) = [each for each in read_events(farm.connection) if each.status == "failed"][:1]
    return failed.job_id


HOSTILE = [
    b"",
    b"\xff",
    b"[]",
    b"[" * 100_000,
    b'{"capacity": -1}',
    b'{"capacity": 1e400}',
    b'{"recordings": ["' + b'", "'.join([b"x"] * 13) + b'"]}',
    b'{"model": "' + b"x" * 5000 + b'"}',
    b'{"rows": NaN}',
    b"x" * 70_000,
]


@pytest.mark.parametrize("document", HOSTILE)
def test_a_damaged_record_is_shown_as_damaged(farm, document):
    """By its name; the others are as they are, and the worker's own heartbeat mends it."""
    farm.start()
    (record,) = wait_until(lambda: alive(farm))
    farm.connection.hset(FACTS_KEY, "odd", document)
    farm.connection.zadd(ROSTER_KEY, {"odd": 4e9})
    workers = {each.name: each for each in read_roster(farm.connection, farm.settings).workers}
    assert workers["odd"].marks == (("damaged",) if document else ())
    assert workers[record.name].marks == ()
    farm.connection.delete(FACTS_KEY, ROSTER_KEY)


@pytest.mark.parametrize("key", [FACTS_KEY, ROSTER_KEY, LOST_KEY, PAUSED_KEY, METRICS_KEY])
def test_a_key_of_another_type_stops_no_worker(farm, key):
    """What monitors read may be anything: work goes on, and who looks gets an answer."""
    farm.connection.set(key, "not ours", ex=60)
    farm.start()
    (job_id,) = farm.submit(job("a"))
    assert farm.result(job_id).status == "succeeded"
    wait_until(lambda: live_workers(farm.connection, farm.settings))
    tell_of_lost(farm.connection)
    farm.connection.delete(key)


def test_a_slow_worker_is_told_from_its_peers_and_by_its_bench():
    """Full ones are compared; one that is short of recordings is not slow."""

    def record(name, speed, rows=8.0, **fields):
        facts = {"model": "base", "slots": 8, "rows": rows, "audio_s_per_s": speed, **fields}
        return WorkerRecord(name=name, **facts)

    peers = [record(f"w{n}", 40.0) for n in range(4)]
    found = _with_slow([*peers, record("sick", 15.0), record("idle", 1.0, rows=1.0)])
    assert [each.name for each in found if each.marks] == ["sick"]
    alone = [
        record("a", 15.0, bench_audio_s_per_s=40.0),
        record("b", 25.0, bench_audio_s_per_s=40.0),
    ]
    assert [each.name for each in _with_slow(alone) if each.marks] == ["a"]
    assert not [each for each in _with_slow([record("a", 1.0), record("b", 40.0)]) if each.marks]


def test_a_cancelled_job_of_a_model_that_nobody_has_is_not_counted_for_ever(farm, monkeypatch):
    """Nobody claims from its queue; the tidying drops what stands there in vain."""
    monkeypatch.setattr(farm_worker, "TIDY_EVERY_S", 0.1)
    cancelled, waits = (
        farm.submit(job(name).model_copy(update={"model": "another"})) for name in ("a", "b")
    )
    list(cancel_jobs(farm.connection, farm.settings, cancelled))
    farm.start()
    wait_until(
        lambda: farm_status(farm.connection, farm.settings).queued_by_model == {"another": 1}
    )
    assert farm.state(waits[0]) == "queued"
