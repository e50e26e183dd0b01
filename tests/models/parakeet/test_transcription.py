"""One recording, piece by piece: what is asked for, what is left out, where another goes on."""

import numpy as np
import pytest

from producer.parakeet_options import EUROPEAN
from producer.result import LANGUAGE_DRIFT
from tests.stage.scripted_parakeet import facts, labels, samples_of, transcribe
from worker.audio import voice_activity
from worker.engine.messages import Checkpoint
from worker.engine.speech import Speech
from worker.models.parakeet import listening
from worker.models.parakeet.cut import RATE_HZ
from worker.models.parakeet.drift import LanguageDetector
from worker.models.parakeet.samples import Samples


def one_sentence(_start, _length):
    return labels(("_hello", 0), ("_wor", 5), ("ld", 7), (".", 9))


def test_pieces_are_asked_for_in_order_and_a_checkpoint_follows_each():
    """Encode, then the labels; positions are samples."""
    edges = [0.0, 25.0, 26.0, 50.0, 51.0, 70.0]
    transcription, script = transcribe(one_sentence, 70.0, edges=edges)
    assert script.pieces == [(0.0, 25.5), (25.5, 25.0), (50.5, 19.5)]
    assert script.asked == ["Encode", "Recognize"] * 3
    assert transcription.text == " hello world." * 3
    assert [segment.start for segment in transcription.segments] == [0.0, 25.5, 50.5]
    assert [segment.id for segment in transcription.segments] == [0, 1, 2]
    assert [each.state["position"] for each in script.checkpoints] == [
        round(second * RATE_HZ) for second in (25.5, 50.5, 70.0)
    ]
    assert transcription.counts.windows == 3
    assert transcription.counts.generated_tokens == 12
    assert transcription.seconds_done == 70.0


def test_ctc_models_label_pieces_without_rows():
    """The simpler case: one request a piece."""
    transcription, script = transcribe(one_sentence, 5.0, model=facts(is_ctc=True))
    assert script.asked == ["LabelCtc"]
    assert transcription.text == " hello world."


def test_silent_pieces_are_left_out_and_said():
    """A rest of 50 ms behind a cut at 30 s is next to nothing, and not worth saying."""
    edges = [0.0, 10.0, 100.0, 110.0]
    transcription, script = transcribe(one_sentence, 110.0, edges=edges)
    assert script.pieces == [(0.0, 30.0), (85.0, 25.0)]
    assert transcription.counts.skipped == [(30.0, 85.0)]
    transcription, script = transcribe(one_sentence, 30.05)
    assert (script.pieces, transcription.counts.skipped) == ([(0.0, 30.0)], [])


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.09])
def test_next_to_nothing_has_no_text(seconds):
    """No request is made of the device."""
    transcription, script = transcribe(one_sentence, seconds)
    assert (transcription.text, script.asked, transcription.language) == ("", [], "en")


def test_silence_has_no_text_and_no_language_of_its_own():
    """The language that was asked for stands; nothing was detected."""
    detector = LanguageDetector(EUROPEAN)
    model = facts(detector=detector, languages=EUROPEAN)
    transcription, script = transcribe(one_sentence, 20.0, edges=[], model=model, language="german")
    assert (transcription.text, transcription.segments, script.asked) == ("", [], [])
    assert (transcription.language, transcription.language_probability) == ("de", None)
    assert transcription.counts.skipped == [(0.0, 20.0)]
    assert transcribe(lambda *_: (), 20.0, model=model)[0].text == ""


def test_every_checkpoint_leads_to_the_same_text():
    """Also with silence before and behind it, through JSON as the server keeps it."""
    edges = [5.0, 25.0, 26.0, 50.0, 120.0, 140.0, 141.0, 160.0]
    options = {"clip_timestamps": (2.0, 150.0)}
    whole, script = transcribe(one_sentence, 160.0, edges=edges, **options)
    assert len(script.checkpoints) > 3
    for number, checkpoint in enumerate(script.checkpoints):
        resumed, rest = transcribe(
            one_sentence, 160.0, edges=edges, checkpoint=checkpoint, **options
        )
        assert (resumed.text, resumed.segments) == (whole.text, whole.segments)
        assert resumed.counts.skipped == whole.counts.skipped
        assert rest.pieces == script.pieces[number + 1 :]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"position": -1},
        {"position": 10**13},
        {"position": 1.5},
        {"position": 10**9},
        {"position": 0, "seek": 1},
        {"position": 0, "skipped": [[0, float("nan")]]},
    ],
)
def test_a_damaged_checkpoint_starts_over(state):
    """Also one that lies behind the recording's end."""
    damaged = Checkpoint((), None, state)
    transcription, script = transcribe(one_sentence, 20.0, checkpoint=damaged)
    assert script.pieces == [(0.0, 20.0)]
    assert transcription.text == " hello world."


def test_nothing_begins_in_silence_that_is_to_be_skipped():
    """`audio.vad = skip-silence`."""
    speech = Speech([0.0, 10.0, 100.0, 110.0], [(10.0, 99.6)])
    _, script = transcribe(one_sentence, 110.0, speech=speech)
    assert script.pieces == [(0.0, 30.0), (99.6, 10.4)]


def test_the_models_own_head_decides_where_it_has_one():
    """Over blocks of 120 s; what the reader heard does not count."""
    # Speech, but for half a second around 40, 65 and 119.9: the last one between two blocks.
    pauses = (40.0, 65.0, 119.9)
    head = lambda second: float(all(abs(second - pause) > 0.25 for pause in pauses))  # noqa: E731
    _, script = transcribe(one_sentence, 130.0, edges=[], model=facts(hears_speech=True), head=head)
    assert script.asked[:2] == ["HearSpeech", "HearSpeech"]
    assert script.pieces[0] == (0.0, 30.0)
    starts = [start for start, _ in script.pieces]
    for pause in (40.0, 65.0):
        assert any(abs(start - pause) < 0.1 for start in starts)
    assert all(length <= 30.0 for _, length in script.pieces)


def test_where_nobody_listened_the_family_does(monkeypatch):
    """`audio.listen = false`: the reader's own ears, a minute at a time in the host thread."""
    heard = []

    class Ears:
        edges = (0.0, 20.0, 21.0, 70.0)
        finish = lambda _: None  # noqa: E731
        push = lambda _, samples: heard.append(len(samples) / RATE_HZ)  # noqa: E731

    monkeypatch.setattr(listening, "VoiceActivity", Ears)
    _, script = transcribe(one_sentence, 70.0, speech=Speech(None))
    assert heard == [60.0, 10.0]
    assert script.asked[:2] == ["Compute", "Compute"]
    assert script.pieces == [(0.0, 20.5), (20.5, 30.0), (50.5, 19.5)]
    assert voice_activity.VoiceActivity is not Ears


def test_words_come_where_they_are_asked_for():
    """With times and probabilities, as of every family."""
    plain, _ = transcribe(one_sentence, 5.0)
    assert plain.segments[0].words is None
    timed, _ = transcribe(one_sentence, 5.0, word_timestamps=True)
    assert [word.word for word in timed.segments[0].words] == [" hello", " world."]


def test_text_where_nobody_speaks_is_flagged():
    """A piece has speech somewhere; its words may lie elsewhere."""
    transcription, _ = transcribe(one_sentence, 20.0, edges=[10.0, 20.0])
    assert transcription.flags == ["likely_silence"]


GERMAN = "Das ist ein deutscher Satz, der lang genug ist, um eine Sprache zu haben."


def test_another_language_than_the_one_asked_for_is_flagged(monkeypatch):
    """By the text; what was asked for stands where nothing speaks against it."""
    from tests.stage import scripted_parakeet as scripted

    pieces = [*scripted.PIECES, *(f"\u2581{word}" for word in GERMAN.split())]
    monkeypatch.setattr(scripted, "VOCABULARY", scripted.Vocabulary(tuple(pieces)))
    from worker.models.parakeet.requests import Label

    def say(_start, _length):
        first = len(scripted.PIECES)
        return [Label(first + at, 10 + 3 * at, 2, -0.1) for at in range(len(GERMAN.split()))]

    model = facts(detector=LanguageDetector(EUROPEAN), languages=EUROPEAN)
    drifted, _ = transcribe(say, 10.0, model=model, language="fr")
    assert drifted.flags == [LANGUAGE_DRIFT]
    assert (drifted.language, drifted.text) == ("de", f" {GERMAN}")
    for options in ({"language": "de"}, {}, {"allowed_languages": ("German", "fr")}):
        fine, _ = transcribe(say, 10.0, model=model, **options)
        assert (fine.flags, fine.language, fine.language_probability) == ([], "de", 1.0)
    other, _ = transcribe(say, 10.0, model=model, allowed_languages=("fr", "es"))
    assert (other.flags, other.language) == ([LANGUAGE_DRIFT], "de")


def test_samples_of_long_recordings_are_kept_on_disk(monkeypatch):
    """What was pushed comes back, on either side of the border and across it."""
    monkeypatch.setattr(Samples, "SPOOL_AFTER", 2 * RATE_HZ)
    features = samples_of(7.0)
    values = np.arange(7 * RATE_HZ, dtype=np.float32) / RATE_HZ
    for start, end in [(0.0, 1.0), (1.0, 3.0), (2.0, 2.5), (5.5, 7.0), (6.0, 9.0), (7.0, 8.0)]:
        first, last = round(start * RATE_HZ), round(end * RATE_HZ)
        assert np.array_equal(features.samples(first, last), values[first:last])
