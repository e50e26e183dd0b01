"""A trace is seen wherever its job is: log lines, events, webhooks, results, spans."""

import json
import subprocess
import sys

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from producer import log
from producer.batches.actions import cancel_jobs
from producer.errors import InvalidSettings
from producer.events import read_events
from producer.job import Job
from producer.keys import job_key
from producer.queue import submit
from producer.settings import LogSettings, TraceSettings
from producer.spans import configure_spans
from producer.traces import TraceParent
from producer.webhooks import payload
from tests.stage.fake_engine import source
from tests.stage.farm import wait_until

ASKED = TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


def submit_one(farm, name="a", **options):
    job = Job(source=source(name, **options), audio_sha256=f"{ord(name):064x}")
    [entry] = submit(farm.connection, farm.settings, [job], traceparent=ASKED)
    return entry.job_id


def test_a_job_is_followed_from_its_submission_to_its_result(farm, tmp_path):
    """Every line of the worker's log about it has the trace, and so has what comes of it."""
    file = tmp_path / "worker.log"
    job_ids = [
        submit_one(farm, "a", error="source_unreachable", once=1),
        submit_one(farm, "b", error="corrupt_audio"),
    ]
    farm.start_process(log=file)
    results = [farm.result(job_id) for job_id in job_ids]
    assert {result.trace_id for result in results} == {ASKED.trace_id}
    assert {event.trace_id for event in read_events(farm.connection)} == {ASKED.trace_id}
    event = next(read_events(farm.connection))
    assert json.loads(payload(event))["data"]["trace_id"] == ASKED.trace_id
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    about = [line for line in lines if {"job_id", "id"} & set(line)]
    assert {line["event"] for line in about} == {"job", "requeued"}
    assert {line["trace_id"] for line in about} == {ASKED.trace_id}
    others = [line for line in lines if line["event"] == "worker_started"]
    assert others
    assert all("trace_id" not in line for line in others)


def test_a_job_of_a_lost_worker_stays_in_its_trace(farm, tmp_path):
    """The event of its taking over names it, and the lines of the one who took it."""
    file = tmp_path / "second.log"
    job_id = submit_one(farm, windows=400, window_s=0.02)
    first = farm.start_process()
    wait_until(lambda: farm.state(job_id) == "started")
    first.stop()
    farm.start_process(log=file)
    assert farm.result(job_id, timeout_s=60).trace_id == ASKED.trace_id
    kinds = {
        event.kind: event.trace_id
        for event in read_events(farm.connection, kinds={"job_taken_over", "job_ended"})
    }
    assert kinds == {"job_taken_over": ASKED.trace_id, "job_ended": ASKED.trace_id}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    [taken] = [line for line in lines if line["event"] == "taken_over"]
    assert taken["trace_id"] == ASKED.trace_id


def test_a_job_that_is_cancelled_while_it_waits_stays_in_its_trace(farm):
    """In its event and in its result."""
    job_id = submit_one(farm)
    list(cancel_jobs(farm.connection, farm.settings, [job_id]))
    assert farm.result(job_id).trace_id == ASKED.trace_id
    assert next(read_events(farm.connection)).trace_id == ASKED.trace_id


@pytest.mark.parametrize("stored", [b"", b"nonsense", b"\xff" * 100, b"00-" + b"a" * 5000])
def test_a_trace_that_another_program_damaged_is_none(farm, stored):
    """The job is done all the same."""
    job_id = submit_one(farm)
    farm.connection.hset(job_key(job_id), "traceparent", stored)
    farm.start()
    result = farm.result(job_id)
    assert (result.status, result.trace_id) == ("succeeded", "")


@pytest.fixture(scope="module")
def exporter():
    """Return what keeps all spans of this process; OpenTelemetry has one provider in its life."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    yield kept
    provider.shutdown()


def test_the_spans_of_a_job(farm, exporter):
    """One tree in the trace that was asked for; each part lies within what it hangs on."""
    exporter.clear()
    job_id = submit_one(farm, windows=3)
    farm.start()
    result = farm.result(job_id)
    spans = wait_until(
        lambda: (
            {each.name: each for each in exporter.get_finished_spans()}
            if len(exporter.get_finished_spans()) == 6
            else None
        )
    )
    assert {f"{each.context.trace_id:032x}" for each in spans.values()} == {ASKED.trace_id}
    parents = {
        name: next(
            (other for other, span in spans.items() if each.parent.span_id == span.context.span_id),
            None,
        )
        for name, each in spans.items()
    }
    assert parents == {
        "submit": None,
        "wait": "submit",
        "job": "submit",
        "line": "job",
        "read and decode": "job",
        "commit": "job",
    }
    assert f"{spans['submit'].parent.span_id:016x}" == ASKED.span_id
    job = spans["job"]
    assert job.attributes["scribefarm.job_id"] == job_id
    assert job.attributes["scribefarm.status"] == "succeeded"
    for name in ("line", "read and decode", "commit"):
        assert job.start_time <= spans[name].start_time <= spans[name].end_time
        assert spans[name].end_time <= job.end_time + 1000
    assert spans["wait"].end_time == job.start_time
    work = spans["read and decode"].attributes
    assert work["scribefarm.audio_s"] == result.audio.duration_s
    # The job's hash names the span that its children hang on.
    stored = farm.connection.hget(job_key(job_id), "traceparent").decode()
    assert stored.split("-")[2] == f"{spans['submit'].context.span_id:016x}"


def test_the_span_of_a_failure_has_its_code(farm, exporter):
    """By OpenTelemetry's name for it."""
    exporter.clear()
    job_id = submit_one(farm, error="corrupt_audio")
    farm.start()
    farm.result(job_id)
    job = wait_until(
        lambda: next((each for each in exporter.get_finished_spans() if each.name == "job"), None)
    )
    assert job.attributes["error.type"] == "corrupt_audio"


def test_unasked_nothing_of_opentelemetry_is_imported():
    """By us: redis-py loads its metrics wherever they are installed."""
    code = (
        "import sys, producer.queue, worker.farm.farm_worker, producer.spans as s;"
        "from producer.settings import TraceSettings; s.configure_spans(TraceSettings(), 'x');"
        "print([name for name in sys.modules if 'opentelemetry.sdk.trace' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_spans_on_stderr(scribefarm, write_wav):
    """`trace.exporter = "console"`: OpenTelemetry's own form."""
    done = scribefarm(
        "submit", write_wav(), SCRIBEFARM_TRACE__EXPORTER="console", TRACEPARENT=str(ASKED)
    )
    assert done.returncode == 0, done.stderr
    assert '"name": "submit"' in done.stderr
    assert f"0x{ASKED.trace_id}" in done.stderr


def test_spans_without_their_packages_say_how_to_get_them(monkeypatch):
    """Before anything starts."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidSettings, match="to install: make"):
        configure_spans(TraceSettings(exporter="otlp"), "x")


def test_log_lines_in_columns_have_the_trace_too(capsys):
    """The same context, whatever the form."""
    log.configure(LogSettings(format="console"))
    with structlog.contextvars.bound_contextvars(trace_id=ASKED.trace_id):
        structlog.get_logger().info("at_hand")
    assert ASKED.trace_id in capsys.readouterr().err
