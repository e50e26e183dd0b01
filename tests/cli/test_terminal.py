"""What each command prints: results on stdout alone, and nothing hostile on a terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import unicodedata

import pytest

from producer.keys import worker_key
from producer.queue import job_state
from tests.cli.stand_in import StandIn

# What rich and click draw with: colors, the cursor shown and hidden, lines redrawn.
STYLING = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|\d*[AK]|\dK)|\r")
ATTACK = "\x1b]0;t\x07\x1b[2J\x9b5m\u202egnp\u2028\nforged"


class Terminal:
    """Runs commands on a terminal and keeps what they put there."""

    def __init__(self, settings, folder):
        self._environment = {**os.environ, **settings.to_environment(), "TERM": "xterm"}
        self._folder = folder

    def run(self, *arguments, timeout_s=60):
        """Return all that a command printed, on stdout and stderr."""
        controller, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "producer", *map(str, arguments)],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        shown: list[bytes] = []
        reader = threading.Thread(target=_read_all, args=(controller, shown))
        reader.start()
        process.wait(timeout_s)
        reader.join()
        os.close(controller)
        return b"".join(shown).decode()


def _read_all(controller, shown):
    while select.select([controller], [], [], 60)[0]:
        try:
            shown.append(os.read(controller, 65536))
        except OSError:  # Linux reports the closed terminal as an input/output error
            return


def raw_controls(shown):
    """Return what a terminal would act on, our own styling apart."""
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    rest = STYLING.sub("", shown).replace("\n", "").replace("\t", "")
    return sorted({char for char in rest if unicodedata.category(char) in hidden})


@pytest.fixture
def hostile_farm(settings, connection, tmp_path, write_wav):
    """Return a worker, its folder of recordings whose names are attacks, and a worker's name."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number, name in enumerate((f"good{ATTACK}.wav", f"broken{ATTACK}.wav")):
        shutil.move(write_wav(value=number), folder / name)
    (folder / f"dangling{ATTACK}.wav").symlink_to("nowhere")
    worker = StandIn(settings)
    record = connection.hgetall(worker_key("stand-in"))
    connection.hset(worker_key(f"mac{ATTACK}"), mapping=record)
    connection.sadd("rq:workers", worker_key(f"mac{ATTACK}"))
    yield folder
    worker.stop()


@pytest.mark.slow
def test_no_command_puts_a_raw_control_on_a_terminal(
    hostile_farm, settings, connection, tmp_path, wait_until
):
    """File, batch and worker names, messages and transcripts with escape sequences in them."""
    terminal = Terminal(settings, tmp_path)
    shown = {"submit": terminal.run("submit", hostile_farm, "--batch", "b")}
    job_ids = [job.decode() for job in set(connection.hvals("scribefarm:batch:b"))]
    assert len(job_ids) == 2
    wait_until(lambda: all(job_state(connection, job) in {"finished", "failed"} for job in job_ids))
    for arguments in (
        ("status",),
        ("status", "b"),
        ("watch", "b"),
        ("errors", "b"),
        ("report", "b"),
        ("results", "b", "-o", tmp_path / "out"),
        ("results", "b", "-o", tmp_path / "out", "--json"),
        ("result", job_ids[0]),
        ("result", job_ids[1]),
        ("result", ATTACK),
        ("events",),
        ("config",),
        ("server", "status"),
        ("transcribe", *sorted(hostile_farm.iterdir())),
        ("cancel", ATTACK),
        ("retry", "b"),
        ("status", ATTACK),
        ("submit", hostile_farm, "--dry-run"),
        ("submit", "--manifest", f"{ATTACK}.csv"),
    ):
        shown[" ".join(map(str, arguments))] = terminal.run(*arguments)
    assert {
        command: found for command, text in shown.items() if (found := raw_controls(text))
    } == {}
    assert r"\x1b]0;t\x07\x1b[2J\x9b5m\u202e" in shown["errors b"]


def test_a_useless_cache_folder_is_said_on_stderr_alone(scribefarm, settings, write_wav, tmp_path):
    """`job=$(scribefarm submit talk.wav)` holds the job's id and nothing else."""
    (tmp_path / "file").write_text("no folder")
    done = scribefarm("submit", write_wav(), XDG_CACHE_HOME=str(tmp_path / "file"))
    assert re.fullmatch(r"[0-9a-f]{32,64}\n", done.stdout), done.stdout
    assert "hash_cache_unusable" in done.stderr


def test_the_relay_says_retries_soon_on_stderr_without_the_webhooks_secrets(
    start_scribefarm, connection, wait_until, tmp_path
):
    """A dead receiver is named at the first try; path and query of its URL are nobody's business."""
    connection.xadd("scribefarm:events", {"job_id": "a", "status": "succeeded"})
    process = start_scribefarm(
        "relay",
        "--url",
        "http://user:hush@127.0.0.1:9/hidden-path?token=hidden-query",
        "--from-start",
        WEBHOOK_SECRET="whsec_" + "A" * 40,
    )
    line = process.stderr.readline()
    process.terminate()
    stdout, rest = process.communicate(timeout=30)
    assert "webhook_unanswered" in line
    assert "http://127.0.0.1:9/***" in line
    assert stdout == ""
    assert not re.search("hush|hidden", line + rest)


def test_traceback_shows_where_an_error_came_from(scribefarm):
    """Of errors that we know as well."""
    done = scribefarm("--traceback", "submit", "--manifest", "none.csv")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "manifest.py" in done.stderr
    assert "NoneType" not in done.stderr
