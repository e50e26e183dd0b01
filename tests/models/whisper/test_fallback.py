"""Flags: what the reference's thresholds let through is still shown to a person."""

import pytest

from producer.job import Options
from worker.device.decode_request import Decoded
from worker.models.repetition import repeats_a_phrase
from worker.models.whisper.fallback import Attempt


def attempt(text, *, avg_logprob=-0.2, no_speech_prob=0.01):
    tokens = tuple(range(9))
    return Attempt(
        Decoded(tokens, avg_logprob * (len(tokens) + 1), no_speech_prob),
        0.0,
        text,
        Options(),
    )


@pytest.mark.parametrize(
    "text",
    [
        "1.5% 1.5% 1.5% 1.5% 1.5% 1.5% 1.5%",
        "1.5kg 1kg 1kg 1kg 1kg 1kg 1kg",
        "Thank you very much. Thank you very much. Thank you very much. Thank you very much.",
        "And so no No no NO it went",
        "No, no, no, no.",
        "Yeah! Yeah, yeah, yeah.",
        "好 哈哈哈哈哈哈哈哈",
        "哈哈哈哈",
        "ありがとうありがとうありがとうありがとう",
    ],
)
def test_a_phrase_four_times_in_a_row_is_a_circle(text):
    assert repeats_a_phrase(text)
    assert "repetition" in attempt(text).flags


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no!",
        "no no no",
        "to be or not to be that is the question to be or not",
        "one two three four one two three four one two three four",
        "a b a c a d a e a f a g",
        "谢谢谢",
        "Hmmmm.",
        "10000 ......",
    ],
)
def test_speech_that_repeats_itself_is_no_circle(text):
    assert not repeats_a_phrase(text)
    assert attempt(text).flags == ()


@pytest.mark.parametrize(
    ("avg_logprob", "no_speech_prob", "flags"),
    [
        (-0.65, 0.27, ("likely_silence",)),
        (-0.55, 0.27, ()),
        (-0.95, 0.15, ()),
        (-0.2, 0.7, ("likely_silence",)),
        (-1.1, 0.1, ("low_confidence", "fallback_exhausted")),
    ],
)
def test_sure_of_neither_text_nor_silence(avg_logprob, no_speech_prob, flags):
    """Text over a noise passes both thresholds when it is a little unlikely by each of them."""
    assert attempt("Hm.", avg_logprob=avg_logprob, no_speech_prob=no_speech_prob).flags == flags


def test_flags_do_not_change_what_is_tried_again_or_skipped():
    """Those are the reference's rules, and the text is its text."""
    doubtful = attempt("no no no no no", avg_logprob=-0.9, no_speech_prob=0.5)
    assert doubtful.flags == ("repetition", "likely_silence")
    assert not doubtful.needs_fallback
    assert not doubtful.should_skip
