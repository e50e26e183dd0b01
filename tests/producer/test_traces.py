"""W3C's traceparent: what is one, and how it travels with a job."""

import pytest

import producer
from producer.errors import InvalidOptions
from producer.job import Job
from producer.keys import job_key
from producer.queue import submit
from producer.traces import TraceParent, checked_traceparent, trace_id_of, traceparent_here

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOUND = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "text",
    [
        SOUND,
        f"00-{TRACE}-{SPAN}-00",
        # A later version: what stands in front means the same, and is passed on as ours.
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-comes-later",
    ],
)
def test_what_is_one(text):
    """By https://www.w3.org/TR/trace-context/#traceparent-header."""
    found = TraceParent.read(text)
    assert (found.trace_id, found.span_id) == (TRACE, SPAN)
    assert str(found) == f"00-{TRACE}-{SPAN}-{text[53:55]}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        SOUND.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f" {SOUND}",
        f"{SOUND}\n",
        f"01-{TRACE}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_what_is_none(text):
    """And so is no part of any log line."""
    assert TraceParent.read(text) is None
    assert trace_id_of(text) == ""
    if text is not None:
        with pytest.raises(InvalidOptions, match="traceparent"):
            checked_traceparent(text)


def test_one_is_made_where_none_is_given(monkeypatch):
    """Each of its own; what $TRACEPARENT says is taken if it is one."""
    made = {traceparent_here() for _ in range(100)}
    assert len(made) == 100
    assert all(TraceParent.read(str(each)) == each for each in made)
    monkeypatch.setenv("TRACEPARENT", SOUND)
    assert traceparent_here().trace_id == TRACE
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    assert traceparent_here().trace_id != TRACE


def test_a_trace_is_no_part_of_a_jobs_id(connection, settings):
    """The same work asked for in another trace is known, and stays in the first one's."""
    job = Job(source="/archive/a.wav", audio_sha256="a" * 64)
    [first] = submit(connection, settings, [job], traceparent=TraceParent.read(SOUND))
    [second] = submit(connection, settings, [job])
    assert (second.job_id, second.is_new) == (first.job_id, False)
    # The span in it is that of the submission where somebody records spans.
    assert trace_id_of(connection.hget(job_key(first.job_id), "traceparent")) == TRACE


def test_all_jobs_of_a_submission_belong_to_one_trace(settings, connection, write_wav):
    """In Python by an argument, which must be one; else by the environment or of its own."""
    paths = [write_wav(f"{number}.wav", value=number) for number in range(3)]
    entries = producer.submit(paths, traceparent=SOUND, settings=settings).entries
    stored = {connection.hget(job_key(entry.job_id), "traceparent") for entry in entries}
    assert {trace_id_of(each) for each in stored} == {TRACE}
    with pytest.raises(InvalidOptions, match="traceparent"):
        producer.submit(paths, traceparent="x", settings=settings)
    others = producer.submit(paths, language="en", settings=settings).entries
    assert (
        len({trace_id_of(connection.hget(job_key(each.job_id), "traceparent")) for each in others})
        == 1
    )
