"""One odd entry, whoever wrote it, costs a batch no other and no command its end."""

import json
import zlib

import pytest

from producer.batches.actions import cancel_batch
from producer.batches.export import Layout, export_batch
from producer.batches.report import group_failures, make_report
from producer.batches.views import view_batch
from producer.batches.watching import batch_status
from producer.errors import Unreadable
from producer.events import ALL_KINDS, Event, read_events
from producer.keys import EVENTS_KEY, batch_key, job_key, progress_key, result_key
from producer.queue import read_result, submit
from producer.result import dump_result, parse_result
from producer.waiting import wait_for_results
from tests.producer.known_jobs import job, jobs
from tests.stage.claims import make_transcript

DEEP = b"[" * 5000
ODD_RESULTS = [
    b'{"schema": 2, "status": "succeeded", "form": "another"}',
    b'{"schema": 1, "status": "succeeded"',
    b'{"schema": 1, "status": "half done", "job_id": "x"}',
    b'{"metadata": ' + DEEP,
    b"\xff\xfe",
    b"[]",
    b'"text"',
]


@pytest.fixture
def batch(connection, settings):
    """Return the ids of a batch's three jobs, all done; the tests damage the second."""
    named = [job(number, batch="b", name=f"{number}.wav") for number in range(3)]
    job_ids = [each.job_id for each in submit(connection, settings, named)]
    for job_id in job_ids:
        fields = {"status": "finished", "code": "", "audio_s": "1.0", "num_flagged": "0"}
        connection.hset(job_key(job_id), mapping=fields)
        document = dump_result(make_transcript().model_copy(update={"job_id": job_id}))
        connection.set(result_key(job_id), document, ex=60)
    return job_ids


@pytest.mark.parametrize("stored", ODD_RESULTS)
def test_a_result_that_this_version_cannot_read_is_a_problem_of_one_file(
    connection, batch, stored, tmp_path
):
    """Written at once, followed, waited for, or asked for alone."""
    connection.set(result_key(batch[1]), stored, ex=60)
    with pytest.raises(Unreadable):
        parse_result(stored)
    for follow in (False, True):
        layout = Layout(tmp_path / str(follow), ("txt",))
        exported = {
            each.name: each for each in export_batch(connection, "b", layout, follow=follow)
        }
        assert [exported[f"{n}.wav"].status for n in range(3)] == [
            "written",
            "problem",
            "written",
        ]
        assert exported["1.wav"].error.code == "unreadable"
    assert read_result(connection, batch[1]).error.code == "unreadable"


def test_a_newer_versions_result_asks_for_an_update():
    """The schema is named."""
    with pytest.raises(Unreadable, match=r"newer scribefarm.*got 2"):
        parse_result(ODD_RESULTS[0])


def test_a_result_that_names_another_job_is_refused(connection, batch):
    """It would be another recording's text."""
    connection.set(result_key(batch[1]), connection.get(result_key(batch[0])), ex=60)
    results = {each.job_id: each for each in wait_for_results(connection, batch)}
    assert results[batch[1]].error.message.startswith("result: must name its own job")
    assert results[batch[0]].status == results[batch[2]].status == "succeeded"


def test_a_result_key_of_another_type_is_waited_for_by_nobody(connection, batch):
    """The job has ended; its result does not come any more."""
    connection.delete(result_key(batch[1]))
    connection.lpush(result_key(batch[1]), "x")
    connection.expire(result_key(batch[1]), 60)
    results = {each.job_id: each for each in wait_for_results(connection, batch, 5)}
    assert results[batch[1]].error.code == "unreadable"
    assert len(results) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio_s", "long"),
        ("audio_s", "nan"),
        ("audio_s", "1e999"),
        ("num_flagged", "-3"),
        ("num_flagged", "\xff"),
        ("worker_name", b"\xff\xfe"),
        ("code", b"\xff"),
        ("status", b"\xff"),
        ("started_at", "0000-99-99T99:99:99Z"),
        ("ended_at", b"\xff"),
        ("enqueued_at", "1"),
    ],
)
def test_a_damaged_field_takes_no_view_down(connection, settings, batch, field, value):
    """It counts as absent."""
    connection.hset(job_key(batch[1]), field, value)
    connection.hset(job_key(batch[2]), "status", "started")
    connection.hset(progress_key(batch[2]), mapping={"duration_s": value, "seconds_done": "x"})
    connection.expire(progress_key(batch[2]), 60)
    assert batch_status(connection, settings, "b").counts.total == 3
    assert make_report(connection, "b").counts.total == 3


def test_a_job_key_of_another_type_is_a_lost_file(connection, settings, batch):
    """The others are seen, cancelled, and submitted again."""
    connection.delete(job_key(batch[1]), result_key(batch[1]))
    connection.set(job_key(batch[1]), "no hash", ex=60)
    states = {view.job_id: view.state for view in view_batch(connection, "b")}
    assert [states[job_id] for job_id in batch] == ["succeeded", "lost", "succeeded"]
    assert group_failures(connection, view_batch(connection, "b")) == []
    cancel_batch(connection, settings, "b")
    again = submit(connection, settings, jobs(3, batch="b"))
    assert [each.is_new for each in again] == [False, True, False]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"source": 3, "metadata": "text"},
        {"source": "a", "metadata": ["list"], "batch": ["list"]},
        {"source": "caf\udce9", "metadata": {"a": "\udce9"}, "batch": "\udce9"},
        {"source": "a" * 100_000, "metadata": {"a": 1}},
    ],
)
def test_one_odd_job_leaves_no_other_uncancelled(connection, settings, kwargs):
    """Its data is another program's."""
    job_ids = [each.job_id for each in submit(connection, settings, jobs(3, batch="b"))]
    data = zlib.compress(json.dumps(["f", None, [], kwargs]).encode())
    connection.hset(job_key(job_ids[1]), "data", data)
    done = cancel_batch(connection, settings, "b")
    assert {each.job_id for each in done} == set(job_ids)
    assert read_result(connection, job_ids[1]).error.code == "cancelled"


@pytest.mark.parametrize("data", [b"", DEEP, b"\xff", zlib.compress(b"0" * 700_000_000)])
def test_data_that_is_no_job_is_cancelled_like_any_other(connection, settings, data):
    """A bomb is not unpacked."""
    job_ids = [each.job_id for each in submit(connection, settings, jobs(2, batch="b"))]
    connection.hset(job_key(job_ids[0]), "data", data)
    assert len(cancel_batch(connection, settings, "b")) == 2


def test_an_odd_event_is_skipped_and_told(connection, batch):
    """The events behind it are read."""
    sound = {"job_id": "a", "status": "succeeded"}
    odd = [
        {"x": "y"},
        {"job_id": b"\xff", "status": "failed"},
        {"job_id": "a", "status": "half done"},
        {"job_id": "a", "status": "failed", "kind": "of a later version"},
        {"job_id": "a", "status": ""},
    ]
    for entry in (sound, *odd, sound):
        connection.xadd(EVENTS_KEY, entry)
    told = []
    assert len(list(read_events(connection, on_odd=told.append))) == 2
    assert len(told) == len(odd)


def test_a_job_that_was_taken_over_is_an_event_for_those_who_ask(connection):
    """Its status is empty: it has not ended."""
    fields = {"kind": "job_taken_over", "job_id": "a", "status": "", "worker": "dead"}
    connection.xadd(EVENTS_KEY, fields)
    assert list(read_events(connection)) == []
    (event,) = read_events(connection, kinds=ALL_KINDS)
    assert (event.kind, event.worker, event.status) == ("job_taken_over", "dead", "")
    assert Event.model_validate_json(event.to_json()) == event


def test_the_commands_say_which_entry_is_odd(connection, batch, scribefarm, tmp_path):
    """`result`, `results` and `events` name it on stderr and go on."""
    connection.set(result_key(batch[1]), ODD_RESULTS[0], ex=60)
    connection.xadd(EVENTS_KEY, {"x": "y"})
    connection.xadd(EVENTS_KEY, {"job_id": "a", "status": "succeeded"})
    asked = scribefarm("result", batch[1])
    assert asked.returncode == 1
    assert "unreadable" in asked.stderr
    written = scribefarm("results", "b", "-o", tmp_path / "out")
    assert "newer scribefarm" in written.stderr
    assert len(written.stdout.splitlines()) == 2
    events = scribefarm("events")
    assert len(events.stdout.splitlines()) == 1
    assert "error [unreadable] event" in events.stderr
    assert connection.exists(batch_key("b"))
