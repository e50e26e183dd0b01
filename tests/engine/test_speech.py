"""What was heard of a recording, asked second by second."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.speech import Speech, common, merged

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


spans = (
    st.sets(times).map(sorted).map(lambda edges: list(zip(edges[::2], edges[1::2], strict=False)))
)


def seconds_of(found):
    return {second for start, end in found for second in range(start, end)}


@given(spans, spans, spans)
def test_stretches_of_several_lists(one, other, third):
    """Second by second: in either, or in all."""
    either = merged(one, other)
    assert seconds_of(either) == seconds_of(one) | seconds_of(other)
    assert all(before[1] < after[0] for before, after in pairwise(either))
    assert seconds_of(common(one, other)) == seconds_of(one) & seconds_of(other)
    in_all = seconds_of(one) & seconds_of(other) & seconds_of(third)
    assert seconds_of(common(one, other, third)) == in_all
    assert (list(common(one)), list(common())) == (one, [])
