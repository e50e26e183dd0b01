"""Languages by window, driven by scripted replies: no model, no thread, no tensor."""

import pytest

from tests.models.whisper.test_transcription import (
    MULTILINGUAL,
    probabilities,
    said,
    transcribe,
)
from worker.models.whisper.tokenizer import Tokenizer


def transcribed_by_window(decodes, seconds, languages, **options):
    """Return a transcription whose windows are detected to be of these languages, in order."""
    return transcribe(
        decodes, seconds, MULTILINGUAL, multilingual=True, languages=list(languages), **options
    )


def test_each_window_is_decoded_in_its_own_language():
    """Its segments say which; the recording is of that with most of the time."""
    decodes = [said(0.0, " Eins.", 8.0), said(0.0, " Two.", 28.0), said(0.0, " Drei.", 4.0)]
    heard = [probabilities(de=0.9), probabilities(en=0.7, de=0.2), probabilities(de=0.8)]
    transcription, script = transcribed_by_window(decodes, 66, heard)
    languages = ["de", "en", "de"]
    for language, decode in zip(languages, script.asked, strict=True):
        assert decode.prompt[-3:] == Tokenizer(51_865, language).sot_sequence
    assert [segment.language for segment in transcription.segments] == languages
    assert [s.language_probability for s in transcription.segments] == [0.9, 0.7, 0.8]
    assert (transcription.language, transcription.language_probability) == ("en", 0.7)


def test_a_window_is_heard_in_the_states_that_its_text_is_of():
    """Nothing is encoded for it: not even a short recording twice."""
    heard = [probabilities(de=0.9), probabilities(de=0.9)]
    _, script = transcribed_by_window([said(" Eins."), said(" Zwei.")], 38, heard)
    assert script.windows == [(0, 3000), (3000, 800)]
    states = [detected.encoder_states for detected in script.detected]
    assert states == [decode.encoder_states for decode in script.asked]


def test_the_likeliest_language_of_a_recording_weighs_its_windows_by_their_time():
    """Windows without text count for nothing."""
    decodes = [
        said(0.0, " Eins.", 10.0),
        said(0.0, " Zwei.", 30.0),
        said(" Danke.", avg_logprob=-1.5, no_speech_prob=0.9),
    ]
    heard = [probabilities(de=0.9), probabilities(de=0.5), probabilities(nn=0.3)]
    transcription, _ = transcribed_by_window(decodes, 62, heard)
    assert transcription.language == "de"
    probability = (10 * 0.9 + 30 * 0.5) / 40
    assert transcription.language_probability == pytest.approx(probability, abs=1e-3)


def test_every_window_chooses_among_the_languages_that_are_allowed():
    """However likely the others are."""
    heard = [probabilities(nl=0.6, de=0.3, en=0.1), probabilities(nl=0.6, de=0.1, en=0.3)]
    decodes = [said(" Eins."), said(" Two.")]
    allowed = {"allowed_languages": ("german", "en")}
    transcription, _ = transcribed_by_window(decodes, 40, heard, **allowed)
    assert [segment.language for segment in transcription.segments] == ["de", "en"]


def test_each_window_of_a_doubtful_language_is_flagged_once():
    """Where one language is no likelier than all others together."""
    decodes = [said(0.0, " Eins.", 9.0, 9.0, " Zwei.", 30.0), said(" Drei."), said(" Vier.")]
    heard = [probabilities(de=0.5), probabilities(de=0.9), probabilities(de=0.4)]
    transcription, _ = transcribed_by_window(decodes, 90, heard)
    doubtful = ["uncertain_language"]
    assert [segment.flags for segment in transcription.segments] == [doubtful, [], [], doubtful]


def test_a_resumed_recording_hears_only_what_is_left():
    """Its windows' languages and its own are as if it had never stopped."""
    decodes = [said(0.0, " Eins.", 30.0), said(0.0, " Two.", 30.0), said(0.0, " Drei.", 2.0)]
    heard = [probabilities(de=0.9), probabilities(en=0.7), probabilities(de=0.8)]
    whole, script = transcribed_by_window(decodes, 63, heard)
    for done, checkpoint in enumerate(script.checkpoints, 1):
        resumed, rest = transcribed_by_window(
            decodes[done:], 63, heard[done:], checkpoint=checkpoint
        )
        assert len(rest.detected) == 3 - done
        assert resumed.segments == whole.segments
        assert resumed.language_probability == whole.language_probability


def test_without_languages_by_window_no_segment_names_one():
    """The recording does."""
    transcription, script = transcribe(
        [said(" Eins."), said(" Zwei.")], 40, MULTILINGUAL, languages=probabilities(de=0.6)
    )
    assert len(script.detected) == 1
    assert [segment.language for segment in transcription.segments] == [None, None]
