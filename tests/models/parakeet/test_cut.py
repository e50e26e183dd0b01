"""Where a recording is cut: at the last pause in 1 to 30 s, else at 30 s, and nowhere twice."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.speech import Speech
from worker.models.parakeet.cut import LONGEST_PIECE, RATE_HZ, Piece, Span, Voices, pieces
from worker.models.parakeet.listening import spans_of


def cuts(spans, duration_s, *, skipped=(), clips=None, begin_s=0.0):
    """Return the pieces of a recording in seconds."""
    whole = clips or [(0.0, duration_s)]
    in_samples = [(round(start * RATE_HZ), round(end * RATE_HZ)) for start, end in whole]
    speech = Speech(None, skipped)
    found = pieces(Voices(spans), in_samples, speech, round(begin_s * RATE_HZ))
    return [(round(piece.start_s, 4), round(piece.end_s, 4)) for piece in found]


def talk(*edges):
    return [Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize(
    ("spans", "duration_s", "expected"),
    [
        # What fits is left whole, whatever pauses it has.
        (talk(0, 10, 11, 30), 30, [(0, 30)]),
        ([], 12, [(0, 12)]),
        # The last pause within 30 s, in its middle.
        (talk(0, 10, 11, 25, 26, 40), 40, [(0, 25.5), (25.5, 40)]),
        # A pause of less than 0.2 s is none: it is cut at 30 s.
        (talk(0, 20, 20.19, 45), 45, [(0, 30), (30, 45)]),
        (talk(0, 20, 20.2, 45), 45, [(0, 20.1), (20.1, 45)]),
        # One within the first second is none either.
        (talk(0, 0.7, 1, 40), 40, [(0, 30), (30, 40)]),
        # A pause whose middle is exactly at 30 s counts, behind it not.
        (talk(0, 29, 31, 50), 50, [(0, 30), (30, 50)]),
        (talk(0, 29.1, 31.1, 50), 50, [(0, 30), (30, 50)]),
        # A long silence is cut in its middle, or every 30 s on the way there.
        (talk(0, 10, 20, 45), 45, [(0, 15), (15, 45)]),
        (talk(0, 10, 100, 110), 110, [(0, 30), (30, 55), (55, 85), (85, 110)]),
    ],
)
def test_the_rule(spans, duration_s, expected):
    """moondream's, for parakeet-ultra."""
    assert cuts(spans, duration_s) == expected


def test_no_piece_begins_in_skipped_silence_and_no_time_moves():
    """`audio.vad = skip-silence`: a window, or piece, that begins before may reach into it."""
    spans = talk(0, 10, 100, 110)
    assert cuts(spans, 110, skipped=[(10, 99.6)]) == [(0, 30), (99.6, 110)]
    assert cuts([], 60, skipped=[(0, 60)]) == []


def test_clips_are_cut_apart_and_overlapping_ones_give_no_second_twice():
    """`clip_timestamps` in any order that Whisper takes."""
    spans = talk(0, 100)
    assert cuts(spans, 100, clips=[(5, 12), (50, 90)]) == [(5, 12), (50, 80), (80, 90)]
    assert cuts(spans, 100, clips=[(5, 12), (8, 20)]) == [(5, 12), (12, 20)]


@given(
    st.lists(st.integers(1, 4000), max_size=60),
    st.integers(0, 60_000),
    st.lists(st.integers(0, 60_000), max_size=2),
)
def test_any_speech_is_cut_without_gap_and_overlap_and_the_same_from_every_cut(
    lengths, duration, skipped
):
    """In hundredths of a second; every cut is where another worker would go on."""
    edges, now = [], 0
    for length in lengths[: len(lengths) // 2 * 2]:
        now += length
        edges.append(now / 100)
    voices = Voices([Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)])
    end = duration * RATE_HZ // 100
    silence = [tuple(second / 100 for second in sorted(skipped))] if len(skipped) == 2 else []
    speech = Speech(None, silence)
    whole = list(pieces(voices, [(0, end)], speech))
    assert all(0 < piece.end - piece.start <= LONGEST_PIECE for piece in whole)
    if not silence:
        borders = [(0, 0), *((piece.start, piece.end) for piece in whole), (end, end)]
        assert all(before[1] == after[0] for before, after in pairwise(borders))
    for number, piece in enumerate(whole):
        assert list(pieces(voices, [(0, end)], speech, piece.start)) == whole[number:]


def test_a_piece_is_silent_if_nobody_speaks_in_it():
    """To the sample: a word that reaches into it counts."""
    voices = Voices(talk(1, 2, 5, 6))

    def is_silent(start, end):
        return voices.is_silent(Piece(round(start * RATE_HZ), round(end * RATE_HZ)))

    assert is_silent(2, 5)
    assert is_silent(0, 1)
    assert is_silent(6, 60)
    assert not is_silent(0, 1.01)
    assert not is_silent(5.99, 9)
    assert not is_silent(0, 60)
    assert Voices([]).is_silent(Piece(0, RATE_HZ))


def test_the_heads_frames_become_speech_as_moondream_reads_them():
    """From one half on; gaps shorter than 0.1 s are bridged, runs shorter than 0.1 s dropped."""

    def spans(pattern):
        frames = [(round(0.08 * number, 2), char == "x") for number, char in enumerate(pattern)]
        return spans_of(frames, 0.08 * len(pattern))

    assert spans("..xx.xx...") == [(0.16, 0.56)]
    assert spans("..xx..xx..") == [(0.16, 0.32), (0.48, 0.64)]
    assert spans("..x..") == []
    assert spans("....xx") == [(0.32, 0.48)]
    assert spans("......") == spans("") == []
