"""A worker without a model that runs beside a command."""

import pytest

from tests.cli.stand_in import StandIn


@pytest.fixture
def stand_in(settings):
    """Start a worker without a model."""
    worker = StandIn(settings)
    yield worker
    worker.stop()
