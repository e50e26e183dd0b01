"""Output formats: byte for byte openai-whisper's, and readable by other people's tools."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidOptions, OutOfRange
from producer.formats import (
    FORMATS,
    FormatOptions,
    file_extension,
    format_timestamp,
    to_json,
    to_srt,
    to_timed,
    to_tsv,
    to_txt,
    to_vtt,
)
from tests.stage.transcripts import segment, transcript, words

WRITERS = Path(__file__).parents[1] / "data" / "writers"


SPOKEN = transcript(
    [
        segment(0, 0.0, 7.74, " And so, my fellow Americans,"),
        segment(1, 7.74, 3661.5, " ask --> not\twhat"),
    ],
    text=" And so, my fellow Americans, ask --> not\twhat",
)
TIMED = transcript(
    [
        segment(0, 0.0, 1.5, " So my", words((" So", 0.0, 0.5), (" my", 0.75, 1.5))),
        segment(1, 2.0, 9.0, " fellow.", words((" fellow.", 2.0, 9.0))),
    ]
)


def stored_cases():
    return json.loads((WRITERS / "cases.json").read_text())["cases"]


def stored_results():
    return json.loads((WRITERS / "cases.json").read_text())["results"]


def test_every_stored_file_of_openai_whisper_is_equalled_byte_for_byte():
    """All formats, options and odd texts of tests/data/make_writers.py; none is left out."""
    results = {name: transcript(**result) for name, result in stored_results().items()}
    cases = stored_cases()
    assert {case["format"] for case in cases} == {"txt", "srt", "vtt", "tsv", "json"}
    for case in cases:
        options = FormatOptions.parse(**(case["options"] or {}))
        written = FORMATS[case["format"]](results[case["result"]], options)
        assert written.encode() == (WRITERS / case["file"]).read_bytes(), case


def test_txt_has_a_line_a_segment():
    """Text without the space in front that Whisper's tokens bring."""
    assert to_txt(SPOKEN) == "And so, my fellow Americans,\nask --> not\twhat\n"


def test_timed_text_is_what_the_terminal_shows():
    """Hours appear from the first hour on."""
    assert to_timed(SPOKEN) == (
        "[00:00.000 --> 00:07.740] And so, my fellow Americans,\n"
        "[00:07.740 --> 01:01:01.500] ask --> not\twhat\n"
    )


def test_srt_has_numbered_cues_and_always_hours():
    """An arrow in the text is written shorter, since readers take it for a line of times."""
    assert to_srt(SPOKEN) == (
        "1\n00:00:00,000 --> 00:00:07,740\nAnd so, my fellow Americans,\n\n"
        "2\n00:00:07,740 --> 01:01:01,500\nask -> not\twhat\n\n"
    )


def test_vtt_starts_with_its_mark():
    """A file without segments is still a valid one."""
    assert to_vtt(transcript([])) == "WEBVTT\n\n"


def test_tsv_has_milliseconds_and_no_tab_in_the_text():
    """Any reader of tab-separated values gets three columns."""
    rows = list(csv.DictReader(io.StringIO(to_tsv(SPOKEN)), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["start"] for row in rows] == ["0", "7740"]
    assert rows[1]["text"] == "ask --> not what"


def test_json_is_openai_whispers_result():
    """Its keys in its order; words only where there are some; none of our own keys."""
    plain, timed = json.loads(to_json(SPOKEN)), json.loads(to_json(TIMED))
    assert list(plain) == ["text", "segments", "language"]
    assert list(plain["segments"][0]) == [
        "id",
        "seek",
        "start",
        "end",
        "text",
        "tokens",
        "temperature",
        "avg_logprob",
        "compression_ratio",
        "no_speech_prob",
    ]
    assert timed["segments"][0]["words"][1] == {
        "word": " my",
        "start": 0.75,
        "end": 1.5,
        "probability": 0.5,
    }


def test_highlighted_words_are_underlined_in_turn_and_gaps_shown_plain():
    """Between two words the line is shown without a mark."""
    cues = to_vtt(TIMED, FormatOptions(highlight_words=True)).split("\n\n")[1:-1]
    assert cues[:3] == [
        "00:00.000 --> 00:00.500\n<u>So</u> my",
        "00:00.500 --> 00:00.750\nSo my",
        "00:00.750 --> 00:01.500\nSo <u>my</u>",
    ]


def test_width_and_lines_let_subtitles_flow_over_segments():
    """With both limits a subtitle holds words of two segments."""
    options = FormatOptions(max_line_width=9, max_line_count=2)
    assert "So my\nfellow.\n" in to_srt(TIMED, options)


def test_a_segment_without_word_times_among_others_keeps_its_text():
    """The aligner may leave a segment out; its text is shown whole."""
    mixed = transcript([*TIMED.segments, segment(2, 9.0, 10.0, " left out")])
    assert "left out" in to_srt(mixed)


@pytest.mark.parametrize("name", ["srt", "vtt"])
@pytest.mark.parametrize("spoken", [SPOKEN, TIMED], ids=["segments", "words"])
def test_subtitles_are_read_back_by_pysubs2_with_the_same_times_and_text(name, spoken):
    """A library that is not ours finds every cue."""
    subtitles = pysubs2.SSAFile.from_string(FORMATS[name](spoken, FormatOptions()), name)
    expected = [
        (round(1000 * each.start), round(1000 * each.end), each.text.strip().replace("-->", "->"))
        for each in spoken.segments
    ]
    assert [(line.start, line.end, line.plaintext) for line in subtitles] == expected


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_are_read_by_ffmpeg(name, tmp_path):
    """FFmpeg converts our file and finds every cue and time."""
    path = tmp_path / f"talk.{name}"
    path.write_text(FORMATS[name](TIMED, FormatOptions()))
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "srt", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = pysubs2.SSAFile.from_string(done.stdout, "srt")
    assert [(line.start, line.end, line.plaintext) for line in lines] == [
        (0, 1500, "So my"),
        (2000, 9000, "fellow."),
    ]


@pytest.mark.parametrize(
    "fields", [{"max_line_width": 0}, {"max_lines": 2}, {"max_words_per_line": -1}]
)
def test_wrong_format_options_are_refused_by_name(fields):
    """The error names the option."""
    (name,) = fields
    with pytest.raises(InvalidOptions, match=name):
        FormatOptions.parse(**fields)


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds):
    """Negative and non-finite times never reach a file."""
    with pytest.raises(OutOfRange):
        format_timestamp(seconds)


@given(st.floats(0, 360_000))
def test_a_timestamp_reads_back_to_the_millisecond(seconds):
    """Rounding carries into seconds, minutes and hours."""
    hours, minutes, rest = format_timestamp(seconds, hours=True).split(":")
    assert round((int(hours) * 60 + int(minutes)) * 60_000 + float(rest) * 1000) == round(
        seconds * 1000
    )
    assert float(rest) < 60
    assert int(minutes) < 60


def test_every_format_has_an_extension_of_its_own():
    """No format overwrites another's file."""
    assert len({file_extension(name) for name in FORMATS}) == len(FORMATS)
