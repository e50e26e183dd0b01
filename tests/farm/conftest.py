"""What the farm's tests share: workers that lose no time while they are idle."""

import pytest

from worker.farm import farm_worker


@pytest.fixture(autouse=True)
def _prompt_workers(monkeypatch):
    """Let workers in this process look for work and for signals often; a test has few of them."""
    monkeypatch.setattr(farm_worker, "POLL_IDLE_S", 0.02)
    monkeypatch.setattr(farm_worker, "CLAIM_IDLE_S", 0.02)
