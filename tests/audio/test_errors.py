"""No exception of soundfile, PyAV, NumPy or the system leaves `worker.audio` as it is."""

import errno
import io
import os
import sys

import av.error
import numpy as np
import pytest
import soundfile

from producer.errors import (
    CorruptAudio,
    OutOfMemory,
    PrivacyDenied,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from worker.audio.errors import translate, translated
from worker.audio.ffmpeg import FFmpegReader


class FailingDisk(io.FileIO):
    """A file on a share that stops answering after the header."""

    has_failed = False

    def read(self, size=-1, /):
        if self.has_failed:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return super().read(size)


def test_a_share_that_stops_answering_is_worth_another_try(tmp_path):
    """ESTALE in the middle of a recording is source_unreachable, not corrupt audio."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.zeros(30 * 16_000), 16_000, format="MP3")
    with FailingDisk(path) as disk:
        reader = FFmpegReader(str(path), disk, None)
        disk.has_failed = True
        with pytest.raises(SourceUnreachable) as caught, translated(str(path)):
            list(reader.blocks())
        reader.close()
    assert caught.value.retryable


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_every_error_of_the_system_has_a_place(code):
    """ESTALE, EIO and ETIMEDOUT are worth another try; absence and permissions are not."""
    error = translate("a.wav", OSError(code, os.strerror(code)), opening=True)
    permanent = (SourceNotFound, SourceForbidden, UnsupportedFormat, CorruptAudio)
    assert isinstance(error, (SourceUnreachable, PrivacyDenied, *permanent))
    if code in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE):
        assert isinstance(error, SourceUnreachable)


@pytest.mark.parametrize(
    ("platform", "number", "error"),
    [
        ("darwin", errno.EPERM, PrivacyDenied),
        ("darwin", errno.EACCES, SourceForbidden),
        ("linux", errno.EPERM, SourceForbidden),
    ],
)
def test_on_a_mac_not_permitted_is_its_privacy_setting(monkeypatch, platform, number, error):
    """The error names the program that needs Full Disk Access, and is worth another try then."""
    monkeypatch.setattr(sys, "platform", platform)
    translated_error = translate("a.wav", OSError(number, os.strerror(number)), opening=True)
    assert type(translated_error) is error
    assert (os.path.realpath(sys.executable) in str(translated_error)) == (error is PrivacyDenied)
    assert translated_error.retryable == (error is PrivacyDenied)


def subclasses(root):
    return {root, *(leaf for child in root.__subclasses__() for leaf in subclasses(child))}


@pytest.mark.parametrize("opening", [True, False])
def test_every_exception_of_the_libraries_becomes_ours(opening):
    """All of PyAV's and soundfile's classes, and what NumPy and soxr raise."""
    ffmpeg = [leaf(1, "why", "file") for leaf in subclasses(av.error.FFmpegError)]
    sndfile = [soundfile.LibsndfileError(code) for code in range(200)]
    others = [ValueError("x"), RuntimeError("x"), TypeError("x"), MemoryError()]
    for exc in (*ffmpeg, *sndfile, *others, soundfile.SoundFileRuntimeError("x")):
        error = translate("a.wav", exc, opening=opening)
        assert isinstance(error, ScribefarmError)
        assert error.context == "a.wav"
        if isinstance(exc, av.error.FFmpegError):
            assert not error.retryable
    assert isinstance(translate("a", MemoryError(), opening=opening), OutOfMemory)
    assert isinstance(
        translate("a", soundfile.LibsndfileError(2), opening=False), SourceUnreachable
    )
