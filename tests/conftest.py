"""What all tests share: a real server, a real command line, and ways to wait without sleeping."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import pytest
import structlog

from producer import embedded
from producer.connection import connect
from producer.keys import EVENTS_KEY
from producer.settings import Settings, load_settings
from tests.stage.command import run_command
from tests.stage.web import Server

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
# An x86 processor has two networks; a Mac and a GPU have MLX's alone, which is no `mlx` test there.
BACKENDS = (
    ["numpy", pytest.param("mlx", marks=pytest.mark.mlx)]
    if platform.machine() in {"x86_64", "AMD64"}
    else ["mlx"]
)


def pytest_configure():
    """Let no test depend on signals that were ignored where pytest was started.

    A shell without job control starts `pytest &` with SIGINT ignored, and programs inherit that. A
    handler is not inherited: what the tests start has the default again.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


# Thirty seconds of speech take the reference BLAS 20 s with tiny.en and 50 s with base.
MLX_TIMEOUT_S = 3600


def pytest_collection_modifyitems(items):
    """Give MLX's network on a CPU the time that it takes there."""
    for item in items:
        if item.get_closest_marker("mlx"):
            item.add_marker(pytest.mark.timeout(MLX_TIMEOUT_S), append=False)


def pytest_runtest_setup(item):
    """Skip tests of recordings that a stranger's clone has not; in CI their absence is an error."""
    if item.get_closest_marker("archive") and not SHARED_DATA.is_dir():
        reason = f"needs the recordings in {SHARED_DATA}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_logging_of_another_test():
    """A program that ran in this process has set levels and forms of log lines."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch):
    """Keep the developer's own farm out of the tests."""
    for variable in [name for name in os.environ if name.upper().startswith("SCRIBEFARM_")]:
        monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of recordings; tests that use it are marked `archive`."""
    return SHARED_DATA


@pytest.fixture
def embedded_dir():
    """Return a private folder for a server of the test's own, which is stopped at the end."""
    # Not tmp_path: its long names do not fit into a Unix socket's address.
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    yield folder
    embedded.stop(Settings(redis={"embedded_dir": folder}))
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server_settings():
    """Return settings of one embedded server that all tests share."""
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    settings = load_settings(redis={"embedded_dir": folder})
    embedded.ensure_running(settings)
    yield settings
    embedded.stop(settings)
    shutil.rmtree(folder)


@pytest.fixture
def settings(server_settings, connection):
    """Return settings of a server that is empty when the test starts."""
    return server_settings


@pytest.fixture
def connection(server_settings):
    """Return a connection to an empty server; afterwards no key of ours may live for ever."""
    with connect(server_settings) as client:
        client.flushall()
        yield client
        immortal = [
            key
            for key in client.scan_iter("scribefarm:*")
            if client.ttl(key) == -1 and key != EVENTS_KEY.encode()
        ]
        assert immortal == []


@pytest.fixture
def farm(settings, connection):
    """Return a farm on an empty server; its workers end with the test and leave no lease behind."""
    # Tests of the engine do without the queue.
    from tests.stage.farm import Farm

    farm = Farm(f"unix://{embedded.status(settings).socket}")
    yield farm
    farm.stop()


@pytest.fixture
def web():
    """Return a web server of the test's own."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def wait_until():
    """Return a function that waits for a condition and gives its value, or fails at a deadline."""

    def wait(condition, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.02)
        pytest.fail(f"not true within {timeout_s} s: {condition}")

    return wait


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request):
    """Return which network computes with real weights, "numpy" or "mlx"."""
    return request.param


@pytest.fixture(scope="session")
def tiny_en(backend):
    """Return the real tiny.en for the test's own thread; the engine has another."""
    # The producer's tests do without MLX.
    import mlx.core as mx

    from worker.models.whisper.backend import make_network
    from worker.models.whisper.weights.load import load_weights

    return make_network(load_weights("tiny.en", dtype=mx.float32), mx.float32, backend)


@pytest.fixture(scope="session")
def real_engine(backend):
    """Return a function that starts (once) the engine of a packaged model, with four slots."""
    from worker.engine.engine import BatchEngine
    from worker.models.load import load_family

    engines = {}

    def start(name="tiny.en"):
        if name not in engines:
            settings = Settings(
                model={"name": name, "dtype": "float32"}, worker={"slots": 4, "backend": backend}
            )
            engines[name] = BatchEngine(settings, load_family)
        return engines[name]

    yield start
    for engine in engines.values():
        engine.stop()


@pytest.fixture
def write_wav(tmp_path):
    """Return a function that writes a mono 16 kHz WAV file of 16-bit samples."""

    def write(name="tone.wav", num_samples=1600, value=0):
        path = tmp_path / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(value.to_bytes(2, "little", signed=True) * num_samples)
        return path

    return write


@pytest.fixture
def start_scribefarm(settings, tmp_path):
    """Return a function that starts the command line on the test's server."""

    def start(*arguments, **env):
        variables = {**os.environ, **settings.to_environment(), **env}
        return subprocess.Popen(
            [sys.executable, "-m", "producer", *map(str, arguments)],
            env={name: value for name, value in variables.items() if value is not None},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def scribefarm(settings, tmp_path):
    """Return a function that runs the command line to its end."""

    def run(*arguments, stdin=b"", **env):
        # Off a terminal there is no width to go by.
        variables = {**os.environ, "COLUMNS": "200", **settings.to_environment(), **env}
        done = run_command(
            [str(argument) for argument in arguments],
            env={name: value for name, value in variables.items() if value is not None},
            cwd=tmp_path,
            stdin=stdin,
            timeout_s=90,
        )
        stdout, stderr = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)

    return run
