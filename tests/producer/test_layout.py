"""Subtitles within limits: nothing is lost, nothing overlaps, and limits hold where they can."""

import json
import math
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producer.errors import InvalidOptions
from producer.formats import GUIDELINES, FormatOptions, to_srt
from producer.formats.cues import subtitles
from producer.formats.layout import _divided, _Limits
from producer.formats.pieces import timed_pieces
from producer.formats.whisper_subtitles import LONG_PAUSE_S
from tests.stage.transcripts import segment, timed_transcripts, transcript, words

NETFLIX = FormatOptions.parse("netflix")
FAST = transcript(
    [segment(0, 0, 2, " And so, my fellow Americans, ask not what your country can do for you.")]
)

format_options = st.builds(
    FormatOptions,
    max_line_width=st.sampled_from([None, 1, 3, 8, 42]),
    max_line_count=st.sampled_from([None, 1, 2]),
    max_words_per_line=st.sampled_from([None, 1, 3]),
    max_cps=st.sampled_from([None, 2, 17]),
    min_duration_s=st.sampled_from([None, 0.1, 0.9]),
    max_duration_s=st.sampled_from([None, 1, 7]),
    min_gap_s=st.sampled_from([0.0, 0.08, 1]),
)


def letters(text):
    """Return text without white space; an arrow is written shorter in subtitles."""
    return re.sub(r"\s", "", text).replace("-->", "->")


def width(line):
    return sum(unicodedata.category(char) not in {"Mn", "Me", "Cf"} for char in line)


def shown(spoken, options):
    """Return start and end in milliseconds and the text of each subtitle."""
    return [
        (round(each.start_s * 1000), round(each.end_s * 1000), "".join(each.texts))
        for each in subtitles(spoken, options)
    ]


@settings(deadline=None)
@given(timed_transcripts(), format_options)
def test_no_text_is_lost_or_moved(spoken, options):
    """With and without times of words, in whatever script, cut or not."""
    text = "".join(text for _, _, text in shown(spoken, options))
    assert letters(text) == letters("".join(each.text for each in spoken.segments))


@settings(deadline=None)
@given(timed_transcripts(), format_options)
def test_subtitles_never_overlap_and_none_stands_before_it_is_said(spoken, options):
    """Each stands for a millisecond at least; none ends later than it may."""
    written = shown(spoken, options)
    said = [word for each in spoken.segments for word in each.words or [each]]
    starts = {round(each.start * 1000) for each in said}
    for start, end, _ in written:
        assert start < end
        assert end - start <= (options.max_duration_s or math.inf) * 1000
    for (start, end, _), (following, _, _) in pairwise(written):
        assert start < end <= following
    if written:
        assert written[0][0] in starts


@settings(deadline=None)
@given(timed_transcripts(), format_options)
def test_no_line_is_too_wide_and_no_subtitle_too_high(spoken, options):
    """Always: a word that is wider than a line is cut."""
    for _, _, text in shown(spoken, options):
        lines = text.split("\n")
        assert all(lines)
        assert all(line == line.strip() for line in lines)
        if options.max_line_width:
            assert max(map(width, lines)) <= options.max_line_width
            assert len(lines) <= (options.max_line_count or math.inf)
        else:
            assert len(lines) == 1


def faults(start, end, chars, following, options):
    """Return whether a subtitle is too short, too fast, or too near to the next one."""
    wanted = max((options.min_duration_s or 0), chars / (options.max_cps or math.inf))
    is_near = following is not None and following - end < (options.min_gap_s or 0) * 1000
    return is_near or end - start < wanted * 1000


def divisions(pieces):
    """Return every way to cut a list in parts."""
    if not pieces:
        return [[]]
    return [
        [pieces[:size], *rest]
        for size in range(1, len(pieces) + 1)
        for rest in divisions(pieces[size:])
    ]


def lines_needed(part, max_width):
    count, length = 1, 0
    for piece in part:
        added = piece.width + (piece.space and length > 0)
        if length + added > max_width:
            count, length, added = count + 1, 0, piece.width
        length += added
    return count


def fits(part, options):
    """Return whether the limits of length, and those of time that can always be kept, allow it."""
    width, lines = options.max_line_width, options.max_line_count
    borders = [(before, piece) for before, piece in pairwise(part) if piece.opens]
    if not (width and lines):
        if borders or (options.max_words_per_line and len(part) > options.max_words_per_line):
            return False
    elif any(piece.start - before.start > LONG_PAUSE_S * 1000 for before, piece in borders):
        return False
    if len(part) > 1 and part[-1].end - part[0].start > (options.max_duration_s or math.inf) * 1000:
        return False
    return lines_needed(part, width or math.inf) <= (lines or math.inf)


def num_faults(parts, options):
    """Return how many subtitles of a division must miss time, however they are timed."""
    count = 0
    for part, following in pairwise([*parts, None]):
        start = part[0].start
        latest = start + (options.max_duration_s or math.inf) * 1000
        after = following[0].start if following else None
        if after is not None:
            latest = max(start + 1, min(latest, after - (options.min_gap_s or 0) * 1000))
        chars = sum(piece.width + piece.space for piece in part) - part[0].space
        count += faults(start, latest, chars, after, options)
    return count


@settings(deadline=None, max_examples=200)
@given(
    timed_transcripts(st.sampled_from(["ab", "hello,", "a", "Yes."]), max_segments=2),
    format_options,
)
@example(FAST, NETFLIX)
def test_a_limit_of_time_is_only_broken_where_no_division_keeps_it(spoken, options):
    """Tried against every division of the same words: none has fewer subtitles that miss time."""
    pieces = timed_pieces(spoken.segments, options.max_line_width)[:9]
    ours = [pieces[first:last] for first, last, _ in _divided(pieces, _Limits.of(options))]
    allowed = [parts for parts in divisions(pieces) if all(fits(part, options) for part in parts)]
    assert ours in allowed
    assert num_faults(ours, options) == min(num_faults(parts, options) for parts in allowed)


@settings(deadline=None)
@given(timed_transcripts(), format_options)
def test_a_subtitle_that_misses_time_fills_all_that_there_is(spoken, options):
    """Up to the next one and the gap before it, or to the longest time allowed."""
    written = shown(spoken, options.model_copy(update={"max_cps": 17.0}))
    for (start, end, text), following in pairwise([*written, None]):
        chars = width(letters(text))
        gap = math.ceil((options.min_gap_s or 0) * 1000)
        if end - start < 1000 * max(options.min_duration_s or 0, chars / 17.0) - 1:
            longest = (options.max_duration_s or math.inf) * 1000
            room = following[0] - gap if following else math.inf
            assert end == min(start + longest, max(room, start + 1))


def test_the_netflix_guide_is_kept_by_speech_that_leaves_the_time():
    """42 characters, two lines, 17 a second, 5/6 s to 7 s, two frames of 24 a second between."""
    said = " ask not what your country can do for you," * 4
    calm = transcript(
        [segment(number, 14.0 * number, 14.0 * number + 13, said) for number in (0, 1)]
    )
    written = shown(calm, NETFLIX)
    assert len(written) >= 4
    for start, end, text in written:
        assert max(map(len, text.split("\n"))) <= 42
        assert len(text.split("\n")) <= 2
        assert 833 < end - start <= 7000
        assert len(text) / (end - start) * 1000 <= 17
    assert all(following - end >= 83 for (_, end, _), (following, _, _) in pairwise(written))
    assert GUIDELINES["netflix"]["max_line_width"] == 42


@pytest.mark.parametrize("name", ["jfk", "jfk_words", "chapter", "chapter_words"])
def test_the_netflix_guide_is_kept_by_what_openai_whisper_heard(name):
    """A speech and a chapter read aloud, with times of words and without."""
    cases = Path(__file__).parents[1] / "data" / "writers" / "cases.json"
    heard = transcript(**json.loads(cases.read_text())["results"][name])
    written = shown(heard, NETFLIX)
    for (start, end, text), following in pairwise([*written, None]):
        after = following[0] if following else None
        assert not faults(start, end, width(text.replace("\n", " ")), after, NETFLIX), text
        assert max(map(width, text.split("\n"))) <= 42


def test_without_word_times_width_and_lines_hold_and_time_is_shared_by_characters():
    """Four words of four letters: each takes a quarter."""
    spoken = transcript([segment(0, 0, 4, " aaaa bbbb cccc dddd")])
    options = FormatOptions(max_line_width=9, max_line_count=1)
    assert to_srt(spoken, options) == (
        "1\n00:00:00,000 --> 00:00:02,000\naaaa bbbb\n\n"
        "2\n00:00:02,000 --> 00:00:04,000\ncccc dddd\n\n"
    )


def test_lines_are_balanced_and_break_after_punctuation():
    """The lower one may be longer."""
    said = " And so, my fellow Americans, ask not what your country"
    spoken = transcript([segment(0, 0, 5, said)])
    assert shown(spoken, NETFLIX)[0][2] == "And so, my fellow Americans,\nask not what your country"


def test_a_short_subtitle_stands_longer_and_words_keep_their_times():
    """Until the gap before the next one."""
    spoken = transcript(
        [
            segment(0, 0, 0.2, " No.", words((" No.", 0.0, 0.2))),
            segment(1, 5, 6, " Yes.", words((" Yes.", 5.0, 6.0))),
        ]
    )
    options = FormatOptions(min_duration_s=1, min_gap_s=0.1)
    assert shown(spoken, options) == [(0, 1000, "No."), (5000, 6000, "Yes.")]
    (first, _) = subtitles(spoken, options)
    assert first.words == words(("No.", 0.0, 0.2))


def test_scripts_without_spaces_break_between_characters():
    """Never before a full stop."""
    spoken = transcript([segment(0, 0, 6, "\u4f60\u597d\u4f60\u597d\u3002\u4f60\u597d")])
    options = FormatOptions(max_line_width=5, max_line_count=2)
    assert shown(spoken, options)[0][2] == "\u4f60\u597d\u4f60\u597d\u3002\n\u4f60\u597d"


@settings(deadline=None)
@given(timed_transcripts(with_words=True))
def test_highlighted_words_stay_within_their_subtitle(spoken):
    """Times of the file rise, and the text of each entry is whole."""
    options = FormatOptions(max_line_width=10, min_gap_s=0.1, highlight_words=True)
    lines = pysubs2.SSAFile.from_string(to_srt(spoken, options), "srt")
    for before, after in pairwise(lines):
        assert before.start <= before.end <= after.start


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"guideline": "bbc"}, "--subtitles: must be one of netflix"),
        ({"max_cps": 0}, "max_cps"),
        ({"max_cps": math.nan}, "max_cps"),
        ({"min_gap_s": -1}, "min_gap_s"),
        ({"min_duration_s": 3, "max_duration_s": 2}, "at most max_duration_s"),
        ({"guideline": "netflix", "max_duration_s": 0.5}, "at most max_duration_s"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(fields, named):
    """The error names the option."""
    with pytest.raises(InvalidOptions, match=re.escape(named)):
        FormatOptions.parse(**fields)


def test_what_is_given_beside_a_guideline_wins():
    """The rest stays the guideline's."""
    options = FormatOptions.parse("netflix", max_cps=20, max_line_width=None)
    assert (options.max_cps, options.max_line_width, options.max_line_count) == (20, 42, 2)
