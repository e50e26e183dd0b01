"""The report: what it lists by name, and how it tells failures of copies."""

import json

import pytest

from producer.batches.folders import FolderTally
from producer.batches.markdown import to_markdown
from producer.batches.report import make_report
from producer.batches.review import failure_reason
from producer.batches.survey import Listing, Named
from producer.batches.worked_time import Bounds, WorkedTime
from producer.errors import Cancelled, EmptyInput, Internal
from producer.keys import EVENTS_KEY, job_key
from producer.result import Failure
from tests.stage.fake_engine import job
from tests.stage.farm import wait_until

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
    worked.add([100, 5], [110, 12], 12.0)
    for job_id, *work in [("a", 0, 10, 5.0), ("b", 12.9, 20, 5.0)]:
        worked.add_copy(job_id, *work)
    for job_id in "cac":
        worked.add_copy(job_id, 14, 15, 1.0)
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


def test_a_report_says_folders_languages_and_where_a_recording_lies(night):
    """The language as the transcript says it, the path as the worker knew it."""
    asked = {f"tapes/{name}/a.wav": job(name, windows=1) for name in ("x", "y")}
    night.submit({**asked, "b.wav": job("b", error="corrupt_audio")})
    night.finish()
    report = make_report(night.connection, "night")
    assert report.files_by_language == {"en": 2}
    assert [(each.path, each.files, each.succeeded, each.failed) for each in report.folders] == [
        ("", 1, 0, 1), ("tapes/x", 1, 1, 0), ("tapes/y", 1, 1, 0),
    ]  # fmt: skip
    assert report.failures[0].files[0].source.startswith("fake:b")


@pytest.mark.parametrize(
    ("paths", "most", "rows"),
    [
        (["a/b/c", "a/b/d", "a/e"], 3, ["a/b/c", "a/b/d", "a/e"]),
        (["a/b/c", "a/b/d", "a/e"], 2, ["a/b", "a/e"]),
        (["a/b/c", "a/b/d", "a/e"], 1, ["a"]),
        (["/mnt/a", "/mnt/b"], 1, ["/mnt"]),
        (["", ""], 5, [""]),
        (["a", "b", "b", "c", "d"], 3, ["a", "b", "2 other folders"]),
    ],
)
def test_folders_are_put_together_until_they_fit(paths, most, rows):
    """As deep as fits; of too many at the top the largest and the rest."""
    tally = FolderTally()
    for path in paths:
        names = [f"{path}/x.wav" if path else "x.wav"]
        tally.add_ended(names, [2.0], is_failed=False)
    found = tally.rows(most)
    assert [row.path for row in found] == rows
    assert sum(row.files for row in found) == len(paths)
    assert sum(row.audio_s for row in found) == 2.0 * len(paths)


def test_a_folder_for_each_file_needs_little_memory():
    """However many there are, and however deep."""
    tally = FolderTally()
    for number in range(20_000):
        tally.add_ended([f"{number % 100}/{number}/deep/x.wav"], [0.0], is_failed=True)
    assert len(tally._sums) <= 5000
    assert sum(row.failed for row in tally.rows()) == 20_000


def test_since_last_tells_what_ended_since_the_last_report(night):
    """Remembered on the server by reports that were not of another time."""
    night.submit({"a.wav": job("a")})
    night.finish()
    stdout, stderr = night.run("report", "night", "--since", "last", "--json")
    assert json.loads(stdout)["run"]["succeeded"] == 1
    assert "no report" in stderr
    night.submit({"b.wav": job("b", error="corrupt_audio")})
    wait_until(lambda: not night.counts().left)
    night.run("report", "night", "--since", "2020-01-01", code=1)
    night.run("report", "night", "--until", "2020-01-01", code=1)
    for failed in (1, 0):
        stdout, _ = night.run("report", "night", "--since", "last", "--json", code=1)
        report = json.loads(stdout)
        assert (report["run"]["succeeded"], report["run"]["failed"]) == (0, failed)
        assert report["counts"]["total"] == 2


def test_a_report_becomes_the_file_that_its_name_says(night):
    """And wrong words are refused before anything is asked."""
    night.submit({"a.wav": job("a")})
    night.finish()
    folder = night.script.folder
    for name, start in [
        ("r.html", b"<!doctype html>"),
        ("r.csv", b"what,"),
        ("r.xlsx", b"PK"),
        ("r.txt", b"Batch "),
    ]:
        night.run("report", "night", "-o", name)
        assert (folder / name).read_bytes().startswith(start)
    for wrong in (["--format", "pdf"], ["--format", "xlsx"], ["--since", "yesterday"]):
        _, stderr = night.run("report", "night", *wrong, code=2)
        assert wrong[0] in stderr


def test_a_full_server_is_no_reason_to_have_no_report(night):
    """Only what is new since then is not known next time."""
    night.submit({"a.wav": job("a")})
    night.finish()
    night.connection.config_set("maxmemory", "1mb")
    try:
        stdout, stderr = night.run("report", "night", "--json")
    finally:
        night.connection.config_set("maxmemory", "0")
    assert json.loads(stdout)["run"]["succeeded"] == 1
    assert "does not know of this report" in stderr
