"""Prometheus itself: Debian's package, or one unpacked into .tools/prometheus."""

import os
import shutil

import pytest

from tests.stage.farm import ROOT

UNPACKED = ROOT / ".tools" / "prometheus" / "usr" / "bin"


def program(name):
    """Return the path of one of Prometheus's programs; its absence is an error in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        reason = f"{name} is not installed (apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def promtool():
    """Return the path of promtool."""
    return program("promtool")


@pytest.fixture
def prometheus():
    """Return the path of the server."""
    return program("prometheus")
