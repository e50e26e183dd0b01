"""What was heard of a recording, asked second by second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.speech import Speech

times = st.integers(0, 60)


@given(st.sets(times).map(sorted), times, times)
def test_seconds_of_speech_are_counted_as_one_by_one(edges, start, end):
    """Whole seconds, each within speech or not."""
    edges = edges[: len(edges) // 2 * 2]
    spoken = {
        second
        for first, last in zip(edges[::2], edges[1::2], strict=True)
        for second in range(first, last)
    }
    found = Speech(edges).seconds_within(start, end)
    assert found == len(spoken & set(range(start, end)))


@given(st.sets(times).map(sorted), times)
def test_a_time_in_a_skipped_stretch_becomes_its_end(edges, second):
    """And any other stays; the end of a stretch is not in it."""
    skipped = list(zip(edges[::2], edges[1::2], strict=False))
    inside = [end for start, end in skipped if start <= second < end]
    assert Speech((), skipped).after_silence(second) == (inside or [second])[0]


def test_where_nobody_listened_all_is_speech_and_nothing_is_skipped():
    """No evidence is no silence."""
    assert Speech().seconds_within(3.0, 5.5) == 2.5
    assert Speech(()).seconds_within(3.0, 5.5) == 0.0
    assert Speech().after_silence(7.0) == 7.0
    assert Speech(()).seconds_within(5.0, 3.0) == pytest.approx(0.0)
