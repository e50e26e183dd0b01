"""The command line: results on stdout, everything else on stderr, exit codes as documented."""

import importlib.metadata
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producer import embedded
from producer.connection import connect
from producer.errors import UnsupportedFormat
from producer.job import Job
from producer.keys import EVENTS_KEY, job_key, queue_key, result_key
from producer.result import Audio, Failure, Model, Segment, Timing, Transcript, dump_result
from producer.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


def transcript_of(job_id, job):
    """Return a transcript that says which file it is of."""
    text = f" text of {job.path.name}"
    segment = Segment(
        id=0,
        seek=0,
        start=0.0,
        end=1.5,
        text=text,
        tokens=[1],
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )
    return Transcript(
        job_id=job_id,
        source=job.source,
        text=text,
        language="en",
        segments=[segment],
        audio=Audio(duration_s=1.5, sample_rate_hz=16_000, channels=1, format="WAV"),
        model=Model(name="m", revision="r", dtype="float32"),
        timing=Timing(),
    )


class StandIn:
    """Does what a farm worker does to the documented keys, without a model."""

    def __init__(self, settings):
        self._client = connect(settings)
        self._queues = [queue_key(name) for name in settings.worker.queues]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.beat()
        self._thread.start()

    def beat(self):
        """Register and give a sign of life."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._client.sadd("rq:workers", "rq:worker:stand-in")
        record = {"last_heartbeat": stamp, "queues": "high,default,low"}
        self._client.hset("rq:worker:stand-in", mapping=record)

    def stop(self):
        """End after the job in hand."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def _run(self):
        while not self._stopping.is_set():
            self.beat()
            if popped := self._client.blpop(self._queues, timeout=0.1):
                self._do(popped[1].decode())

    def _do(self, job_id):
        from rq.job import Job as RqJob
        from rq.serializers import JSONSerializer

        read = RqJob.fetch(job_id, connection=self._client, serializer=JSONSerializer)
        job = Job.from_kwargs(read.kwargs)
        result = transcript_of(job_id, job)
        if "broken" in job.source:
            error = UnsupportedFormat("audio", "must be audio", job.path.name)
            result = Failure.from_error(job_id, error, source=job.source)
        status = "finished" if isinstance(result, Transcript) else "failed"
        with self._client.pipeline() as pipe:
            pipe.set(result_key(job_id), dump_result(result), ex=60)
            pipe.hset(job_key(job_id), "status", status)
            pipe.xadd(EVENTS_KEY, {"job_id": job_id, "status": result.status})
            pipe.execute()


@pytest.fixture
def stand_in(settings):
    """Start a worker without a model."""
    worker = StandIn(settings)
    yield worker
    worker.stop()


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
    assert connection.llen(queue_key("default")) == 1


def test_submit_puts_options_and_priority_into_the_job(scribefarm, connection, write_wav):
    """What is asked on the command line lies on top of settings.toml."""
    arguments = ("--language", "de", "--words", "--queue", "high")
    asked = {"SCRIBEFARM_OPTIONS__BEST_OF": "3"}
    done = scribefarm("submit", write_wav(), *arguments, **asked)
    assert done.returncode == 0
    from rq.job import Job as RqJob
    from rq.serializers import JSONSerializer

    job_id = done.stdout.strip()
    read = RqJob.fetch(job_id, connection=connection, serializer=JSONSerializer)
    options = Job.from_kwargs(read.kwargs).options
    assert (options.language, options.word_timestamps, options.best_of) == ("de", True, 3)
    assert connection.lrange(queue_key("high"), 0, -1) == [job_id.encode()]


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


def test_transcribe_uses_a_live_worker_and_prints_in_the_order_given(
    scribefarm, stand_in, write_wav
):
    """Failures go to stderr and to the exit code; the rest is printed."""
    names = ["c.wav", "a.wav", "broken.wav", "b.wav"]
    paths = [write_wav(name, value=number) for number, name in enumerate(names)]
    done = scribefarm("transcribe", *paths, "missing.wav")
    assert done.returncode == 1
    assert done.stdout == "".join(
        f"==> {path} <==\n[00:00.000 --> 00:01.500] text of {path.name}\n"
        for path in paths
        if path.name != "broken.wav"
    )
    assert "error [source_not_found]" in done.stderr
    assert f"error [unsupported_format] {paths[2]}" in done.stderr


def test_transcribe_of_one_file_prints_its_text_alone(scribefarm, stand_in, write_wav):
    """So that it can be piped on."""
    done = scribefarm("transcribe", write_wav(), "--format", "txt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text of tone.wav\n", "")


def test_transcribe_writes_files_and_none_over_another(scribefarm, stand_in, write_wav, tmp_path):
    """Recordings of the same name get files of their own."""
    (tmp_path / "sub").mkdir()
    first, same = write_wav("talk.wav", value=1), write_wav("sub/talk.wav", value=2)
    out = tmp_path / "out"
    done = scribefarm("transcribe", first, same, "--format", "txt,srt", "--output-dir", out)
    assert (done.returncode, done.stdout) == (0, "")
    names = sorted(path.name for path in out.iterdir())
    assert names == ["talk.srt", "talk.txt", "talk.wav.srt", "talk.wav.txt"]
    assert (out / "talk.txt").read_text() == "text of talk.wav\n"


def test_a_recording_transcribed_before_needs_no_worker(scribefarm, settings, write_wav):
    """The transcript is there already."""
    path = write_wav()
    worker = StandIn(settings)
    scribefarm("transcribe", path)
    worker.stop()
    done = scribefarm("transcribe", path, "--format", "txt")
    assert (done.returncode, done.stdout) == (0, "text of tone.wav\n")


def test_a_worker_that_cannot_start_exits_with_3_and_shows_its_last_words(
    scribefarm, write_wav, tmp_path
):
    """The reason is not buried in a log; and the server that was there goes on."""
    done = scribefarm("transcribe", write_wav(), SCRIBEFARM_MODEL__NAME=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"error \[no_worker\] .* ended with code 1 \(got .+\)\n", done.stderr)
    assert "Traceback" not in done.stderr


def test_ctrl_c_says_how_to_come_back(
    start_scribefarm, settings, connection, write_wav, wait_until
):
    """The job stays in the queue and the exit code is the shell's for an interrupt."""
    worker = StandIn(settings)
    worker.stop()
    with start_scribefarm("transcribe", write_wav()) as process:
        wait_until(lambda: connection.llen(queue_key("high")) == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert "0 of 1 done" in stderr
    assert "same command" in stderr
    assert connection.llen(queue_key("high")) == 1


def test_transcribe_stops_the_server_it_started(scribefarm, embedded_dir):
    """And leaves one alone that it found."""
    own = load_settings(redis={"embedded_dir": embedded_dir})
    variables = own.to_environment()
    scribefarm("transcribe", "missing.wav", **variables)
    assert not embedded.status(own).running
    embedded.ensure_running(own)
    scribefarm("transcribe", "missing.wav", **variables)
    assert embedded.status(own).running


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


def test_on_a_terminal_progress_goes_to_stderr_and_the_text_to_stdout(
    start_scribefarm, settings, stand_in, write_wav, tmp_path
):
    """A bar for the watcher, and still nothing but the transcript in the pipe."""
    controller, terminal = pty.openpty()
    variables = {**os.environ, **settings.to_environment(), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "producer", "transcribe", str(write_wav())],
        env=variables,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    stdout, _ = process.communicate(timeout=60)
    shown = b""
    while select.select([controller], [], [], 1)[0]:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # Linux reports the closed terminal as an input/output error
            break
    os.close(controller)
    assert process.returncode == 0
    assert stdout == b"[00:00.000 --> 00:01.500] text of tone.wav\n"
    assert b"transcribing" in shown
    assert b"text of" not in shown
