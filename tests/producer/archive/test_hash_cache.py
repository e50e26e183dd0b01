"""Hashes of audio: read once, remembered, and typed errors for what cannot be read."""

import os
import sqlite3

import pytest

from producer.archive.hash_cache import HashCache, hash_audio
from producer.errors import SourceForbidden
from tests.producer.archive.recordings import LONG_AGO_S, record


def test_a_file_is_not_read_again_unless_size_or_time_changed(folder, tmp_path):
    """A cached hash is given without opening the file; one written just now is not trusted."""
    path = record(folder / "a.wav", b"first")
    with HashCache(tmp_path / "cache/hashes.sqlite") as cache:
        first = cache.look_up(path)
        cache.remember(path, first, "job")
    path.write_bytes(b"other")
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    with HashCache(tmp_path / "cache/hashes.sqlite") as cache:
        assert cache.look_up(path).sha256 == first.sha256
        assert cache.look_up(path).old_job_id == "job"
        path.write_bytes(b"third")
        fresh = cache.look_up(path)
        assert fresh.sha256 != first.sha256
        cache.remember(path, fresh, "job2")
        assert not cache.look_up(path).is_cached


@pytest.mark.parametrize("content", [b"this is no database", None])
def test_a_broken_cache_costs_time_and_nothing_else(folder, tmp_path, content):
    """Hashes are right with a damaged file, and where the folder cannot be made."""
    path = record(folder / "a.wav", b"audio")
    place = tmp_path / "cache"
    if content is None:
        place.write_text("a file where a folder should be")
        place /= "deep"
    else:
        place.mkdir()
        (place / "hashes.sqlite").write_bytes(content)
    with HashCache(place / "hashes.sqlite") as cache:
        assert cache.look_up(path).sha256 == hash_audio(path)
        cache.remember(path, cache.look_up(path), "job")


def test_a_forbidden_file_gives_its_own_error(tmp_path, monkeypatch):
    """Permission is another thing than absence; root may read all, so the refusal is injected."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.wav").write_bytes(b"")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(SourceForbidden, match="readable"):
        hash_audio(tmp_path / "x.wav")


def test_a_cache_of_an_earlier_version_is_read_on(tmp_path):
    """It held the job beside the hash, whatever the server."""
    path, audio = tmp_path / "hashes.sqlite", tmp_path / "a.wav"
    audio.write_bytes(b"RIFF")
    with sqlite3.connect(path) as old:
        old.execute("CREATE TABLE hashes (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
                    " sha256 TEXT, job_id TEXT, stored_at INTEGER) WITHOUT ROWID")  # fmt: skip
        status = audio.stat()
        row = (bytes(audio), status.st_size, status.st_mtime_ns, "abc", "job", 1)
        old.execute("INSERT INTO hashes VALUES (?, ?, ?, ?, ?, ?)", row)
    old.close()
    with HashCache(path, server="one") as cache:
        found = cache.look_up(audio)
        assert (found.sha256, found.is_cached, found.old_job_id) == ("abc", True, None)
        cache.remember(audio, found, "job1")
    for server, job_id in (("one", "job1"), ("two", None)):
        with HashCache(path, server=server) as cache:
            assert cache.look_up(audio).old_job_id == job_id
