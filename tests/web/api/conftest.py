"""A farm with the HTTP front: one with a real worker for all tests, and small ones of a test's own."""

import importlib.util
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from producer.quality import PRESETS
from producer.settings import load_settings
from tests.stage.farm import Server, wait_until
from tests.stage.http_front import HttpFront, RealWorker

CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Keep hashes of a test's recordings out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def heard(tmp_path_factory):
    """Return a front whose farm has a worker with tiny.en."""
    folder = tmp_path_factory.mktemp("heard")
    server = Server(folder / "server")
    settings = load_settings(
        redis={"url": server.url},
        model={"name": "tiny.en", "dtype": "float32"},
        worker={"slots": 4, "lease_s": 30.0},
        audio={"roots": [str(folder), str(CLIP.parent)]},
        options=PRESETS["fast"],
    )
    front = HttpFront(settings)
    worker = RealWorker(settings, folder / "worker.log")
    worker.wait_until_alive()
    front.folder = folder
    yield front
    worker.stop()
    front.stop()
    server.stop()


@pytest.fixture
def start_front(settings):
    """Return a function that starts a front on the test's server; sections change its settings."""
    fronts = []

    def start(*, token=None, allow_actions=False, **sections):
        own = load_settings(
            redis={"embedded_dir": settings.redis.embedded_dir},
            model={"name": "fake"},
            **sections,
        )
        fronts.append(HttpFront(own, token=token, allow_actions=allow_actions))
        return fronts[-1]

    yield start
    for front in fronts:
        front.stop()


@pytest.fixture(scope="session")
def plain_front(server_settings):
    """Return a front with default settings, which many tests share."""
    folder = server_settings.redis.embedded_dir
    front = HttpFront(load_settings(redis={"embedded_dir": folder}, model={"name": "fake"}))
    yield front
    front.stop()


@pytest.fixture
def front(plain_front, connection):
    """Return a front with default settings on an empty server."""
    return plain_front


@pytest.fixture
def ask(front):
    """Return a client of the front."""
    with httpx.Client(base_url=front.url, timeout=30) as client:
        yield client


@pytest.fixture
def write_noise(tmp_path):
    """Return a function that writes a recording of noise."""

    def write(name="noise.wav", seconds=0.5, seed=0):
        path = tmp_path / name
        samples = np.random.default_rng(seed).normal(0, 0.1, int(RATE_HZ * seconds))
        soundfile.write(path, samples, RATE_HZ)
        return path

    return write


@pytest.fixture
def until():
    """Return `wait_until`."""
    return wait_until
