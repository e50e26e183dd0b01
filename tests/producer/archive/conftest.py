"""An empty folder to work in, names for one submission, a cache of hashes."""

import pytest

from producer.archive.find import Names
from producer.archive.hash_cache import HashCache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def names():
    with Names() as names:
        yield names


@pytest.fixture
def cache(tmp_path):
    with HashCache(tmp_path / "hashes.sqlite") as cache:
        yield cache
