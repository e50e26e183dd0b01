"""A model of English alone that hears another language says so, and never of English."""

import pytest

from producer.job import Options
from producer.result import LIKELY_NOT_ENGLISH, Segment
from tests.models.whisper.test_golden import transcribe
from worker.models.whisper.limits import ModelLimits
from worker.models.whisper.other_language import is_likely_not_english
from worker.models.whisper.transcription import Transcription

SPEECH = " Here is as much text as a window of speech would give, and a little more."
ENGLISH, MULTILINGUAL = 51864, 51865


def window(seek, avg_logprob, text=SPEECH, *, compression_ratio=1.2):
    """Return the only segment of the window at a mel frame."""
    return Segment(
        id=0,
        seek=seek,
        start=seek / 100,
        end=seek / 100 + 30,
        text=text,
        tokens=[1],
        temperature=0.0,
        avg_logprob=avg_logprob,
        compression_ratio=compression_ratio,
        no_speech_prob=0.1,
    )


@pytest.mark.parametrize(
    ("segments", "is_other"),
    [
        ([], False),
        ([window(0, -0.3), window(3000, -0.8)], False),
        ([window(0, -2.0), window(3000, -0.95)], True),
        # Half of it is not enough, and two thirds are.
        ([window(0, -2.0), window(3000, -0.3)], False),
        ([window(0, -2.0), window(3000, -0.3), window(6000, -3.0)], True),
        # A model that is caught in a phrase is sure of it, in English too.
        ([window(0, -0.1, compression_ratio=9.0)], False),
        # What it writes over music, laughter and silence.
        ([window(0, -3.0, " 1.")], False),
        ([window(0, -3.0, " 1, 2, 3, 1. Good. you")], False),
    ],
)
def test_it_is_told_by_seconds_of_doubtful_text(segments, is_other):
    """Of windows of 30 s here."""
    frames = 3000 * max(1, len(segments))
    assert is_likely_not_english(segments, frames) is is_other


def test_a_short_recording_is_told_by_its_own_length():
    """Not by the window's 30 s: 25 letters in 5 s are speech, one in half a second is a click."""
    assert is_likely_not_english([window(0, -3.0, " this leaves the bush there")], 500)
    assert not is_likely_not_english([window(0, -3.0, " 1")], 50)


@pytest.mark.parametrize(
    ("limits", "flags"),
    [
        (ModelLimits(ENGLISH, 448), [LIKELY_NOT_ENGLISH]),
        (ModelLimits(MULTILINGUAL, 448), []),
        (ModelLimits(MULTILINGUAL, 448, knows_english_alone=True), [LIKELY_NOT_ENGLISH]),
    ],
)
def test_only_a_model_of_english_alone_says_so(limits, flags):
    """A multilingual one has its own doubts: the language's probability."""
    transcription = Transcription(Options(language="en"), limits)
    transcription.segments = [window(0, -3.0)]
    transcription.content_frames = 3000
    assert transcription.flags == flags


def test_a_distilled_model_that_detects_another_language_says_so():
    """Its vocabulary has the languages; it was trained on English."""
    limits = ModelLimits(MULTILINGUAL, 448, knows_english_alone=True)
    assert Transcription(Options(language="de"), limits).flags == [LIKELY_NOT_ENGLISH]


@pytest.mark.archive
@pytest.mark.weights
@pytest.mark.parity
def test_tiny_en_tells_german_from_english(real_engine, shared_data):
    """Real speech; the text stays what the reference gives."""
    paths = [
        *(f"audio/fleurs/fleurs-de-00{n}.ogg" for n in (1, 2, 4)),
        *("audio/english/jfk.flac", "audio/fleurs/fleurs-en-000.ogg", "audio/world/cards-005.wav"),
    ]
    done = transcribe(real_engine(), {path: shared_data / path for path in paths})
    flagged = [path for path in paths if LIKELY_NOT_ENGLISH in done[path].flags]
    assert flagged == paths[:3]
