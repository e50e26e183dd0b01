"""The latest lines of a recording at work, as they travel in its progress hash."""

import json

import pytest

from producer.progress_lines import MAX_CHARS, Line, dump_lines, latest_lines, read_lines
from producer.result import Segment


def segments(*texts):
    """Return segments of a second each."""
    figures = {"temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 1.0}
    return [
        Segment(
            id=n, seek=0, start=n, end=n + 1, text=text, tokens=[], no_speech_prob=0.0, **figures
        )
        for n, text in enumerate(texts)
    ]


def lines_of(*texts):
    return latest_lines(reversed(segments(*texts)))


def test_the_latest_segments_come_in_order_without_empty_ones():
    """As many as fit."""
    assert lines_of(" one", "", " two") == [Line(0, 1, " one"), Line(2, 3, " two")]
    assert lines_of() == []
    long = ["a" * (MAX_CHARS // 2), "b" * (MAX_CHARS // 2), "c" * 10]
    assert [line.text[0] for line in lines_of(*long)] == ["b", "c"]


def test_one_segment_is_always_there_cut_at_its_front():
    """However long a toy's segment may be."""
    assert lines_of("x", "a" * 5000 + "b") == [Line(1, 2, "a" * (MAX_CHARS - 1) + "b")]


@pytest.mark.parametrize("text", ["ü 中 \U0001f600", "\x1b[2J", '"\\', "\u2028"])
def test_lines_come_back_as_they_were(text):
    """Nothing is made harmless on the way: whoever shows them does so."""
    assert read_lines(dump_lines([Line(0.5, 1.25, text)])) == [Line(0.5, 1.25, text)]


def test_the_longest_lines_can_be_read():
    """Many short ones, of characters that JSON writes as six."""
    lines = lines_of(*["\x01"] * (MAX_CHARS // 2))
    assert read_lines(dump_lines(lines)) == lines


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "[",
        "{}",
        "[1]",
        "[[0, 1]]",
        "[[0, 1, 2]]",
        '[[NaN, 1, "a"]]',
        '[[-1, 1, "a"]]',
        '[[0, 1e300, "a"]]',
        "[" * 10_000,
        json.dumps([[0, 1, "a" * 1_000_000]]),
    ],
)
def test_what_another_program_wrote_is_no_lines(stored):
    """And costs a command nothing."""
    assert read_lines(stored) == []
