"""A night's batch, with its server and workers."""

import pytest

from tests.producer.night import Night


@pytest.fixture
def night(tmp_path):
    night = Night(tmp_path)
    yield night
    night.stop()
