"""What a Parakeet model cannot do is refused by name, before a file is touched."""

import re

import pytest

from producer.errors import InvalidOptions
from producer.job import Options
from producer.parakeet_options import EUROPEAN, OBEYED, check_options

NAME = "parakeet"


def check(languages=EUROPEAN, **options):
    check_options(Options(**options), languages, NAME)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"language": "german"},
        {"allowed_languages": ("de", "french")},
        {"language": "de", "on_drift": "whisper", "drift_model": "turbo"},
        {"word_timestamps": True, "clip_timestamps": (0.0, 5.0)},
        {"replacements": (("a", "b"),), "replacements_ignore_case": True},
        {"seed": 7},
        # These say what it does in any case: greedy, no fallback, no text before a piece.
        {"temperatures": (0.0,), "condition_on_previous_text": False},
        {"beam_size": None, "best_of": 1},
        {"beam_size": 1},
    ],
)
def test_defaults_and_what_it_has_pass(options):
    """A farm's settings serve both families."""
    check(**options)


REFUSED = [
    ("temperatures", (0.0, 0.5), "greedy"),
    ("temperatures", (0.4,), "greedy"),
    ("task", "translate", "does not translate"),
    ("initial_prompt", "Interview with Dr. No.", "takes no prompt"),
    ("hotwords", "Kubernetes", "words to expect"),
    ("best_of", 4, "samples nothing"),
    ("beam_size", 4, "greedy"),
    ("length_penalty", 0.5, "greedy"),
    ("carry_initial_prompt", True, "takes no prompt"),
    ("suppress_tokens", (1, 2), "no such option"),
    ("no_speech_threshold", 0.5, "no such option"),
    ("logprob_threshold", None, "no such option"),
    ("compression_ratio_threshold", 2.0, "no such option"),
    ("max_initial_timestamp", 2.0, "no such option"),
    ("without_timestamps", True, "no such option"),
    ("suppress_blank", False, "no such option"),
    ("sample_len", 10, "no such option"),
]


@pytest.mark.parametrize(("option", "value", "reason"), REFUSED)
def test_what_it_lacks_is_named(option, value, reason):
    """With the value, and why."""
    with pytest.raises(InvalidOptions, match=reason) as refused:
        check(**{option: value})
    assert refused.value.context == f"options: {option}"
    assert NAME in refused.value.constraint


@pytest.mark.parametrize("option", sorted(set(Options.model_fields) - OBEYED))
def test_an_option_that_comes_later_is_refused_until_it_is_obeyed(option):
    """Whatever it is: here each that is not obeyed has a value of its own."""
    changed = Options.model_construct(**{option: "something else"})
    with pytest.raises(InvalidOptions) as refused:
        check_options(changed, EUROPEAN, NAME)
    assert refused.value.context == f"options: {option}"


@pytest.mark.parametrize(
    ("languages", "options", "named"),
    [
        (EUROPEAN, {"language": "japanese"}, "bg, cs, da"),
        (EUROPEAN, {"allowed_languages": ("de", "ja")}, "bg, cs, da"),
        (("en",), {"language": "de"}, "has only en"),
        (EUROPEAN, {"on_drift": "whisper", "drift_model": "turbo"}, "needs language"),
    ],
)
def test_a_language_that_the_model_has_not_is_refused(languages, options, named):
    """It writes 25 languages, or English; a drift is only seen against a language."""
    with pytest.raises(InvalidOptions, match=named):
        check(languages, **options)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--prompt", "Names"), "--initial-prompt: must be left out with moondream/parakeet-ultra"),
        (("--language", "ja"), "--language: moondream/parakeet-ultra has only bg, cs"),
        (("--drift-model", "parakeet-v3"), "--drift-model: .*Whisper"),
    ],
)
def test_a_command_line_is_refused_before_anything_is_started(flags, named, scribefarm, write_wav):
    """Exit code 2, by the flag that said it."""
    done = scribefarm("transcribe", write_wav(), "--model", "parakeet", *flags)
    assert done.returncode == 2
    assert re.search(named, done.stderr), done.stderr
