"""`scribefarm workers`, and pausing one of them: what a person who is responsible for a night sees."""

import json
import time

import pytest
from typer.testing import CliRunner

from producer.__main__ import app
from producer.fleet import live_workers
from producer.keys import FACTS_KEY, LOST_KEY, ROSTER_KEY
from producer.worker_records import LastError, WorkerFacts
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until


@pytest.fixture
def run(farm):
    """Return a function that runs a command on the farm's server."""
    runner = CliRunner(env={"SCRIBEFARM_REDIS__URL": farm.url})
    return lambda *words: runner.invoke(app, words)


def say(farm, name, *, key=ROSTER_KEY, in_s=60.0, **facts):
    """Let a worker that is not there have said something of itself."""
    facts = WorkerFacts(queues=("default",), lease_s=30.0, version="1", **facts)
    farm.connection.hset(FACTS_KEY, name, facts.to_json())
    farm.connection.zadd(key, {name: time.time() + in_s})
    for each in (FACTS_KEY, key):
        farm.connection.expire(each, 60)


def test_a_row_for_each_worker(farm, run):
    """What it does, how fast, with what load; then what is wrong, with what can be done."""
    load = {"model": "turbo", "slots": 16, "capacity": 18, "in_flight": 18, "rows": 15.5}
    for number in range(4):
        say(farm, f"mini-{number}-{number:08x}", audio_s_per_s=40.0, **load)
    say(farm, "mini-8-00000008", audio_s_per_s=12.0, **load)
    say(farm, "mini-9-00000009", key=LOST_KEY, in_s=-600.0, **load)
    say(farm, "late-0000000a", in_s=-2.0)
    shown = run("workers")
    assert shown.exit_code == 1
    lines = shown.stdout.splitlines()
    assert lines[0].split()[:3] == ["WORKER", "DOES", "SPEED"]
    (row,) = [line for line in lines if line.startswith("mini-1-")]
    assert row.split()[1:5] == ["busy", "40.0x", "18/18", "15.5/16"]
    assert "turbo" in row
    text = shown.stdout
    assert "! slow: 12.0x is under half of its peers' median" in text
    assert "mini-9-00000009  lost at" in text
    assert "! no heartbeat for 32 s" in text
    assert lines[-1] == "5 alive, 3 to look at"


def test_long_says_what_they_have_in_hand_and_their_last_error(farm, run):
    """Names are inert: no control character reaches the terminal."""
    error = LastError(code="corrupt_audio", message="a\x1b[31mred\nline")
    say(farm, "mini-1-00000001", recordings=("a\x1b[2Jb.wav", "c\u202e.wav"), last_error=error)
    shown = run("workers", "--long").stdout
    assert "in hand: a\\x1b[2Jb.wav" in shown
    assert "last error: [corrupt_audio] a\\x1b[31mred\\nline" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_json_has_everything(farm, run):
    """By name, and with the marks."""
    say(farm, "mini-1-00000001", family="whisper", audio_s_per_s=3.5)
    farm.connection.hset(FACTS_KEY, "odd-00000002", "{")
    farm.connection.zadd(ROSTER_KEY, {"odd-00000002": time.time() + 60})
    document = json.loads(run("workers", "--json").stdout)
    first, odd = document["workers"]
    assert next(iter(first)) == "name"
    assert (first["known_as"], first["family"], first["marks"]) == ("mini-1", "whisper", [])
    assert (odd["name"], odd["marks"]) == ("odd-00000002", ["damaged"])


def test_without_workers_the_way_to_one_is_shown(farm, run):
    """Nobody is sick where nobody is."""
    shown = run("workers")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "scribefarm-worker run" in shown.stderr


def test_a_pause_and_a_resume_by_name(farm, run):
    """Of a worker that is there; the names are said of another."""
    engine = FakeEngine()
    farm.start(engine)
    wait_until(
        lambda: [each for each in live_workers(farm.connection, farm.settings) if each.version]
    )
    paused = run("pause", "thr", "--for", "8h")
    assert (paused.exit_code, paused.stderr) == (0, "thread is paused for 8h\n")
    assert "paused until" in run("workers").stdout
    (job_id,) = farm.submit(job("a"))
    unknown = run("pause", "nobody")
    assert isinstance(unknown.exception, Exception)
    assert "alive are thread" in str(unknown.exception)
    assert farm.state(job_id) == "queued"
    resumed = run("resume", "thread")
    assert (resumed.exit_code, resumed.stderr) == (0, "thread goes on\n")
    assert farm.result(job_id).status == "succeeded"


@pytest.mark.parametrize("duration", ["", "0s", "x", "-1h", "366d", "1w", "\u0663h"])
def test_a_wrong_duration_pauses_nobody(farm, run, duration):
    """Refused before anything is asked."""
    wrong = run("pause", "--for", duration)
    assert "must be like 90s" in str(wrong.exception)
