"""What the farm's tests share: a farm on an empty server."""

import pytest

from producer import embedded
from tests.stage.farm import Farm


@pytest.fixture
def farm(settings, connection):
    """Return a farm on an empty server; its workers end with the test and leave no lease behind."""
    farm = Farm(f"unix://{embedded.status(settings).socket}")
    yield farm
    farm.stop()
