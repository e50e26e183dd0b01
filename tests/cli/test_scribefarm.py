"""The command line: results on stdout, everything else on stderr, exit codes as documented."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from producer.job import Job
from producer.keys import job_key, queue_key, result_key
from producer.settings import load_settings


def test_version_and_help_need_no_settings(scribefarm):
    """They work where everything else is wrong; the help shows examples and exit codes."""
    broken = {"SCRIBEFARM_QUEUE__MAX_QUEUED": "-1"}
    version = scribefarm("--version", **broken)
    assert version.stdout == f"scribefarm {importlib.metadata.version('scribefarm')}\n"
    for command in ("transcribe", "submit", "result", "config", "server"):
        shown = scribefarm(command, "--help", **broken)
        assert shown.returncode == 0
        assert "Example" in shown.stdout or command == "server"
    assert "Exit codes" in scribefarm("--help", **broken).stdout


def test_the_installed_scripts_are_there():
    """What users type is what we test with -m."""
    script = Path(sys.executable).with_name("scribefarm")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("scribefarm ")


def test_submit_prints_job_ids_and_nothing_else_on_stdout(scribefarm, write_wav):
    """Problems of single files go to stderr and do not stop the rest."""
    one, two = write_wav("one.wav", value=1), write_wav("two.wav", value=2)
    done = scribefarm("submit", one, "missing.wav", two)
    assert done.returncode == 1
    assert re.fullmatch(r"([0-9a-f]{32}\n){2}", done.stdout)
    assert re.match(r"error \[source_not_found\] .*missing\.wav", done.stderr)


def test_submit_twice_prints_the_same_ids(scribefarm, connection, write_wav):
    """Nothing is enqueued again."""
    path = write_wav()
    first, second = scribefarm("submit", path), scribefarm("submit", path)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert connection.llen(queue_key("default@tiny.en")) == 1


def test_submit_says_that_no_worker_has_the_model(scribefarm, connection, write_wav):
    """A line on stderr with the way to one; the ids stay alone on stdout."""
    done = scribefarm("submit", write_wav(), SCRIBEFARM_MODEL__NAME="base")
    assert re.fullmatch(r"[0-9a-f]{32}\n", done.stdout)
    line = (
        "1 job waits for base; no worker has it: start one: scribefarm-worker run"
        " with SCRIBEFARM_MODEL__NAME=base"
    )
    assert line in done.stderr.splitlines()
    assert line in scribefarm("status").stdout.splitlines()
    assert connection.llen(queue_key("default@base")) == 1


def test_submit_puts_options_and_priority_into_the_job(scribefarm, connection, write_wav):
    """What is asked on the command line lies on top of settings.toml."""
    arguments = ("--language", "de", "--words", "--queue", "high")
    asked = {"SCRIBEFARM_OPTIONS__BEST_OF": "3", "SCRIBEFARM_MODEL__NAME": "base"}
    done = scribefarm("submit", write_wav(), *arguments, **asked)
    assert done.returncode == 0
    from rq.job import Job as RqJob
    from rq.serializers import JSONSerializer

    job_id = done.stdout.strip()
    read = RqJob.fetch(job_id, connection=connection, serializer=JSONSerializer)
    options = Job.from_kwargs(read.kwargs).options
    assert (options.language, options.word_timestamps, options.best_of) == ("de", True, 3)
    assert connection.lrange(queue_key("high@base"), 0, -1) == [job_id.encode()]


def test_a_full_queue_is_a_typed_error(scribefarm, write_wav):
    """With value and limit."""
    few = {"SCRIBEFARM_QUEUE__MAX_QUEUED": "1"}
    assert scribefarm("submit", write_wav("a.wav", value=1), **few).returncode == 0
    done = scribefarm("submit", write_wav("b.wav", value=2), "--no-wait", **few)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error [queue_full]" in done.stderr
    assert "max_queued is 1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "No such command"),
        (["submit"], "needs files"),
        (["submit", "x.wav", "--priority", "urgent"], "'urgent' is not one of"),
        (["submit", "x.wav", "--task", "sing"], "'transcribe' or 'translate' (got sing)"),
        (["result", "x", "--format", "doc"], "(got doc)"),
        (["transcribe", "x.wav", "--format", "txt,srt"], "several formats need --output-dir"),
        (["--settings", "nowhere.toml", "config"], "error [invalid_settings] --settings"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_right(scribefarm, arguments, said):
    """Found before anything is sent."""
    done = scribefarm(*arguments, TERMINAL_WIDTH="200")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_exit_with_2(scribefarm):
    """One line with variable, key, value and bound."""
    done = scribefarm("submit", "x.wav", SCRIBEFARM_AUDIO__THREADS="99")
    assert done.returncode == 2
    assert done.stderr == (
        "error [invalid_settings] env SCRIBEFARM_AUDIO__THREADS: audio.threads: "
        "Input should be less than or equal to 64 (got 99)\n"
    )


def test_no_server_exits_with_3_within_seconds(scribefarm, write_wav):
    """The address is named, the password is not."""
    nowhere = {"SCRIBEFARM_REDIS__URL": "redis://:hush@127.0.0.1:1/0"}
    for arguments in (["submit", write_wav()], ["result", "x"], ["server", "status"]):
        done = scribefarm(*arguments, **nowhere)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("error [server_unreachable] 127.0.0.1:1")
        assert "hush" not in done.stderr


def test_result_of_an_unknown_job_is_a_typed_error(scribefarm):
    """A typing mistake is not an endless wait."""
    for arguments in (["nope"], ["nope", "--wait"]):
        done = scribefarm("result", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "error [job_not_found]" in done.stderr


def test_result_of_a_waiting_job_says_so_and_exits_with_1(scribefarm, write_wav):
    """Stdout stays empty, so that a script cannot take the message for a transcript."""
    job_id = scribefarm("submit", write_wav()).stdout.strip()
    done = scribefarm("result", job_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is queued, not done" in done.stderr


def test_waiting_with_no_worker_alive_exits_with_3(scribefarm, write_wav):
    """Nobody would ever do it; the message says how to start one."""
    job_id = scribefarm("submit", write_wav()).stdout.strip()
    done = scribefarm("result", job_id, "--wait")
    assert (done.returncode, done.stdout) == (3, "")
    assert "error [no_worker]" in done.stderr
    assert "scribefarm-worker run" in done.stderr


def test_waiting_ends_at_its_timeout(scribefarm, stand_in, write_wav, connection):
    """A worker is alive, but the job does not get done."""
    job_id = scribefarm("submit", write_wav(), "--queue", "low").stdout.strip()
    connection.delete(result_key(job_id))
    connection.hset(job_key(job_id), "status", "started")
    done = scribefarm("result", job_id, "--wait", "--timeout", "0.5")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("txt", "text of tone.wav\n"),
        ("timed", "[00:00.000 --> 00:01.500] text of tone.wav\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,500\ntext of tone.wav\n\n"),
    ],
)
def test_result_prints_the_transcript_in_a_format(scribefarm, stand_in, write_wav, name, expected):
    """And only the transcript."""
    job_id = scribefarm("submit", write_wav()).stdout.strip()
    done = scribefarm("result", job_id, "--wait", "--format", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_result_as_json_is_the_stored_record(scribefarm, stand_in, write_wav):
    """Done or failed, scripts read the same versioned schema."""
    good = scribefarm("submit", write_wav("good.wav", value=1)).stdout.strip()
    bad = scribefarm("submit", write_wav("broken.wav", value=2)).stdout.strip()
    done = scribefarm("result", good, "--wait", "--json")
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert (record["schema"], record["status"], record["job_id"]) == (1, "succeeded", good)
    failed = scribefarm("result", bad, "--wait", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["code"] == "unsupported_format"


def test_result_of_a_failed_job_is_its_typed_error(scribefarm, stand_in, write_wav):
    """On stderr, with the file; a retry can be asked for."""
    path = write_wav("broken.wav")
    job_id = scribefarm("submit", path).stdout.strip()
    done = scribefarm("result", job_id, "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error [unsupported_format] {path}: audio: must be audio (got broken.wav)\n"
    )
    assert "1 known already" in scribefarm("submit", path).stderr
    assert "1 enqueued" in scribefarm("submit", path, "--retry-failed").stderr


def test_server_status_and_stop(scribefarm, embedded_dir, write_wav):
    """Submit leaves the server running; status says where it is; stop ends it."""
    variables = load_settings(redis={"embedded_dir": embedded_dir}).to_environment()
    assert scribefarm("server", "status", **variables).returncode == 3
    scribefarm("submit", write_wav(), **variables)
    shown = scribefarm("server", "status", "--json", **variables)
    assert shown.returncode == 0
    status = json.loads(shown.stdout)
    assert (status["running"], status["data"]) == (True, str(embedded_dir))
    os.kill(status["pid"], 0)
    assert scribefarm("server", "stop", **variables).stderr == "stopped\n"
    assert scribefarm("server", "stop", **variables).stderr == "was not running\n"
    assert scribefarm("server", "status", **variables).returncode == 3


def test_a_server_that_is_not_ours_is_not_stopped(scribefarm):
    """With redis.url set there is nothing to stop here."""
    done = scribefarm("server", "stop", SCRIBEFARM_REDIS__URL="redis://farm")
    assert done.returncode == 2


def test_config_shows_value_and_origin_and_masks_secrets(scribefarm, tmp_path):
    """In lines for people and in JSON for programs."""
    (tmp_path / "farm.toml").write_text("[queue]\nmax_queued = 5\n")
    secret = {
        "SCRIBEFARM_SETTINGS": "farm.toml",
        "SCRIBEFARM_REDIS__URL": "rediss://me:hush@farm/0",
        "SCRIBEFARM_QUEUE__MAX_QUEUED": "",
    }
    lines = scribefarm("config", **secret)
    assert lines.returncode == 0
    assert re.search(
        r'redis\.url = "rediss://\*\*\*@farm/0" +env SCRIBEFARM_REDIS__URL', lines.stdout
    )
    assert re.search(r"queue\.max_queued = 5 +file farm\.toml", lines.stdout)
    shown = json.loads(scribefarm("config", "--json", **secret).stdout)
    assert shown["queue.max_queued"] == {"value": 5, "origin": "file farm.toml"}
    assert shown["log.level"]["value"] == "info"
    assert "hush" not in lines.stdout + json.dumps(shown)
