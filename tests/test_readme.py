"""The documents' examples, run as they stand there: shell, Python, an RQ program, a webhook.

They run on a real server, and the farm's worker reads real recordings; its decoder is a fake, but
for the two examples that show a transcript. What the documents say is checked in
test_readme_claims.py.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from redis import Redis
from rq import Queue
from rq.job import Job as RQJob

import producer
from producer.archive.manifest import Row
from producer.fleet import live_workers
from producer.job import Job
from producer.keys import EVENTS_KEY, batch_key, result_key
from tests.producer.test_webhooks import Receiver
from tests.stage.archive_farm import ArchiveFarm
from tests.stage.farm import wait_until
from tests.stage.readme import INLINE, ROOT, block

BIN = Path(sys.executable).parent
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def archive_farm(tmp_path_factory):
    """Return a farm with one worker, which all examples share."""
    # A busy machine may keep it from a beat for longer than the lease of other tests.
    farm = ArchiveFarm(tmp_path_factory.mktemp("readme"), lease_s=30.0)
    farm.start_worker()
    wait_until(lambda: live_workers(farm.connection, farm.settings), timeout_s=60.0)
    yield farm
    farm.stop()


@pytest.fixture
def desk(archive_farm, tmp_path, monkeypatch):
    """Return a folder to work in, with the recordings that the examples name; it is the cwd."""
    recordings = ("archive/talk.wav", "archive/reel 2.flac", "archive/drafts/take.wav")
    others = ("interview.wav", "interviews/a.wav", "interviews/b.wav", "incoming/c.wav")
    for number, name in enumerate(recordings + others):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        samples = np.random.default_rng(number).normal(0, 0.1, RATE_HZ // 4)
        soundfile.write(path, samples, RATE_HZ)
    for name, value in {**archive_farm.environment, "PATH": f"{BIN}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connection(archive_farm):
    """Return a client that knows nothing of ours."""
    with Redis.from_url(archive_farm.server.url) as client:
        yield client


def run_shell(text, code=0):
    """Run shell text and return what it printed."""
    done = subprocess.run(["bash", "-uo", "pipefail", "-c", text], capture_output=True, check=False)
    assert done.returncode == code, (text, done.returncode, done.stdout, done.stderr)
    return done.stdout.decode()


def run_lines(text, codes=()):
    """Run each line on its own and return what it printed, by its command."""
    lines = text.strip().splitlines()
    wanted = [*codes, *[0] * (len(lines) - len(codes))]
    return [run_shell(line, code) for line, code in zip(lines, wanted, strict=True)]


def run_python(text):
    """Run a Python example and return the names it made."""
    namespace = {"__name__": "example"}
    exec(compile(text, "example", "exec"), namespace)
    return namespace


@pytest.mark.weights
def test_the_demo_prints_what_it_is_said_to_print(tmp_path):
    """The first command that a stranger types, on the recording that every clone has."""
    command = shlex.split(block("demo"), comments=True)
    # Set up already, or this test would not run.
    command += ["-o", "setup", f"AUDIO={CLIP}", f"RUN={BIN}"]
    environment = {**os.environ, "TMPDIR": "/tmp", "HOME": str(tmp_path)}
    # A make around the tests (`make test`) would have this one talk about folders, too.
    for name in ("LD_PRELOAD", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, block("demo output")), done.stderr


@pytest.mark.slow
@pytest.mark.weights
def test_the_utterance_example_gives_the_text(tmp_path, monkeypatch, capsys):
    """One call, one recording, the real model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(CLIP, "talk.wav")
    run_python(block("utterance"))
    text, finish = capsys.readouterr().out.splitlines()
    # An utterance takes each likeliest token, the demo follows five beams: they differ in commas.
    said, words = " ".join(re.findall(r"\] (.+)", block("demo output"))), re.compile(r"\w+")
    assert words.findall(text.lower()) == words.findall(said.lower())
    assert finish.startswith("stop ")


def transcribed(recording):
    """Have a recording transcribed and return its job's id."""
    ((_, result),) = producer.results(producer.submit([recording]).batch, timeout_s=60)
    return result.job_id


def test_the_transcribe_example_writes_its_files(desk):
    """On a farm whose worker lives, which it uses."""
    run_shell(block("transcribe"))
    written = sorted(path.name for path in (desk / "texts").iterdir())
    assert written == ["a.srt", "a.txt", "b.srt", "b.txt"]


def test_an_evening_and_a_morning(desk):
    """The archive's person, with one broken recording in the archive."""
    (desk / "archive" / "noise.wav").write_bytes(b"no audio at all")
    planned, batch, watched = run_lines(block("evening"), [0, 0, 1])
    assert "3 would be enqueued" in planned
    assert batch == "archive\n"
    assert "3/3 done, 1 failed (unsupported_format 1)" in watched
    _, files, listed, again, resubmitted = run_lines(block("morning"), [1, 1, 1, 0, 0])
    assert "noise.wav" in (desk / "report.html").read_text()
    names = {"talk.txt", "talk.srt", "reel 2.txt", "reel 2.srt"}
    assert {Path(line).name for line in files.splitlines()} == names
    assert "unsupported_format" in listed
    assert again == ""
    assert resubmitted == "archive\n"


def test_the_other_ways_to_submit(desk, connection):
    """A pattern, a list on stdin, a manifest as shown, whose data come back."""
    (desk / "recordings.jsonl").write_text(block("manifest"))
    assert len([Row.model_validate_json(line) for line in block("manifest").splitlines()]) == 2
    run_lines(block("submissions"))
    jobs = connection.hvals(batch_key("interviews"))
    keys = [result_key(job.decode()) for job in jobs]
    stored = [json.loads(text) for text in wait_until(lambda: all_of(connection.mget(keys)))]
    assert {result["source"] for result in stored} == {
        str(desk / "archive" / name) for name in ("talk.wav", "reel 2.flac")
    }
    assert {"id": 17, "speaker": "B. B."} in [result["metadata"] for result in stored]


def test_the_plan_of_the_example_is_by_arithmetic(desk):
    """Four machines that nobody has measured, by night."""
    (said,) = run_lines(block("plan"))
    assert "5,000 h of audio" in said
    assert "4 by arithmetic, not measured" in said
    assert "22:00-06:00" in said


def test_the_stdin_example_writes_subtitles(desk):
    """A recording in a pipe, whose file goes with the command."""
    run_shell(block("stdin"))
    assert (desk / "interview.srt").read_text().startswith("1\n00:00:00,000 --> ")


def all_of(values):
    """Return the values if none is missing."""
    return None if None in values else values


def test_the_python_example_prints_each_text(desk, capsys):
    """Folders and files, results as they come."""
    run_python(block("python"))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("  ")[0] for line in lines) == [
        "archive/drafts/take.wav",
        "archive/reel 2.flac",
        "archive/talk.wav",
        "interview.wav",
    ]
    assert all(" heard " in line for line in lines)


def test_the_rq_program_gets_its_text_from_a_stock_worker(
    desk, connection, archive_farm, monkeypatch
):
    """Neither program nor follower imports anything of ours."""
    monkeypatch.setenv("REDIS_URL", archive_farm.server.url)
    program = block("rq program").replace("/archive/", f"{desk}/archive/")
    assert "producer" not in program + block("rq tasks")
    (desk / "mail_tasks.py").write_text(block("rq tasks"))
    subprocess.run([sys.executable, "-c", program], check=True)
    mail = Queue("mail", connection=connection, serializer="json")
    (follower,) = wait_until(mail.get_job_ids)
    (command,) = [code for code in INLINE if code.startswith("rq worker mail")]
    stock = ["--url", archive_farm.server.url, "--burst", "--worker-class", "rq.SimpleWorker"]
    subprocess.run([BIN / "rq", *command.split()[1:], *stock], check=True, capture_output=True)
    done = RQJob.fetch(follower, connection, serializer="json")
    assert done.return_value().startswith(" heard ")
    transcription = done.fetch_dependencies()[0]
    pointer = {"result_key": result_key(transcription.id), "status": "succeeded"}
    assert transcription.return_value() == pointer
    assert set(transcription.kwargs) <= set(Job.model_fields)


def test_the_shell_loop_writes_subtitles(desk):
    """A file beside each recording."""
    run_shell(block("shell loop"))
    assert "heard" in (desk / "incoming" / "c.srt").read_text()


def test_the_events_loop_takes_events_as_they_come(desk, connection):
    """It runs until it is stopped."""
    process = subprocess.Popen(["bash", "-c", block("shell events")], start_new_session=True)
    taken = desk / "events.jsonl"
    event = {"job_id": "j", "status": "succeeded", "code": "", "worker": "w", "batch": "b"}

    def is_taken():
        # Only news are followed, and nobody can see from outside whether it listens yet.
        connection.xadd(EVENTS_KEY, event)
        return taken.exists() and taken.read_text().endswith("\n")

    try:
        wait_until(is_taken, every_s=0.2)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    assert json.loads(taken.read_text().splitlines()[0])["job_id"] == "j"


def test_the_polling_example_says_when_a_batch_is_done(desk):
    """Submitting again is harmless, as a task that is tried again needs it."""
    example = run_python(block("polling"))
    batch = example["submit_archive"]()
    assert example["submit_archive"]() == batch
    wait_until(lambda: example["is_transcribed"](batch))


def test_a_result_is_read_by_key_with_a_plain_client(desk, connection):
    """No library of ours: the key that the example shows, and JSON."""
    job = transcribed("interview.wav")
    *_, verb, key = shlex.split(block("redis-cli"))
    assert verb == "GET"
    stored = json.loads(connection.execute_command(verb, key.replace("$job", job)))
    assert (stored["schema"], stored["status"]) == (1, "succeeded")
    assert stored["text"].startswith(" heard ")


def test_the_relay_posts_and_the_receiver_verifies(desk, connection):
    """With the standard's own library, and nothing accepted that is forged."""
    job = transcribed("interview.wav")
    receiver = Receiver()
    try:
        relay = block("webhook").replace("https://example.org/hook", receiver.url)
        run_shell(f"{relay.rstrip()} --once --from-start")
    finally:
        receiver.stop()
    job_of = run_python(block("webhook receiver"))["job_of"]
    secret = (desk / "secret").read_text().strip()
    jobs = [job_of(secret, body, headers) for headers, body in receiver.received]
    assert job in jobs
    headers, body = receiver.received[0]
    with pytest.raises(Exception, match="signature"):
        job_of(secret, body + b" ", headers)
