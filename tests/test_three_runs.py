"""Three runs on one batch name: every figure of the report equals what the test itself recorded.

In the first one no worker is there for ten minutes. The server's clock, which all times are of,
jumps by them; `make archive` waits through them.
"""

import json
import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.stage.archive_engine import ArchiveEngine
from tests.stage.archive_farm import ArchiveFarm
from tests.stage.farm import ThreadWorker, wait_until
from tests.stage.made_archive import CLIP_S, noise, write
from tests.stage.server_clock import FAKETIME, ServerClock

WORK_S = 0.2
PAUSE_S = 600.0
# Through these the test waits; the clock jumps by the rest.
REAL_PAUSE_S = float(os.environ.get("THREE_RUNS_REAL_PAUSE_S", "0.5"))
# Between what the engine sees of a recording and what the farm does: claim, heartbeat, commit.
SLACK_S = 0.6


class RecordingEngine(ArchiveEngine):
    """Notes when it had which recording in hand."""

    def __init__(self, settings, now):
        super().__init__(settings, capacity=2)
        self.noted, self._now = [], now
        self._noting = threading.Lock()

    def _transcript(self, ticket):
        started_s = self._now()
        self._stopped.wait(WORK_S)
        try:
            return super()._transcript(ticket)
        finally:
            if not self._stopped.is_set():
                with self._noting:
                    self.noted.append((started_s, self._now(), Path(ticket.job.source).name))


class Truth:
    """What the test did, kept apart from the farm: files by name, and when they were in hand."""

    def __init__(self, folder, farm):
        self.folder, self.farm = folder, farm
        self.engines, self.workers = [], []
        self.clock_steps_s = 0.0

    def now(self):
        """Return the time by the server's clock."""
        return time.time() + self.clock_steps_s

    def add(self, name, seed):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, noise(seed))

    def start_worker(self):
        self.engines.append(RecordingEngine(self.farm.settings, self.now))
        self.workers.append(ThreadWorker(self.farm.settings, self.engines[-1]))

    def begin_run(self):
        """Forget what the present worker did so far."""
        self.engines.append(self.workers[0].engine)
        self.engines[0].noted.clear()

    def stop_worker(self):
        self.workers.pop().stop()

    def pause(self, clock):
        """Let ten minutes pass without a worker."""
        time.sleep(REAL_PAUSE_S)
        if REAL_PAUSE_S < PAUSE_S:
            self.clock_steps_s += PAUSE_S - REAL_PAUSE_S
            clock.step(PAUSE_S - REAL_PAUSE_S)

    def worked_s(self):
        """Return the seconds in which a recording was in hand since the last call, and which."""
        last = {}
        for engine in self.engines:
            # A recording that was given back counts from its last claim on.
            last.update({name: (start, end) for start, end, name in engine.noted})
        self.engines.clear()
        # A gap of up to a second is a worker that takes the next one, not a pause.
        total_s, until = 0.0, float("-inf")
        for start, end in sorted(last.values()):
            total_s += max(0.0, end - (start if start > until + 1.0 else until))
            until = max(until, end)
        return total_s, last


@pytest.fixture
def clock(tmp_path):
    return ServerClock(tmp_path / "clock")


@pytest.fixture
def farm(tmp_path, clock):
    farm = ArchiveFarm(tmp_path, server_env=clock.environment)
    yield farm
    farm.stop()


@pytest.fixture
def truth(tmp_path, farm):
    truth = Truth(tmp_path / "talks", farm)
    yield truth
    while truth.workers:
        truth.stop_worker()


def datetime_s(stamp):
    return datetime.fromisoformat(stamp).timestamp()


def report_on(farm):
    stdout, _ = farm.run("report", "night", "--json", code=1)
    return json.loads(stdout)


def check_looks(farm, report, worked_s, audio_s):
    """Hold `status` and `watch` against the same truth, and their counts against the report's."""
    for command in ("status", "watch"):
        stdout, _ = farm.run(command, "night", "--json", code=1)
        look = json.loads(stdout.splitlines()[-1])
        counted = {key: look["counts"][key] for key in report["counts"]}
        assert counted == report["counts"], command
        run = look["run"]
        assert run["done"] == report["run"]["succeeded"] + report["run"]["failed"], command
        assert run["known"] == report["known_succeeded"] + report["known_failed"], command
        assert (run["left"], look["eta_s"], look["running"]) == (0, 0, []), command
        assert run["worked_audio_s"] == pytest.approx(audio_s, abs=0.01), command
        assert run["worked_s"] == pytest.approx(worked_s, abs=SLACK_S), command
        # All of it lies within the last ten minutes of work.
        speed = run["worked_audio_s"] / run["worked_s"]
        assert look["audio_hours_per_hour"] == pytest.approx(speed, rel=0.01), command


def check_run(farm, report, truth, *, num_good, failed):
    """Hold a run's figures against what the engines noted."""
    worked_s, in_hand = truth.worked_s()
    run = report["run"]
    assert (run["succeeded"], run["failed"]) == (num_good, failed)
    assert run["jobs"] == len(in_hand)
    num_worked_well = sum("broken" not in name for name in in_hand)
    assert run["audio_s"] == pytest.approx(num_worked_well * CLIP_S, abs=0.01)
    assert run["worked_s"] == pytest.approx(worked_s, abs=SLACK_S)
    assert run["audio_hours_per_hour"] == pytest.approx(run["audio_s"] / run["worked_s"], rel=0.01)
    assert run["jobs_per_hour"] == pytest.approx(3600 * len(in_hand) / run["worked_s"], rel=0.01)
    check_looks(farm, report, worked_s, run["audio_s"])
    return worked_s, in_hand.values()


@pytest.mark.slow
@pytest.mark.timeout(180 + REAL_PAUSE_S)
@pytest.mark.skipif(
    FAKETIME is None and REAL_PAUSE_S < PAUSE_S, reason="needs libfaketime, or the real pause"
)
def test_every_figure_of_three_runs_on_one_batch_is_the_truth(farm, truth, clock, tmp_path):
    """New files with a pause without workers, known files, and a folder that was moved."""
    for number in range(8):
        truth.add(f"sub/{number}.wav", number)
    talks = tmp_path / "talks"
    shutil.copy(talks / "sub/0.wav", talks / "sub/copy of 0.wav")
    (talks / "broken.wav").write_bytes(b"")
    (talks / "gone.wav").symlink_to("nowhere.wav")
    (talks / "loop.wav").symlink_to("loop.wav")
    for name in ("notes.txt", "._0.wav", "noext", ".hidden.wav", "more.TXT"):
        (talks / name).write_text(name)
    ignored = {".txt": 2, "AppleDouble": 1, "no extension": 1, "hidden": 1}

    _, planned = farm.submit("talks", "--batch", "night", "--dry-run", code=1)
    _, summary = farm.submit("talks", "--batch", "night", code=1)
    figures = ("files", "new", "known", "duplicate", "problem", "ignored")
    assert {key: planned[key] for key in figures} == {key: summary[key] for key in figures}
    truth.start_worker()
    wait_until(lambda: farm.counts("night").succeeded >= 3)
    truth.stop_worker()
    truth.pause(clock)
    truth.start_worker()
    farm.wait_done("night")
    report = report_on(farm)
    assert report["counts"]["total"] == 10
    # The copy is a file of its own, done with the other.
    worked_s, in_hand = check_run(farm, report, truth, num_good=9, failed=1)
    started, ended = (datetime_s(report["run"][key]) for key in ("started_at", "ended_at"))
    first, last = min(start for start, _ in in_hand), max(end for _, end in in_hand)
    assert ended - started == pytest.approx(last - first, abs=SLACK_S)
    assert ended - started > worked_s + PAUSE_S - SLACK_S
    assert (report["known_succeeded"], report["known_failed"]) == (0, 0)
    submission = report["submission"]
    assert submission["ended_at"]
    assert {key: submission[key] for key in ("new", "known", "duplicate", "problem")} == {
        "new": 9, "known": 0, "duplicate": 1, "problem": 2,
    }  # fmt: skip
    assert submission["ignored"] == ignored
    ((copy, of),) = submission["duplicates"].items()
    assert {Path(copy).name, Path(of).name} == {"0.wav", "copy of 0.wav"}
    assert {(each["path"], each["code"]) for each in submission["problems"]} == {
        (str(talks / "gone.wav"), "source_not_found"),
        (str(talks / "loop.wav"), "source_unreachable"),
    }

    for number in (8, 9):
        truth.add(f"{number}.wav", number)
    truth.begin_run()
    farm.submit("talks", "--batch", "night", code=1)
    farm.wait_done("night")
    report = report_on(farm)
    assert report["counts"]["total"] == 12
    check_run(farm, report, truth, num_good=2, failed=0)
    assert (report["known_succeeded"], report["known_failed"]) == (9, 1)
    assert report["failures"] == []
    assert report["submission"]["new"] == 2
    assert report["submission"]["known"] == 9

    talks.rename(tmp_path / "moved")
    truth.folder = tmp_path / "moved"
    truth.add("10.wav", 10)
    truth.begin_run()
    farm.submit("moved", "--batch", "night", code=1)
    farm.wait_done("night")
    report = report_on(farm)
    # Under their old names, and under the new ones.
    assert report["counts"]["total"] == 12 + 13
    check_run(farm, report, truth, num_good=1, failed=0)
    assert (report["known_succeeded"], report["known_failed"]) == (11 + 11, 2)
    assert report["submission"]["new"] == 1

    stdout, _ = farm.run("report", "night", "--all", "--json", code=1)
    everything = json.loads(stdout)
    assert everything["run"]["succeeded"] == everything["counts"]["succeeded"] == 23
    assert everything["run"]["audio_s"] == pytest.approx(11 * CLIP_S, abs=0.01)
    assert everything["counts"]["failed_by_code"] == {"empty_input": 2}
