"""A web server of the test's own, and a worker's way of fetching with short waits."""

import os

import pytest

from producer.job import Job
from producer.settings import Settings
from tests.stage.web import LOOPBACK
from worker.sources import http
from worker.sources.fetch import Fetch


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Return a function that fetches a source and returns its bytes; nothing stays on the disk."""
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    spool = tmp_path / "spool"
    spool.mkdir()

    def run(source, *, beat=lambda: None, version=None, **audio):
        audio = {"read_timeout_s": 20.0, "allow_private_hosts": LOOPBACK} | audio
        settings = Settings(audio={"spool_dir": spool, **audio})
        try:
            descriptor = Fetch(settings)(Job(source=source, version=version), beat)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        finally:
            assert list(spool.iterdir()) == [], "left behind"

    run.spool = spool
    return run
