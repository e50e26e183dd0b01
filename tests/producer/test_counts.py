"""A batch's counts are kept by the scripts; each step is held against a count of all files."""

import json
import random

import pytest
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from producer.batches.actions import cancel_jobs, retry_jobs
from producer.batches.counts import MAX_AGE_S, read_counts, read_tally
from producer.batches.scan import scan
from producer.batches.survey import Survey
from producer.batches.views import count, view_batch
from producer.batches.worked_time import Bounds
from producer.errors import JobNotFound
from producer.keys import batch_key, counts_key, ended_key, job_key, result_key
from producer.scripts import Scripts
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until


def recounted(night, batch="night"):
    """Return the counts of all files, read one by one."""
    return count(view_batch(night.connection, batch))


def assert_right(night, *batches):
    for batch in batches or ("night",):
        assert read_counts(night.connection, batch) == recounted(night, batch)
        assert looked_at(night, batch, by_records=True) == looked_at(night, batch, by_records=False)


def looked_at(night, batch, *, by_records):
    """Return all that a report takes from a survey, by the records or by the jobs' hashes."""
    found = Survey(Bounds(0), None)
    scan(night.connection, batch, found, by_records=by_records)
    worked = found.worked
    return {
        "counts": found.counts,
        "run": (found.run_states, found.run_num_flagged, found.workers, found.languages),
        "worked": (worked.num_jobs, worked.audio_s, worked.intervals),
        "folders": found.folders.rows(),
        "failed": {code: listing.first() for code, listing in found.failed.items()},
        "listed": (found.flagged.first(), found.empty.first(), found.slowest),
    }


def records(night, batch="night"):
    return night.connection.hgetall(ended_key(batch))


def work(night):
    night.farm.start(burst=True).wait()


def test_a_batch_is_counted_from_its_submission_to_its_end(night):
    """Queued, then succeeded or failed, with audio, flags and error codes."""
    night.submit({"a.wav": job("a", windows=3), "b.wav": job("b", error="corrupt_audio")})
    assert read_counts(night.connection, "night").queued == 2
    work(night)
    counts = read_counts(night.connection, "night")
    assert (counts.succeeded, counts.failed_by_code, counts.audio_s) == (
        1, {"corrupt_audio": 1}, 90.0,
    )  # fmt: skip
    assert_right(night)
    assert read_tally(night.connection, "night").worked_audio_s == 90.0


def test_a_running_file_counts_as_running_and_its_audio_as_it_is_done(night):
    """Each second of it once."""
    night.submit({"long.wav": job("long", windows=40, window_s=0.1)})
    night.farm.start()
    tally = wait_until(
        lambda: (found := read_tally(night.connection, "night")).worked_audio_s and found
    )
    assert tally.counts.running == 1
    assert tally.worked_audio_s < 1200
    wait_until(lambda: read_counts(night.connection, "night").succeeded)
    tally = read_tally(night.connection, "night")
    assert tally.worked_audio_s == 1200.0
    assert 2 < tally.worked_s < 60


def test_a_job_counts_in_each_batch_and_under_each_of_its_names(night):
    """Known ones too, and a name that stands for another job by now."""
    night.submit({"a.wav": job("a"), "copy of a.wav": job("a"), "b.wav": job("b")})
    work(night)
    night.submit({"a.wav": job("a"), "c.wav": job("c")}, batch="other")
    assert_right(night, "night", "other")
    assert read_counts(night.connection, "night").succeeded == 3
    night.submit({"copy of a.wav": job("new")})
    assert_right(night, "night", "other")
    work(night)
    assert_right(night, "night", "other")


def test_cancelled_and_retried_jobs_are_counted(night):
    """Also twice, and in more than one batch."""
    night.submit({"a.wav": job("a"), "b.wav": job("b")})
    ids = night.submit({"b.wav": job("b")}, batch="other")
    for _ in range(2):
        assert list(cancel_jobs(night.connection, night.farm.settings, ids.values()))
        assert read_counts(night.connection, "other").failed_by_code == {"cancelled": 1}
        assert_right(night, "night", "other")
        assert list(retry_jobs(night.connection, night.farm.settings, ids.values()))
        assert_right(night, "night", "other")


def test_delayed_and_returned_jobs_are_counted(night):
    """A retry waits for its time, and a drained worker hands back."""
    night.farm.configure(queue={"retry_delays_s": (1.0,)})
    night.submit({"a.wav": job("a", error="source_unreachable", once=1, error_at=1, windows=3)})
    night.submit({"b.wav": job("b", windows=1000, window_s=0.1)}, batch="long")
    worker = night.farm.start()
    wait_until(lambda: read_counts(night.connection, "night").waiting)
    assert_right(night, "night", "long")
    wait_until(lambda: not recounted(night).left)
    night.farm.settings.worker.__dict__["grace_s"] = 0.0
    worker.stop()
    assert read_counts(night.connection, "long").queued == 1
    assert_right(night, "night", "long")


def test_what_another_program_did_to_a_job_is_put_right_by_the_next_step(night):
    """`rq requeue` and a worker that fails a job know nothing of our counts."""
    ids = night.submit({"a.wav": job("a", error="internal"), "b.wav": job("b")})
    work(night)
    rq_job = RqJob.fetch(ids["a.wav"], connection=night.connection, serializer=JSONSerializer)
    rq_job.requeue()
    night.connection.delete(result_key(ids["a.wav"]))
    work(night)
    assert_right(night)
    night.connection.delete(job_key(ids["b.wav"]), result_key(ids["b.wav"]))
    assert read_counts(night.connection, "night").succeeded == 1
    assert read_tally(night.connection, "night", anew=True).counts.lost == 1
    assert_right(night)


def test_counts_of_an_earlier_version_are_taken_at_the_first_look(night):
    """There are none, neither of the batch nor in its jobs."""
    ids = night.submit({f"{n}.wav": job(f"r{n % 7}", windows=2) for n in range(12)})
    work(night)
    night.connection.delete(counts_key("night"))
    for job_id in ids.values():
        night.connection.hdel(job_key(job_id), "batches", "counted")
    assert_right(night)
    assert night.connection.ttl(counts_key("night")) > 0
    night.submit({"new.wav": job("new")})
    assert_right(night)
    work(night)
    assert_right(night)


def test_an_expired_job_that_is_submitted_again_makes_the_batch_count_anew(night):
    """What it still counted as, nobody knows."""
    asked = {"a.wav": job("a"), "again.wav": job("a"), "b.wav": job("b")}
    ids = night.submit(asked)
    night.connection.delete(job_key(ids["a.wav"]))
    night.submit(asked)
    assert read_counts(night.connection, "night").queued == 3
    assert_right(night)


@pytest.mark.parametrize(("most_daily", "lost"), [(2, 1), (1, 0)])
def test_a_day_later_a_batch_is_counted_anew_unless_somebody_would_wait(
    night, monkeypatch, most_daily, lost
):
    """A job that expired shows then; of a larger batch it shows when that is asked for."""
    monkeypatch.setattr("producer.batches.counts.MOST_DAILY", most_daily)
    ids = night.submit({"a.wav": job("a"), "b.wav": job("b")})
    night.connection.delete(job_key(ids["a.wav"]))
    assert read_counts(night.connection, "night").lost == 0
    night.connection.hincrby(counts_key("night"), "counted_at", -1000 * (MAX_AGE_S + 1))
    assert read_counts(night.connection, "night").lost == lost
    assert read_tally(night.connection, "night", anew=True).counts.lost == 1


def test_a_count_under_way_and_steps_meanwhile_agree(night):
    """Some of the files have been counted, some not yet, when they are claimed and end."""
    night.submit({f"{n:04}.wav": job(f"r{n}", windows=1) for n in range(1500)})
    scripts = Scripts(night.connection)
    page = {"batch": "night", "limit": 100, "max_age_s": 60, "most_daily": 10_000}
    assert scripts.run("read_counts", **page, anew=True)[0] == b"counting"
    night.farm.start()
    wait_until(lambda: recounted(night).succeeded > 100)
    assert scripts.run("read_counts", **page)[0] == b"counting"
    wait_until(lambda: not recounted(night).left, timeout_s=60)
    assert_right(night)
    assert read_counts(night.connection, "night").succeeded == 1500


@pytest.mark.parametrize("batches", ["[", "[[1,2]]", '{"night":7}', '{"night":[1e999,"x"]}', "{}"])
def test_what_is_no_entry_in_a_jobs_hash_stops_nothing(night, batches):
    """The job is worked; the count anew has it."""
    ids = night.submit({"a.wav": job("a")})
    night.connection.hset(job_key(ids["a.wav"]), "batches", batches)
    work(night)
    assert read_tally(night.connection, "night", anew=True).counts.succeeded == 1
    night.connection.set(counts_key("night"), "no hash", ex=60)
    night.submit({"b.wav": job("b")}, batch="other")
    work(night)


def test_a_batch_that_expired_begins_at_nothing(night):
    """Its counts are not those of the new one."""
    night.submit({"a.wav": job("a")})
    night.connection.delete(batch_key("night"))
    with pytest.raises(JobNotFound):
        read_counts(night.connection, "night")
    night.submit({"b.wav": job("b")})
    assert read_counts(night.connection, "night").total == 1


@pytest.mark.parametrize("seed", range(3))
def test_after_any_steps_the_counts_are_those_of_a_count_anew(night, seed):
    """Submissions, cancellations, retries, drains and counts at random, with real workers."""
    chance = random.Random(seed)
    errors = ["", "", "corrupt_audio", "source_unreachable"]
    names = [f"{n}.wav" for n in range(12)]
    known, worker = [], None
    for _ in range(60):
        step = chance.choice(["submit", "submit", "cancel", "retry", "work", "drain", "anew"])
        batch = chance.choice(["night", "other"])
        if step == "submit":
            error = chance.choice(errors)
            made = job(f"r{chance.randrange(15)}", windows=2, **({"error": error} if error else {}))
            known += night.submit({chance.choice(names): made}, batch=batch).values()
        elif step == "cancel" and known:
            list(cancel_jobs(night.connection, night.farm.settings, chance.sample(known, 1)))
        elif step == "retry" and known:
            list(retry_jobs(night.connection, night.farm.settings, chance.sample(known, 1)))
        elif step == "work" and worker is None:
            worker = night.farm.start(FakeEngine(2))
        elif step == "drain" and worker is not None:
            worker.stop()
            worker = None
        elif step == "anew" and night.connection.exists(batch_key(batch)):
            read_tally(night.connection, batch, anew=True)
    if worker is not None:
        worker.stop()
    there = [batch for batch in ("night", "other") if night.connection.exists(batch_key(batch))]
    assert_right(night, *there)
    work(night)
    assert_right(night, *there)


def test_entries_are_small(night):
    """A waiting job pays for its counts with some sixty bytes."""
    ids = night.submit({"a.wav": job("a")})
    batches, counted = night.connection.hmget(job_key(ids["a.wav"]), "batches", "counted")
    assert json.loads(batches)["night"][0] == 1
    assert counted == b"queued"
    assert len(batches) < 40


def test_a_record_of_what_ended_lives_and_goes_with_the_counts(night):
    """Until the file is queued again, its batch expires or all is counted anew."""
    ids = night.submit({"a.wav": job("a"), "b.wav": job("b", error="corrupt_audio")})
    assert not records(night)
    work(night)
    assert set(records(night)) == {job_id.encode() for job_id in ids.values()}
    # A second may pass between the two.
    lives = night.connection.ttl(ended_key("night")), night.connection.ttl(counts_key("night"))
    assert 0 < lives[0] <= lives[1] + 1
    list(retry_jobs(night.connection, night.farm.settings, [ids["b.wav"]]))
    assert set(records(night)) == {ids["a.wav"].encode()}
    night.connection.delete(job_key(ids["a.wav"]), result_key(ids["a.wav"]))
    # As large batches see it until somebody counts them anew.
    assert looked_at(night, "night", by_records=True)["counts"].succeeded == 1
    assert looked_at(night, "night", by_records=False)["counts"].lost == 1
    read_tally(night.connection, "night", anew=True)
    assert not records(night)
    assert_right(night)


def test_an_expired_job_under_a_new_name_is_not_taken_for_ended(night):
    """Its record is of an earlier life."""
    ids = night.submit({"a.wav": job("a")})
    work(night)
    night.connection.delete(job_key(ids["a.wav"]), result_key(ids["a.wav"]))
    night.submit({"b.wav": job("a")})
    assert looked_at(night, "night", by_records=True)["counts"].queued == 2


def test_records_of_doubtful_counts_are_not_read(night):
    """Marked dirty, or while they are counted anew: the jobs' own hashes tell."""
    ids = night.submit({"a.wav": job("a")})
    work(night)
    night.connection.delete(job_key(ids["a.wav"]), result_key(ids["a.wav"]))
    for field, value in (("dirty", "1"), ("counted_at", None)):
        kept = night.connection.hget(counts_key("night"), field)
        if value is None:
            night.connection.hdel(counts_key("night"), field)
        else:
            night.connection.hset(counts_key("night"), field, value)
        assert looked_at(night, "night", by_records=True)["counts"].lost == 1
        night.connection.hdel(counts_key("night"), field)
        if kept:
            night.connection.hset(counts_key("night"), field, kept)
    assert looked_at(night, "night", by_records=True)["counts"].succeeded == 1


def test_hostile_names_in_a_jobs_hash_stay_within_their_field(night):
    """A worker, model or language with tabs forges no other field of a record."""
    ids = night.submit({"a.wav": job("a"), "odd.wav": job("odd")})
    work(night)
    odd = {
        "worker_name": "x\tfailed\ty\n",
        "language": b"\xff\t<b>",
        "audio_s": "1e999",
        "num_flagged": "-7",
    }
    night.connection.hset(job_key(ids["odd.wav"]), mapping=odd)
    read_tally(night.connection, "night", anew=True)
    found = looked_at(night, "night", by_records=True)
    assert found == looked_at(night, "night", by_records=False)
    assert found["counts"].succeeded == 2
    assert found["run"][2]["x?failed?y?"] == 1


def test_a_record_that_is_none_is_counted_anew_or_as_it_is(night):
    """A key of another type, as any program may leave it, stops no worker and no report."""
    night.submit({"a.wav": job("a")})
    night.connection.set(ended_key("night"), "no hash", ex=60)
    work(night)
    assert looked_at(night, "night", by_records=True)["counts"].succeeded == 1


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"x" * 30,
        b"succeeded\t\tw\tm\ten\t\n0 1 nan 0 0 1",
        b"succeeded\t\tw\tm\ten\t\n0 1 1e999 0 0 1",
        b"succeeded\t\tw\tm\ten\t\n0 1 -7 0 0 1",
        b"succeeded\t\tw\tm\ten\t\n0 1 1 0 0",
        b"succeeded\tw\n0 1 1 0 0 1",
        b"queued\t\t\t\t\t\n0 1 1 0 0 1",
        b"\xff" * 80,
    ],
)
def test_what_is_no_record_is_looked_up_in_the_jobs_hash(night, record):
    """As any program may leave it there."""
    ids = night.submit({"a.wav": job("a")})
    work(night)
    night.submit({"b.wav": job("b")})
    work(night)
    night.connection.hset(ended_key("night"), ids["a.wav"], record)
    found = looked_at(night, "night", by_records=True)
    by_hash = looked_at(night, "night", by_records=False)
    assert found["counts"] == by_hash["counts"] == recounted(night)
    assert found["worked"] == by_hash["worked"]
