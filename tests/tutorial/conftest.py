"""What the steps of the tutorial have: ten seconds of speech, and a worker to hear it."""

import importlib.util
from pathlib import Path

import pytest

from producer.connection import connect
from worker.farm.farm_worker import FarmWorker


@pytest.fixture
def speech():
    """Return real speech that every clone has: Beckett, read aloud."""
    package = Path(importlib.util.find_spec("moonshine_onnx").origin).parent
    return package / "assets" / "beckett.wav"


@pytest.fixture
def said():
    """Return what is said in it."""
    return " Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."


@pytest.fixture
def work(settings, real_engine):
    """Return a function: be a worker until the queues are empty, and return its exit code.

    It is `scribefarm-worker run --burst --name shelf` in this process: the real farm worker on the
    real engine, whose model is loaded once for all steps.
    """

    def run():
        connection = connect(settings)
        try:
            return FarmWorker(real_engine(), settings, connection, name="shelf").run(burst=True)
        finally:
            connection.close()

    return run
