"""Results of a family that lacks some of Whisper's figures: every reader does without them."""

import json

import pytest

from producer.formats import FORMATS, FormatOptions
from producer.result import Segment, dump_result, outcome_fields, parse_result
from tests.stage.transcripts import segment, transcript, words

ABSENT = {"temperature": None, "no_speech_prob": None}
OPTIONS = [
    FormatOptions(),
    FormatOptions(highlight_words=True),
    FormatOptions(max_line_width=20, max_line_count=2),
]


def spoken(*, timed):
    said = words((" Hello,", 0.0, 0.5), (" world.", 0.6, 1.2)) if timed else None
    first = segment(0, 0.0, 1.2, " Hello, world.", said)
    second = segment(1, 2.0, 3.0, " Again.", None if not timed else words((" Again.", 2.0, 3.0)))
    return transcript([first, second], text=" Hello, world. Again.")


def without_figures(whole):
    """Return the transcript as Parakeet's family gives it."""
    update = ABSENT | {"confidence": 0.5}
    segments = [each.model_copy(update=update) for each in whole.segments]
    return whole.model_copy(update={"segments": segments})


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_no_format_needs_them(name, timed):
    """Only openai-whisper's JSON has them: there their keys are absent."""
    whole = spoken(timed=timed)
    for options in OPTIONS if timed else OPTIONS[:1]:
        full, lacking = (FORMATS[name](each, options) for each in (whole, without_figures(whole)))
        if name == "json":
            full = json.loads(full)
            for each in full["segments"]:
                del each["temperature"], each["no_speech_prob"]
            lacking = json.loads(lacking)
        assert lacking == full


def test_a_stored_result_comes_back_with_what_is_absent():
    """As null; schema 1 all the same."""
    lacking = without_figures(spoken(timed=True))
    stored = json.loads(dump_result(lacking))
    assert stored["schema"] == 1
    assert stored["segments"][0]["temperature"] is None
    assert parse_result(dump_result(lacking)) == lacking
    assert outcome_fields(lacking)["num_flagged"] == "2"


def test_results_of_before_are_read_as_they_were():
    """They have every figure, and no confidence."""
    stored = json.loads(spoken(timed=False).segments[0].model_dump_json())
    del stored["confidence"]
    read = Segment.model_validate(stored)
    assert (read.temperature, read.no_speech_prob, read.confidence) == (0.0, 0.01, None)
