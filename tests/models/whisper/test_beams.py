"""Beam search from a job's options to its segments: Whisper over NumPy, and what does not fit."""

import mlx.core as mx
import pytest

from producer.errors import OutOfRange
from producer.job import Options
from producer.settings import Settings
from tests.stage.tiny_models import tiny_random_whisper
from worker.models.load import pin
from worker.models.whisper.family import WhisperFamily

MB = 1_000_000


def pinned(rows):
    """Return a family that has memory for two windows and a few rows."""
    family = WhisperFamily(tiny_random_whisper(), mx.float32, "numpy")
    needs = family.needs
    fixed = needs.weights_bytes + needs.request_bytes
    limit = fixed + 2 * (2 * needs.window_bytes + rows * needs.row_bytes) + MB
    pin(family, Settings(worker={"slots": 2, "memory_limit_bytes": limit}))
    return family


@pytest.fixture(scope="module")
def narrow():
    """Return a family that has memory for three rows."""
    return pinned(rows=3)


def test_more_beams_than_rows_that_fit_are_refused_with_the_arithmetic(narrow):
    """Before the file is touched; fewer are taken."""
    assert (narrow.plan.slots, narrow.plan.rows) == (2, 3)
    narrow.check(Options(beam_size=3))
    with pytest.raises(OutOfRange, match=r"at most 3.*2 windows x .* \+ 3 rows x .* = ") as refused:
        narrow.check(Options(beam_size=4))
    assert (refused.value.context, refused.value.value) == ("options: beam_size", 4)
    narrow.check(Options(best_of=16, beam_size=None))


def test_the_default_search_is_not_refused_but_has_as_many_beams_as_rows(narrow):
    """Nobody asked for five; who asks for a patient search of five is told."""
    for options, num_beams in ((Options(), 3), (Options(beam_size=2), 2)):
        narrow.check(options)
        assert narrow.transcription(options, None).options.beam_size == num_beams
    with pytest.raises(OutOfRange):
        narrow.check(Options(patience=2.0))


def test_a_device_that_had_no_room_searches_with_the_rows_that_are_left():
    """Jobs that come then are not refused for what their default says."""
    family = pinned(rows=5)
    assert family.transcription(Options(), None).options.beam_size == 5
    assert family.stepper.shrink()
    family.check(Options())
    assert family.transcription(Options(), None).options.beam_size == 2
