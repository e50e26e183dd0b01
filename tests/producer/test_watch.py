"""Watching a batch: right counts at little cost, speed and time left, live and as lines."""

import heapq
import json
import random
import signal
import time

import pytest

from producer.batches.actions import retry_jobs
from producer.batches.views import FileView
from producer.batches.watching import SPEED_WINDOW_S, BatchStatus, BatchWatch, measure_speed
from producer.cli.watch_view import plain_line
from producer.errors import JobNotFound
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until

NOW_S = 1_700_000_000.0


def ended(started_s, ended_s, audio_s=60.0):
    return FileView(
        "a", "a", "succeeded", audio_s=audio_s, started_at_s=started_s, ended_at_s=ended_s
    )


def watch_of(night, batch="night"):
    return BatchWatch(night.connection, night.farm.settings, batch)


def test_speed_is_that_of_the_last_minutes():
    """Files of an hour ago do not count; the window starts with the work if that is later."""
    steady = [ended(NOW_S - 4 * number - 4, NOW_S - 4 * number) for number in range(1000)]
    speed = measure_speed(steady, NOW_S)
    assert speed.files_per_s == pytest.approx(0.25, rel=0.02)
    assert speed.audio_s_per_s == pytest.approx(15.0, rel=0.02)
    young = [ended(NOW_S - 10, NOW_S - 5), ended(NOW_S - 5, NOW_S)]
    assert measure_speed(young, NOW_S).files_per_s == pytest.approx(0.2)


def test_speed_is_unknown_until_something_has_ended():
    """No division by nothing, no time left out of one file."""
    assert measure_speed([], NOW_S) is None
    assert measure_speed([ended(NOW_S - 5, NOW_S)], NOW_S) is None
    long_ago = NOW_S - 2 * SPEED_WINDOW_S
    assert measure_speed([ended(long_ago - 1, long_ago)] * 5, NOW_S) is None


def test_a_watch_follows_a_batch_to_its_end(night):
    """Counts come from the server, a retry from elsewhere and files added later included."""
    night.submit({f"{number}.wav": job(f"r{number}") for number in range(30)})
    watch = watch_of(night)
    assert watch.refresh().counts.queued == 30
    night.farm.start()
    wait_until(lambda: watch.refresh().is_done)
    night.submit({"late.wav": job("late", error="corrupt_audio")})
    last = wait_until(lambda: watch.refresh().is_done and watch.refresh())
    assert (last.counts.succeeded, last.counts.failed) == (30, 1)
    assert last.files_per_s > 0


def test_a_watch_shows_how_far_a_long_recording_is(night):
    """Seconds done, the latest words and the worker, from the progress hash."""
    night.submit({"long.wav": job("long", windows=400, window_s=0.05)})
    night.farm.start()
    watch = watch_of(night)
    look = wait_until(
        lambda: next(
            (each for each in [watch.refresh()] if each.running and each.running[0].text), None
        )
    )
    (file,) = look.running
    assert file.name == "long.wav"
    assert file.duration_s == 12_000.0
    assert 0 < file.part_done < 1
    assert "long-" in file.text
    assert [worker.name for worker in look.workers] == [file.worker]


@pytest.mark.parametrize("seed", range(5))
def test_the_time_left_is_right_on_a_steady_load(seed):
    """Within 15 %, for files of 5 to 60 s of work on eight workers, from an hour on."""
    chance = random.Random(seed)
    free_at, files = [0.0] * 8, []
    for _ in range(2000):
        started_s = heapq.heappop(free_at)
        ended_s = started_s + chance.uniform(5, 60)
        heapq.heappush(free_at, ended_s)
        files.append((started_s, ended_s))
    now_s, end_s = 3600.0, max(ended_s for _, ended_s in files)
    views = [ended(started_s, ended_s) for started_s, ended_s in files if ended_s <= now_s]
    left = len(files) - len(views)
    assert left > 500
    assert left / measure_speed(views, now_s).files_per_s == pytest.approx(end_s - now_s, rel=0.15)


@pytest.mark.slow
def test_the_time_left_comes_true(night):
    """A third of the way through a real queue; the tolerance is the machine's, not the method's."""
    night.submit({f"{n}.wav": job(f"r{n}", windows=1, window_s=0.2) for n in range(150)})
    night.farm.start(FakeEngine(capacity=4))
    watch = watch_of(night)
    look = wait_until(lambda: _at_least(watch, 50))
    started = time.monotonic()
    wait_until(lambda: watch.refresh().is_done, timeout_s=60)
    assert look.eta_s == pytest.approx(time.monotonic() - started, rel=0.4)


def _at_least(watch, num_done):
    look = watch.refresh()
    return look if look.counts.done >= num_done else None


def test_watching_costs_the_server_little_however_many_files_wait(night):
    """A refresh reads a slice of the waiting files, not all of them."""
    night.submit({f"{n}.wav": job(f"r{n}") for n in range(5000)})
    watch = watch_of(night)
    watch.refresh()
    before = night.connection.info("commandstats")["cmdstat_hmget"]["calls"]
    assert watch.refresh().counts.queued == 5000
    after = night.connection.info("commandstats")["cmdstat_hmget"]["calls"]
    assert 0 < after - before < 2500


def test_lines_and_json_are_printed_off_a_terminal_until_the_batch_is_done(night):
    """Exit code 0: all succeeded; 1: some failed."""
    night.submit({"a.wav": job("a"), "b.wav": job("b")})
    night.farm.start()
    lines = night.run_json("watch", "--json", "--every", "0.2")
    assert BatchStatus.model_validate(lines[-1]).is_done
    night.submit({"c.wav": job("c", error="poison")}, batch="bad")
    wait_until(lambda: not night.counts("bad").left)
    text, _ = night.run("watch", "bad", code=1)
    assert "1/1 done, 1 (poison 1) failed" in text


def test_ctrl_c_leaves_the_farm_working_and_says_how_to_come_back(night):
    """Exit code 130, as shells expect."""
    night.submit({"a.wav": job("a")})
    with night.script.start("watch", "night", "--every", "0.2") as watching:
        assert b"no worker is alive; start one" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, stderr = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert b"scribefarm watch night" in stderr
    night.finish()
    assert night.counts().succeeded == 1


def test_events_are_followed_as_json_lines(night):
    """Each job that ended once, in order, with the fields of the documented schema."""
    job_ids = night.submit({"a.wav": job("a"), "b.wav": job("b", error="internal")})
    with night.script.start("events", "--follow", "--after", "0", "--batch", "night") as following:
        night.farm.start()
        events = [json.loads(following.stdout.readline()) for _ in job_ids]
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=30)
    assert following.returncode == 130
    assert {event["job_id"]: event["code"] for event in events} == {
        job_ids["a.wav"]: "",
        job_ids["b.wav"]: "internal",
    }
    assert set(events[0]) == {
        "schema",
        "id",
        "at",
        "kind",
        "job_id",
        "status",
        "code",
        "worker",
        "batch",
    }
    assert events[0]["id"] < events[1]["id"]
    later = night.run_json("events", "--after", events[0]["id"])
    assert later == [events[1]]
    night.run("events", "--after", "yesterday", code=2)


def test_a_watch_notices_a_retry_at_the_next_full_read(night, monkeypatch):
    """Files that had ended are looked at again every minute."""
    job_ids = night.submit({"a.wav": job("a", error="internal")})
    night.finish()
    night.farm.stop()
    watch = watch_of(night)
    assert watch.refresh().is_done
    assert list(retry_jobs(night.connection, night.farm.settings, job_ids.values()))
    monkeypatch.setattr("producer.batches.watching._FULL_READ_S", 0.0)
    assert watch.refresh().counts.queued == 1
    night.connection.flushall()
    with pytest.raises(JobNotFound):
        watch.refresh()


def test_a_plain_line_has_all_that_matters():
    """For logs: time, counts, audio, speed, workers."""
    look = BatchStatus.model_validate(
        {
            "batch": "night",
            "counts": {"total": 10, "succeeded": 4, "failed": 1, "running": 2, "queued": 3,
                       "failed_by_code": {"poison": 1}, "audio_s": 7200},
            "workers": [{"name": "a"}, {"name": "b"}],
            "running": [{"name": "x", "job_id": "1", "worker": "a"}],
            "audio_hours_per_hour": 812.4,
            "eta_s": 3700,
        }
    )  # fmt: skip
    assert plain_line(look).partition(" ")[2] == (
        "5/10 done, 1 (poison 1) failed, 2 running, 3 queued, 2.00 h of audio"
        ", 812.4 audio hours an hour, 1 h 01 min left, 2 workers, 1 on this batch"
    )
