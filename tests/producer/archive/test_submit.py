"""From an archive to the queue: what is enqueued, what is not, and why."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from producer.archive.find import Names, find
from producer.archive.prepare import SubmitOptions
from producer.archive.submit import plan_archive, submit_archive
from producer.batches.report import make_report
from producer.batches.submission import read_submission
from producer.batches.views import view_batch
from producer.errors import (
    CorruptAudio,
    InvalidOptions,
    QueueFull,
    SourceForbidden,
    SourceNotFound,
    WorkerLost,
)
from producer.job import Job, Options
from producer.keys import job_key, result_key
from producer.queue import read_result
from producer.result import Failure, dump_result
from producer.rq_data import load_call
from tests.producer.archive.recordings import record


def submit(connection, settings, cache, *arguments, **request):
    with Names() as names:
        asked = SubmitOptions(batch="b", **request)
        return list(submit_archive(connection, settings, find(arguments, names), asked, cache))


def verdicts(entries):
    return [entry.verdict for entry in sorted(entries, key=lambda entry: entry.path)]


def fail(connection, job_id, error):
    """End a job as a worker does that met this error."""
    connection.set(result_key(job_id), dump_result(Failure.from_error(job_id, error)), ex=60)
    connection.hset(job_key(job_id), mapping={"status": "failed", "code": error.code})


def test_a_name_that_is_not_utf_8_survives_queue_and_json(folder, connection, settings, cache):
    """The job carries a file URL that leads back to the very bytes."""
    path = record(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 %41.wav")))
    (entry,) = submit(connection, settings, cache, os.fspath(path))
    assert entry.name == "caf\\xe9 %41.wav"
    data = connection.hget(job_key(entry.job_id), "data")
    _, _, _, kwargs = json.loads(__import__("zlib").decompress(data))
    assert kwargs["source"].startswith("file:///")
    assert Job.from_kwargs(kwargs).path == path


def test_an_archive_is_enqueued_once(folder, connection, settings, cache):
    """Again: nothing. A new file, a changed one, another option: just those."""
    for name in ("a.wav", "b.wav", "c.wav"):
        record(folder / "talks" / name)
    assert verdicts(submit(connection, settings, cache, "talks")) == ["new"] * 3
    assert verdicts(submit(connection, settings, cache, "talks")) == ["known"] * 3
    record(folder / "talks/d.wav")
    (folder / "talks/b.wav").write_bytes(b"another take")
    entries = submit(connection, settings, cache, "talks")
    assert {Path(entry.path).name: entry.reason for entry in entries} == {
        "a.wav": None,
        "b.wav": "audio_changed",
        "c.wav": None,
        "d.wav": "first_time",
    }
    german = submit(connection, settings, cache, "talks", options=Options(language="de"))
    assert verdicts(german) == ["new"] * 4
    reasons = {Path(entry.path).name: entry.reason for entry in german}
    assert reasons["a.wav"] == reasons["c.wav"] == reasons["d.wav"] == "request_changed"


def test_a_passing_failure_is_enqueued_again_and_a_lasting_one_only_on_demand(
    folder, connection, settings, cache
):
    """What a dead worker left is tried again; a broken file stays broken."""
    lost, broken = record(folder / "lost.wav"), record(folder / "broken.wav")
    job_ids = {
        Path(entry.path): entry.job_id for entry in submit(connection, settings, cache, "*.wav")
    }
    fail(connection, job_ids[lost], WorkerLost("worker", "must live"))
    fail(connection, job_ids[broken], InvalidOptions("job", "must exist"))
    assert verdicts(submit(connection, settings, cache, "*.wav")) == ["known", "new"]
    assert read_result(connection, job_ids[lost]) is None
    forced = submit(connection, settings, cache, "*.wav", retry_failed=True)
    assert verdicts(forced) == ["new", "known"]


PATH_ERRORS = (SourceNotFound, SourceForbidden)


def fail_from(connection, entry, error, source):
    """End a job as a worker does that met this error at this path."""
    failure = Failure.from_error(entry.job_id, error, source=source)
    connection.set(result_key(entry.job_id), dump_result(failure), ex=60)
    connection.hset(job_key(entry.job_id), mapping={"status": "failed", "code": error.code})


def source_of(connection, job_id):
    """Return the path that a worker will be given."""
    _, _, _, kwargs = load_call(connection.hget(job_key(job_id), "data"))
    return kwargs["source"]


def plan(connection, settings, cache, *arguments):
    with Names() as names:
        found, asked = find(arguments, names), SubmitOptions(batch="plan")
        return [entry for entry, _ in plan_archive(connection, settings, found, asked, cache)]


@pytest.mark.parametrize("error", PATH_ERRORS)
def test_a_moved_recording_is_taken_up_again_where_it_is_now(
    folder, connection, settings, cache, error
):
    """The failure was the path's; from the same path it stays known, and a dry run says the same."""
    old = record(folder / "old/a.wav", b"speech")
    (entry,) = submit(connection, settings, cache, "old")
    fail_from(connection, entry, error("source", "must exist"), str(old))
    assert verdicts(plan(connection, settings, cache, "old")) == ["known"]
    assert verdicts(submit(connection, settings, cache, "old")) == ["known"]
    (folder / "old").rename(folder / "new")
    assert verdicts(plan(connection, settings, cache, "new")) == ["new"]
    (moved,) = submit(connection, settings, cache, "new")
    assert (moved.verdict, moved.state, moved.job_id) == ("new", "queued", entry.job_id)
    assert source_of(connection, entry.job_id) == str(folder / "new/a.wav")
    assert verdicts(submit(connection, settings, cache, "new")) == ["known"]


def test_the_other_copy_is_tried_when_the_first_ones_path_has_failed(
    folder, connection, settings, cache
):
    """Two copies in one submission are one job, which knows one path at a time."""
    first = record(folder / "x/a.wav", b"speech")
    other = record(folder / "y/copy.wav", b"speech")
    entries = submit(connection, settings, cache, "x", "y")
    assert verdicts(entries) == ["new", "duplicate"]
    assert source_of(connection, entries[0].job_id) == str(first)
    fail_from(connection, entries[0], SourceNotFound("source", "must exist"), str(first))
    again = submit(connection, settings, cache, "x", "y")
    assert verdicts(again) == ["known", "new"]
    assert [entry.state for entry in again] == ["queued", "queued"]
    assert source_of(connection, entries[0].job_id) == str(other)


def test_a_file_that_was_changed_after_its_submission_is_submitted_anew(
    folder, connection, settings, cache
):
    """The worker refused it for its hash; whoever submits it now has hashed what is there now."""
    path = record(folder / "a.wav")
    (entry,) = submit(connection, settings, cache, "a.wav")
    failure = Failure.from_error(entry.job_id, CorruptAudio("a", "b"), source=str(path))
    changed = failure.error.model_copy(update={"code": "source_changed"})
    stored = dump_result(failure.model_copy(update={"error": changed}))
    connection.set(result_key(entry.job_id), stored, ex=60)
    connection.hset(job_key(entry.job_id), mapping={"status": "failed", "code": "source_changed"})
    assert verdicts(plan(connection, settings, cache, "a.wav")) == ["new"]
    assert verdicts(submit(connection, settings, cache, "a.wav")) == ["new"]


def test_a_transcript_of_other_audio_is_never_known(folder, connection, settings, cache):
    """Another program gave its own recording the id of this one; the worker noted what it read."""
    record(folder / "a.wav")
    (entry,) = submit(connection, settings, cache, "a.wav")
    connection.hset(job_key(entry.job_id), mapping={"status": "finished"})
    connection.set(result_key(entry.job_id), "{}", ex=60)
    right = _sha256(folder / "a.wav")
    connection.hset(job_key(entry.job_id), "audio_sha256", right)
    assert verdicts(submit(connection, settings, cache, "a.wav")) == ["known"]
    connection.hset(job_key(entry.job_id), "audio_sha256", "f" * 64)
    assert verdicts(plan(connection, settings, cache, "a.wav")) == ["new"]
    assert verdicts(submit(connection, settings, cache, "a.wav")) == ["new"]
    assert not connection.hexists(job_key(entry.job_id), "audio_sha256")
    assert not connection.exists(result_key(entry.job_id))


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_of_the_same_audio_are_one_job_with_two_names(folder, connection, settings, cache):
    """Both names stand in the batch."""
    for name in ("a.wav", "copy of a.wav"):
        record(folder / name, b"the same")
    entries = submit(connection, settings, cache, "*.wav")
    assert len({entry.job_id for entry in entries}) == 1
    assert connection.llen("rq:queue:default@tiny.en") == 1
    assert sorted(view.name for view in view_batch(connection, "b")) == ["a.wav", "copy of a.wav"]


def test_copies_are_duplicates_in_a_plan_and_in_a_submission_alike(
    folder, connection, settings, cache
):
    """The first stands for them; next time it is known, and they are duplicates still."""
    for name in ("a.wav", "b.wav", "c.wav"):
        record(folder / name, b"the same")
    asked = SubmitOptions(batch="b")
    with Names() as names:
        plan = plan_archive(connection, settings, find(["*.wav"], names), asked, cache)
        planned = sorted(entry.verdict for entry, _ in plan)
    entries = submit(connection, settings, cache, "*.wav")
    first = next(entry.name for entry in entries if entry.verdict == "new")
    assert planned == sorted(entry.verdict for entry in entries) == ["duplicate"] * 2 + ["new"]
    assert {entry.same_as for entry in entries if entry.verdict == "duplicate"} == {first}
    again = submit(connection, settings, cache, "*.wav")
    assert sorted(entry.verdict for entry in again) == ["duplicate"] * 2 + ["known"]


def test_a_submission_keeps_a_record_of_what_it_left_out(folder, connection, settings, cache):
    """Also for a report on a batch in which nothing could be submitted."""
    for name in ("talks/notes.txt", "talks/a.AAX"):
        record(folder / name)
    (folder / "talks/gone.wav").symlink_to("nowhere")
    submit(connection, settings, cache, "talks")
    kept = read_submission(connection, "b")
    assert kept.verdicts == {"ignored": 2, "problem": 1}
    assert kept.ignored == {".txt": 1, ".aax": 1}
    (problem,) = kept.problems
    assert (problem.path, problem.code) == (str(folder / "talks/gone.wav"), "source_not_found")
    assert kept.ended_at_s >= kept.began_at_s
    report = make_report(connection, "b")
    assert report.counts.total == 0
    assert report.submission.problem == 1


def test_an_interrupted_submission_leaves_an_unfinished_record(folder, connection, settings, cache):
    """With what it came to; the next one goes on with the same run while work is left."""
    for number in range(3):
        record(folder / f"{number}.wav")
    with Names() as names:
        asked = SubmitOptions(batch="b")
        entries = submit_archive(connection, settings, find(["*.wav"], names), asked, cache)
        next(entries)
        entries.close()
    first = read_submission(connection, "b")
    assert first.ended_at_s is None
    assert first.verdicts == {"new": 1}
    submit(connection, settings, cache, "*.wav")
    second = read_submission(connection, "b")
    assert second.ended_at_s
    assert second.verdicts == {"known": 3}
    assert second.run_started_at_s == pytest.approx(first.run_started_at_s, abs=0.1)
    assert second.began_at_s > first.began_at_s


def test_a_full_queue_pushes_back(folder, connection, settings, cache):
    """Without a way to wait the error says so; with one the submission goes on when there is room."""
    small = settings.model_copy(
        update={"queue": settings.queue.model_copy(update={"max_queued": 2})}
    )
    for number in range(4):
        record(folder / f"{number}.wav")
    with pytest.raises(QueueFull):
        submit(connection, small, cache, "*.wav")
    assert connection.llen("rq:queue:default@tiny.en") == 2

    def make_room(error):
        assert error.code == "queue_full"
        connection.delete("rq:queue:default@tiny.en")

    with Names() as names:
        found, asked = find(["*.wav"], names), SubmitOptions(batch="b")
        entries = list(submit_archive(connection, small, found, asked, cache, on_full=make_room))
    assert len(entries) == 4


def test_a_plan_says_what_would_happen_and_changes_nothing(folder, connection, settings, cache):
    """New files are named with the recording, so that its header can be read."""
    record(folder / "a.wav")
    (known,) = submit(connection, settings, cache, "a.wav")
    record(folder / "b.wav")
    with Names() as names:
        planned = list(
            plan_archive(
                connection, settings, find(["*.wav"], names), SubmitOptions(batch="plan"), cache
            )
        )
    assert {Path(entry.path).name: entry.verdict for entry, _ in planned} == {
        "a.wav": "known",
        "b.wav": "new",
    }
    assert connection.lrange("rq:queue:default@tiny.en", 0, -1) == [known.job_id.encode()]
    assert not connection.exists("scribefarm:batch:plan")
