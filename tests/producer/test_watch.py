"""Watching a batch: right counts at little cost, speed and time left, live and as lines."""

import io
import json
import signal
import time

import pytest
from rich.console import Console

from producer.batches.actions import retry_jobs
from producer.batches.counts import Tally, read_tally
from producer.batches.running import Running
from producer.batches.runs import Run, read_run, recent_speed, start_run
from producer.batches.views import BatchCounts
from producer.batches.watching import BatchStatus, batch_status, time_left_s
from producer.cli.status_lines import farm_lines, plain_line
from producer.cli.watch_view import live_view
from producer.errors import JobNotFound
from producer.fleet import FarmStatus
from producer.worker_records import WorkerRecord
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until


class Watch:
    """The status of a batch, again and again."""

    def __init__(self, night, batch="night"):
        self._asked = (night.connection, night.farm.settings, batch)

    def refresh(self):
        return batch_status(*self._asked)


def test_speed_is_that_of_the_last_minutes_of_work():
    """Ten minutes of it; the run's own beginning if that is later."""
    samples = tuple((30.0 * n, 300.0 * n) for n in range(20, 40))
    tally = Tally(BatchCounts(), worked_s=1200.0, worked_audio_s=24_000.0, samples=samples)
    assert recent_speed(tally) == pytest.approx((24_000 - 6000) / 600)
    young = tally._replace(run_worked_s=1100.0, run_worked_audio_s=23_000.0)
    assert recent_speed(young) == pytest.approx(10.0)


def test_speed_is_unknown_until_something_was_done():
    """No division by nothing."""
    assert recent_speed(Tally(BatchCounts())) is None
    assert recent_speed(Tally(BatchCounts(), worked_s=20.0)) is None
    assert Run.from_tally(Tally(BatchCounts())).files_per_s is None


def test_time_without_a_worker_is_no_working_time(night):
    """Nor is the time in which all of them are dead; what a run knew before is told apart."""
    night.submit({f"{n}.wav": job(f"r{n}", windows=2, window_s=0.1) for n in range(4)})
    time.sleep(1.0)
    night.farm.start(FakeEngine(1), burst=True).wait()
    time.sleep(1.0)
    start_run(night.connection, night.farm.settings, "night")
    night.submit({"late.wav": job("late", windows=3, window_s=0.1)})
    night.farm.start(FakeEngine(1), burst=True).wait()
    first, run = read_tally(night.connection, "night"), read_run(night.connection, "night")
    assert (run.known, run.done, run.left) == (4, 1, 0)
    assert run.worked_audio_s == 90.0
    assert 0.2 < run.worked_s < first.run_worked_s < 3.0
    assert run.audio_s_per_s == pytest.approx(90.0 / run.worked_s)


def test_a_file_that_is_tried_again_in_a_run_is_done_once(night):
    """It had failed before the run, fails in it, and is done at last."""
    ids = night.submit({"a.wav": job("a", error="internal"), "b.wav": job("b")})
    night.farm.start(burst=True).wait()
    start_run(night.connection, night.farm.settings, "night")
    for _ in range(2):
        list(retry_jobs(night.connection, night.farm.settings, [ids["a.wav"]]))
        night.farm.start(burst=True).wait()
        run = read_run(night.connection, "night")
        assert (run.known, run.done, run.left) == (1, 1, 0)


def test_the_time_left_of_one_long_recording_is_known_from_its_own_progress():
    """No file has ended yet."""
    run = Run(audio_s_per_s=10.0)
    running = [Running(name="a", job_id="a", seconds_done=1200.0, duration_s=7200.0)]
    assert time_left_s(BatchCounts(total=1, running=1), run, running) == pytest.approx(600.0)
    assert time_left_s(BatchCounts(total=3, running=1, queued=2), run, running) == pytest.approx(
        600.0 + 2 * 720.0
    )
    assert time_left_s(BatchCounts(total=1, queued=1), Run(), []) is None


def test_failures_at_once_do_not_make_the_time_left_too_long():
    """Half of the files fail: half of those that are left will."""
    counts = BatchCounts(
        total=40, succeeded=10, failed=10, queued=20, audio_s=600.0, failed_by_code={"internal": 10}
    )
    assert time_left_s(counts, Run(audio_s_per_s=10.0), []) == pytest.approx(60.0)
    only_failed = BatchCounts(total=20, failed=10, queued=10)
    assert time_left_s(only_failed, Run(done=10, worked_s=5.0), []) == pytest.approx(5.0)


def test_a_watch_follows_a_batch_to_its_end(night):
    """Counts come from the server, a retry from elsewhere and files added later included."""
    night.submit({f"{number}.wav": job(f"r{number}") for number in range(30)})
    watch = Watch(night)
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
    watch = Watch(night)
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


@pytest.mark.slow
def test_the_time_left_comes_true(night):
    """A third of the way through a real queue; the tolerance is the machine's, not the method's."""
    night.submit({f"{n}.wav": job(f"r{n}", windows=1, window_s=0.2) for n in range(150)})
    night.farm.start(FakeEngine(capacity=4))
    watch = Watch(night)
    look = wait_until(lambda: _at_least(watch, 50))
    started = time.monotonic()
    wait_until(lambda: watch.refresh().is_done, timeout_s=60)
    assert look.eta_s == pytest.approx(time.monotonic() - started, rel=0.4)


def _at_least(watch, num_done):
    look = watch.refresh()
    return look if look.counts.done >= num_done else None


def test_watching_costs_the_same_however_many_files_wait(night):
    """A look reads no file that is not in hand."""

    def calls():
        stats = night.connection.info("commandstats")
        return sum(stats[name]["calls"] for name in stats)

    costs = []
    for num_files in (10, 3000):
        night.submit({f"{n}.wav": job(f"r{n}") for n in range(num_files)})
        Watch(night).refresh()
        before = calls()
        assert Watch(night).refresh().counts.queued == num_files
        costs.append(calls() - before)
    assert costs[0] == costs[1] < 60


def test_lines_and_json_are_printed_off_a_terminal_until_the_batch_is_done(night):
    """Exit code 0: all succeeded; 1: some failed."""
    night.submit({"a.wav": job("a"), "b.wav": job("b")})
    night.farm.start()
    lines = night.run_json("watch", "--json", "--every", "0.2")
    assert BatchStatus.model_validate(lines[-1]).is_done
    night.submit({"c.wav": job("c", error="poison")}, batch="bad")
    wait_until(lambda: not night.counts("bad").left)
    text, _ = night.run("watch", "bad", code=1)
    assert "1/1 done, 1 failed (poison 1)" in text


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
        "trace_id",
    }
    assert events[0]["id"] < events[1]["id"]
    later = night.run_json("events", "--after", events[0]["id"])
    assert later == [events[1]]
    night.run("events", "--after", "yesterday", code=2)


def test_a_watch_notices_a_retry_and_a_batch_that_is_gone(night):
    """At once: the retry itself counts the file."""
    job_ids = night.submit({"a.wav": job("a", error="internal")})
    night.finish()
    night.farm.stop()
    watch = Watch(night)
    assert watch.refresh().is_done
    assert list(retry_jobs(night.connection, night.farm.settings, job_ids.values()))
    assert watch.refresh().counts.queued == 1
    night.connection.flushall()
    with pytest.raises(JobNotFound):
        watch.refresh()


def test_a_watch_ends_although_another_program_deleted_what_was_left(night):
    """Nothing waits and nothing runs, so the files are counted anew."""
    job_ids = night.submit({"a.wav": job("a"), "b.wav": job("b")})
    night.farm.queue("default@fake").delete(delete_jobs=True)
    look = Watch(night).refresh()
    assert look.is_done
    assert look.counts.lost == len(job_ids)
    text, _ = night.run("status", "night", "--recount", code=1)
    assert "expired or deleted 2" in text
    night.run("status", "--recount", code=2)


def test_status_names_the_files_in_hand_and_the_workers(night):
    """With model, heartbeat and load, for the farm; exit code 1 tells of failed files."""
    night.submit({"folder/long.wav": job("long", windows=400, window_s=0.05)})
    night.farm.start()
    wait_until(lambda: Watch(night).refresh().running)
    text, _ = wait_until(lambda: (found := night.run("status"))[0].count("1 of 8") and found)
    assert "folder/long.wav" in text
    assert "1 of 8 recordings in hand" in text
    assert "heartbeat" in text
    night.run("status", "night")
    night.submit({"bad.wav": job("bad", error="poison")}, batch="bad")
    wait_until(lambda: not night.counts("bad").left)
    night.run("status", "bad", code=1)


@pytest.mark.parametrize("width", [60, 80, 110])
def test_no_line_of_the_live_view_wraps_and_names_keep_their_end(width):
    """A batch and files with long names, on narrow and wide terminals."""
    files = [
        Running(name=f"backup of interviews of 1987/box 12/side S0{n}.wav", job_id=str(n),
                seconds_done=30, duration_s=60, text=text)
        for n, text in enumerate(["", "and so they went on " * 20])
    ]  # fmt: skip
    look = BatchStatus(
        batch="archive-of-the-radio-station-20251123-2200",
        counts=BatchCounts(total=1_000_000, succeeded=123_456, running=2, queued=876_542),
        running=files,
        workers=[WorkerRecord(name="a")],
        audio_hours_per_hour=1234.5,
        eta_s=123_456.0,
    )
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(live_view(look, width))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 9
    assert "123456 of 1000000" in lines[0]
    assert "1234.5 audio hours an hour, 34 h 17 min left" in lines[1]
    assert lines[7].rstrip().endswith("S00.wav")
    begins = [line.index("S0") for line in lines[7:]]
    assert begins[0] == begins[1]


def test_a_farm_that_sleeps_says_until_when():
    """In status and in watch; within a day the hour is enough."""
    begins_s = time.time() + 3600
    until = time.strftime("%H:%M", time.localtime(begins_s))
    sleeper = WorkerRecord(
        name="a", model="tiny.en", capacity=8, sleeps_until_s=begins_s, state="asleep"
    )
    look = BatchStatus(batch="b", counts=BatchCounts(total=1, queued=1), workers=[sleeper])
    assert plain_line(look).endswith(f"0 on this batch, asleep until {until} (active hours)")
    both = look.model_copy(update={"workers": [sleeper, WorkerRecord(name="b")]})
    assert f"1 asleep until {until}" in plain_line(both)
    farm = FarmStatus(
        is_paused=False, workers=[sleeper], queued={}, running={}, max_queued=1, batches={}
    )
    assert f"asleep until {until} (active hours)" in "\n".join(farm_lines(farm))


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
        "5/10 done, 1 failed (poison 1), 2 running, 3 queued, 2 h 00 min of audio"
        ", 812.4 audio hours an hour, 1 h 01 min left, 2 workers, 1 on this batch"
    )
