"""Which file is opened: below the roots, on a share that is there, the same bytes to the end."""

import errno
import hashlib
import os
from pathlib import Path

import psutil
import pytest

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    SourceChanged,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
)
from producer.settings import AudioSettings
from tests.stage.made_audio import noise, wav_header, write_wav
from worker.audio import fingerprint, source_file
from worker.audio.errors import translate
from worker.audio.read_ahead import End, Reading, Start
from worker.audio.source_file import is_mounted, mount_of, open_source, opened_path


def read(path, sha256=None, **settings):
    """Return what a reading delivers last; the engine takes each block at once."""
    delivered = []
    reading = Reading(str(path), AudioSettings(**settings), delivered.append, sha256)
    for _ in range(100):
        reading.take()
    reading.run()
    return delivered[-1]


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Roots


@pytest.fixture
def archive(tmp_path):
    """Return a root with a recording in it, beside a private folder with another."""
    root, private = tmp_path / "archive", tmp_path / "private"
    root.mkdir()
    private.mkdir()
    write_wav(root / "a.wav", noise(1000))
    write_wav(private / "b.wav", noise(1000))
    return root


def test_a_link_that_was_put_there_after_the_check_is_refused_when_it_is_opened(archive):
    """The name lies below the root and passed the check; the file that it leads to does not."""
    assert isinstance(read(archive / "a.wav", roots=(archive,)), End)
    (archive / "a.wav").unlink()
    (archive / "a.wav").symlink_to(archive.parent / "private" / "b.wav")
    error = read(archive / "a.wav", roots=(archive,))
    assert isinstance(error, SourceForbidden)
    assert error.value == str(archive.parent / "private" / "b.wav")


def test_a_folder_that_became_a_link_is_refused_too(archive):
    """Not the last part of the name alone."""
    (archive / "talks").symlink_to(archive.parent / "private")
    assert isinstance(read(archive / "talks" / "b.wav", roots=(archive,)), SourceForbidden)


def test_links_within_the_roots_and_roots_that_are_links_are_fine(archive):
    """Also a root that does not exist beside one that does."""
    alias = archive.parent / "alias"
    alias.symlink_to(archive)
    (archive / "c.wav").symlink_to(archive / "a.wav")
    assert isinstance(read(archive / "c.wav", roots=(archive.parent / "no", alias)), End)


def test_all_bytes_come_from_the_descriptor_that_was_checked(archive, monkeypatch):
    """The name leads elsewhere as soon as the file is open; nobody follows it again."""
    path = archive / "a.wav"
    expected = sha256_of(path)

    def swapping(file, roots):
        check(file, roots)
        path.unlink()
        path.symlink_to("/etc/hostname")

    check = source_file._check_opened
    monkeypatch.setattr(source_file, "_check_opened", swapping)
    end = read(path, expected, roots=(archive,))
    assert isinstance(end, End)
    assert end.audio.sha256 == expected


def test_macos_is_asked_for_the_path_by_fcntl():
    """F_GETPATH fills 1024 bytes, which a NUL ends."""

    def ask(fd, command, buffer):
        assert (fd, command, len(buffer)) == (7, 50, 1024)
        return "/Volumes/archive/Ü.wav".encode() + bytes(len(buffer) - 23)

    assert opened_path(7, platform="darwin", ask=ask) == Path("/Volumes/archive/Ü.wav")


# Shares that are not there


@pytest.mark.parametrize(
    ("name", "mount"),
    [
        ("/Volumes/archive/talks/a.wav", "/Volumes/archive"),
        ("/mnt/nas/a.wav", "/mnt/nas"),
        ("/media/mum/DISK/x/a.wav", "/media/mum/DISK"),
        ("/run/media/mum/DISK/a.wav", "/run/media/mum/DISK"),
        ("/archive/2024/a.wav", "/archive"),
        ("/archive/../mnt/nas/x/a.wav", "/mnt/nas"),
        ("/a.wav", "/"),
        ("/mnt/a.wav", "/mnt"),
    ],
)
def test_without_roots_a_mount_is_known_by_its_place(name, mount):
    """The first folder, but where systems mount: one below, on Linux also one a user."""
    assert mount_of(name) == Path(mount)


def test_with_roots_a_recording_belongs_to_the_root_that_it_lies_below():
    """However deep that is."""
    roots = (Path("/srv/a"), Path("/mnt/nas/archive"))
    assert mount_of("/mnt/nas/archive/2024/a.wav", roots) == roots[1]
    assert mount_of("/mnt/nas/archive-2/a.wav", roots) == Path("/mnt/nas")


def test_an_absent_recording_is_unreachable_if_its_root_is_absent_or_empty(tmp_path):
    """The share is not mounted; when it is, and the file is still absent, that is final."""
    root = tmp_path / "share"
    path = root / "talks" / "a.wav"
    error = read(path, roots=(root,))
    assert isinstance(error, SourceUnreachable)
    assert str(root) in error.constraint
    root.mkdir()
    assert isinstance(read(path, roots=(root,)), SourceUnreachable)
    (root / "other.wav").write_bytes(b"")
    assert isinstance(read(path, roots=(root,)), SourceNotFound)
    assert isinstance(read(root / "other.wav" / "a.wav", roots=(root,)), SourceNotFound)


def test_a_share_that_is_mounted_while_its_file_is_looked_for_is_no_final_answer(
    tmp_path, monkeypatch
):
    """The file was absent, and is there when the root is looked at."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"")

    def too_early(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr("worker.audio.source_file._open_regular", too_early)
    error = read(path, roots=(tmp_path,))
    assert isinstance(error, SourceUnreachable)
    assert "mounted only now" in error.constraint


def test_without_roots_the_same_holds_for_the_mount():
    """No machine has this volume."""
    with pytest.raises(SourceUnreachable, match=r"/Volumes/no-such-volume|/no-such-volume"):
        open_source("/Volumes/no-such-volume/talks/a.wav")
    assert not is_mounted(Path("/no-such-volume"))
    assert is_mounted(Path("/etc"))


@pytest.mark.parametrize(
    "code",
    ["ESTALE", "EIO", "EHOSTDOWN", "EHOSTUNREACH", "ETIMEDOUT", "ENOTCONN", "ENXIO", "ENODEV"],
)
def test_what_a_broken_mount_says_is_worth_another_try(code):
    """Opening or reading."""
    number = getattr(errno, code)
    for opening in (True, False):
        error = translate("a.wav", OSError(number, os.strerror(number)), opening=opening)
        assert isinstance(error, SourceUnreachable)


# The same bytes


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "ogg"])
def test_the_hash_of_what_was_read_is_in_the_result(tmp_path, form):
    """Whichever library read it; asked for or not, in capitals or not."""
    container = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG"}[form]
    subtype = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS"}.get(form, "PCM_16")
    path = write_wav(tmp_path / f"a.{form}", noise(100_000), subtype=subtype, container=container)
    expected = sha256_of(path)
    assert [read(path, asked).audio.sha256 for asked in (None, expected, expected.upper())] == [
        expected
    ] * 3


def test_a_file_that_was_replaced_is_changed_and_not_transcribed(tmp_path):
    """The error names both hashes; it is final, since only a new submission helps."""
    path = write_wav(tmp_path / "a.wav", noise(100))
    submitted = sha256_of(path)
    write_wav(path, noise(200))
    error = read(path, submitted)
    assert isinstance(error, SourceChanged)
    assert submitted in error.constraint
    assert error.value == sha256_of(path)
    assert not error.retryable


@pytest.mark.parametrize(
    ("content", "alone"), [(b"", EmptyInput), (wav_header(1000) + b"x", CorruptAudio)]
)
def test_what_is_wrong_with_another_file_is_not_held_against_the_one_submitted(
    tmp_path, content, alone
):
    """Else the right file, submitted again, would be known as damaged."""
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert isinstance(read(path), alone)
    assert isinstance(read(path, sha256_of(path)), alone)
    assert isinstance(read(path, "0" * 64), SourceChanged)


def test_a_file_that_is_written_to_while_it_is_read_is_changed(tmp_path):
    """Of the same size, and with the hash taken of either state."""
    path = write_wav(tmp_path / "a.wav", noise(100_000))

    def deliver(piece):
        delivered.append(piece)
        if isinstance(piece, Start):
            with path.open("r+b") as file:
                file.seek(1000)
                file.write(b"\1" * 100)

    delivered = []
    reading = Reading(str(path), AudioSettings(), deliver)
    reading.run()
    assert isinstance(delivered[-1], SourceChanged)
    assert "written to" in delivered[-1].constraint


def test_nothing_is_read_twice_from_where_the_decoder_has_not_been(tmp_path, monkeypatch):
    """The hash follows the decoder at its heels, so that the system still has those bytes."""
    path = write_wav(tmp_path / "a.wav", noise(400_000))
    reads = []

    def noting(fd, num_bytes, offset):
        reads.append((offset, os.lseek(fd, 0, os.SEEK_CUR)))
        return os.pread(fd, num_bytes, offset)

    system = type("System", (), {**vars(os), "pread": staticmethod(noting)})
    monkeypatch.setattr(fingerprint, "os", system)
    assert isinstance(read(path), End)
    assert all(offset <= position for offset, position in reads)
    assert max(position - offset for offset, position in reads) < 2 * 1024 * 1024


def test_no_descriptor_outlives_a_reading(tmp_path):
    """Read to the end, refused, changed or outside the roots."""
    path = write_wav(tmp_path / "a.wav", noise(100))
    before = psutil.Process().num_fds()
    for options in ({}, {"sha256": "0"}, {"roots": (tmp_path / "b",)}, {"max_file_seconds": 0.001}):
        read(path, **options)
    read(tmp_path)
    read(tmp_path / "absent")
    assert psutil.Process().num_fds() == before
