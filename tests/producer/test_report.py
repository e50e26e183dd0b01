"""The report: what it lists by name, and how it tells failures of copies."""

import pytest

from producer.batches.markdown import to_markdown
from producer.batches.report import make_report
from producer.batches.review import failure_reason
from producer.batches.scan import Listing, Named
from producer.batches.worked_time import WORKED, Bounds, WorkedTime
from producer.errors import Cancelled, EmptyInput, Internal
from producer.keys import EVENTS_KEY, job_key
from producer.result import Failure
from tests.stage.fake_engine import job

SOURCE = "/archive/tapes/a.wav"


def failure(error, source=SOURCE):
    return Failure.from_error("1", error, source=source)


@pytest.mark.parametrize(
    ("error", "name", "reason"),
    [
        (EmptyInput(SOURCE, "must have a byte"), "tapes/a.wav", "must have a byte"),
        (EmptyInput("tapes/a.wav", "must have a byte"), "tapes/a.wav", "must have a byte"),
        (
            EmptyInput(SOURCE, "must have a byte"),
            "tapes/copy.wav",
            f"same audio as {SOURCE}: must have a byte",
        ),
        (Internal("engine", "must not fail", 3), "tapes/a.wav", "engine: must not fail (got 3)"),
        (Cancelled("job", "was cancelled", "1"), "tapes/a.wav", "job: was cancelled"),
    ],
)
def test_a_failure_says_its_path_once_and_whose_audio_it_is(error, name, reason):
    """Files of the same audio are one job, which the worker knows by one path."""
    assert failure_reason(failure(error), name) == reason


def test_worked_time_is_a_union_without_pauses_and_copies():
    """Overlaps count once, and a second between two recordings is no pause."""
    worked = WorkedTime()
    worked.add(b"".join(WORKED.pack(*each) for each in [(100, 110, 7.0), (5, 12, 5.0)]))
    worked.add_copies([b"a", b"b"], WORKED.pack(0, 10, 5.0) + WORKED.pack(12.9, 20, 5.0))
    worked.add_copies([b"c", b"a", b"c"], WORKED.pack(14, 15, 1.0) * 3)
    assert worked.intervals == [(0, 20), (100, 110)]
    assert worked.worked_s == 30
    assert (worked.num_jobs, worked.audio_s) == (5, 23.0)


def test_a_listing_keeps_the_first_names_and_counts_all():
    """However many come, in whatever order."""
    listing = Listing(3)
    for number in reversed(range(100)):
        listing.add(Named(f"{number:03}", "id"))
    assert [item.name for item in listing.first()] == ["000", "001", "002"]
    assert listing.num_files == 100


def test_the_report_bounds_its_lists_and_lists_empty_and_flagged_recordings(night):
    """Empty texts and recordings flagged as a whole, by what stands in the job's hash."""
    job_ids = night.submit({f"{name}.wav": job(name, windows=1) for name in "abcd"})
    night.finish()
    for name in "abc":
        night.connection.hset(job_key(job_ids[f"{name}.wav"]), "is_empty", "1")
    night.connection.hset(job_key(job_ids["d.wav"]), "flags", "phase_cancelled")
    report = make_report(night.connection, "night", Bounds(), limit=2)
    assert report.num_empty == 3
    assert [file.name for file in report.empty] == ["a.wav", "b.wav"]
    assert [file.name for file in report.flagged] == ["d.wav"]
    assert report.num_flagged_files == 1
    later = make_report(night.connection, "night", Bounds(since_s=2**33))
    assert (later.run.succeeded, later.known_succeeded, later.num_empty) == (0, 4, 0)


def test_lost_workers_and_what_was_taken_over_from_them_have_a_line(night):
    """Of the recordings of this run, as the events stream tells."""
    job_ids = night.submit({"a.wav": job("a"), "b.wav": job("b")})
    lost = {"kind": "job_taken_over", "code": "worker_lost", "status": "", "worker": "mac-1"}
    for job_id in (*job_ids.values(), "of another batch"):
        night.connection.xadd(EVENTS_KEY, lost | {"job_id": job_id})
    night.finish()
    report = make_report(night.connection, "night")
    assert report.taken_over == {"mac-1": 2}
    assert "| taken over from mac-1, which was lost | 2 |" in to_markdown(report)
