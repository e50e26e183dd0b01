"""The program `scribefarm-worker`, from the outside."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from producer import embedded
from producer.queue import submit
from tests.stage.fake_engine import job
from tests.stage.farm import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]


def run_worker(*arguments, **environment):
    """Run the program to its end."""
    variables = {key: value for key, value in os.environ.items() if "SCRIBEFARM" not in key}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_the_signals_and_the_exit_codes():
    """What an operator must know is in the help."""
    shown = run_worker("run", "--help")
    assert shown.returncode == 0
    for word in ("SIGTERM", "grace_s", "Exit codes", "130"):
        assert word in shown.stdout


def test_without_a_server_it_ends_with_3_within_seconds_and_without_a_traceback():
    """The line says which address did not answer."""
    port = free_port()
    ended = run_worker("run", SCRIBEFARM_REDIS__URL=f"redis://user:s3cret@127.0.0.1:{port}")
    assert ended.returncode == 3
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "s3cret" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("bench",), ("models", "list"), ("calibrate",), ("accept",), ("run", "--burst")]
)
def test_without_the_workers_packages_a_command_says_how_to_get_them(
    arguments, tmp_path, embedded_dir
):
    """Where only the light side is installed; never a traceback."""
    for package in ("mlx", "huggingface_hub"):
        (tmp_path / package).mkdir()
        text = f"raise ModuleNotFoundError('No module named {package}', name='{package}')\n"
        (tmp_path / package / "__init__.py").write_text(text, encoding="utf-8")
    variables = {"PYTHONPATH": str(tmp_path), "SCRIBEFARM_REDIS__EMBEDDED_DIR": str(embedded_dir)}
    ended = run_worker(*arguments, **variables)
    assert ended.returncode == 2
    assert "to install: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SCRIBEFARM_WORKER__LEASE_S", "-1"), ("SCRIBEFARM_WORKER__LEASES", "1")],
)
def test_wrong_settings_end_with_2_and_name_the_key(variable, value):
    """Out of bounds, or misspelt."""
    ended = run_worker("run", **{variable: value})
    assert ended.returncode == 2
    assert "lease" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


def test_a_named_settings_file_that_is_absent_ends_with_2():
    """The path is in the message."""
    ended = run_worker("run", "--settings", "/no/such/settings.toml")
    assert ended.returncode == 2
    assert "/no/such/settings.toml" in ended.stderr


def test_a_broken_model_ends_the_worker_before_it_claims_anything(settings, connection, tmp_path):
    """Nobody's job is taken by a worker that cannot do it."""
    connection.rpush("rq:queue:default", "waiting")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    ended = run_worker(
        "run",
        "--burst",
        SCRIBEFARM_REDIS__URL=f"unix://{embedded.status(settings).socket}",
        SCRIBEFARM_MODEL__NAME=str(tmp_path / "model"),
    )
    assert ended.returncode == 1
    assert "invalid_model" in ended.stderr
    assert connection.llen("rq:queue:default") == 1
    assert connection.scard("rq:workers") == 0


def test_logs_are_json_lines_on_stderr_when_it_is_no_terminal(settings, connection, tmp_path):
    """One object a line, and nothing on stdout."""
    submit(connection, settings, [job("a")])
    url = f"unix://{embedded.status(settings).socket}"
    document = settings.model_dump_json(exclude={"redis"})
    log = tmp_path / "worker.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.farm_process", url, document],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    # A worker that does jobs hears signals.
    wait_until(lambda: "succeeded" in log.read_text())
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=30)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert stdout == b""
    events = ["worker_started", "job", "draining", "worker_stopped"]
    assert [line["event"] for line in lines] == events
    assert all({"level", "timestamp"} <= line.keys() for line in lines)


@pytest.mark.parametrize("style", ["json", "console"])
def test_tracebacks_in_the_log_show_no_local_variables(style):
    """They hold whole settings, tensors, and other people's words."""
    program = (
        "import structlog; from producer import log; from producer.settings import LogSettings\n"
        f"log.configure(LogSettings(format={style!r}))\n"
        "def fail(secret_argument):\n"
        "    raise ValueError('visible')\n"
        "try:\n"
        "    fail('hidden-' + 'value')\n"
        "except ValueError:\n"
        "    structlog.get_logger().exception('failed')\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "visible" in shown.stderr
    assert "hidden-value" not in shown.stderr
    assert shown.stdout == ""
