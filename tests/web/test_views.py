"""What pictures and texts are made of, without a server."""

import pytest

from producer.batches.runs import Run
from producer.batches.views import BatchCounts
from producer.throughput import Slot
from producer.web.charts import line, throughput, timeline
from producer.web.rendering import duration, link, number
from producer.web.snapshot import BatchView, farm_eta_s
from producer.web.text_view import SEGMENTS_A_PART, part_of_hit, text_view
from tests.stage.shown_farm import said, transcript


def test_the_picture_begins_where_work_began():
    """Three hours at least; the highest bar is under a round number."""
    slots = [Slot(n * 300, 300.0 * 37 if n >= 200 else 0.0, 2, n == 250) for n in range(288)]
    chart = throughput(slots)
    assert chart.most == 50
    assert chart.bars[0].height == pytest.approx(74.0)
    assert len(chart.labels) == 6
    assert chart.bars[-1].x + chart.bars[-1].width <= 1000
    assert [bar.failed_height for bar in chart.bars if bar.failed_height] == [100.0]
    assert throughput([Slot(n * 300) for n in range(288)]) is None
    assert throughput([Slot(n * 300, 1.0 * (n == 287)) for n in range(288)]).bars[0].x > 900


def test_a_line_ends_at_the_right():
    """Also one of zeros, or of nothing."""
    assert line([0.0, 1.0]).split() == ["0.0,97.0", "1000.0,3.0"]
    assert line([]) == ""


def test_marks_stay_within_the_picture():
    """Whisper's times may lie beyond the end; a damaged result's may be anything."""
    segments = said(["one two"], start=0.0)
    broken = segments[0].model_copy(update={"start": float("nan"), "end": 1e30, "flags": ["x"]})
    marks = timeline(transcript([*segments, broken], duration_s=2.0), [])
    assert all(0 <= mark.x <= 1000 and 0 < mark.width <= 1000 for mark in marks)
    assert [mark.is_flagged for mark in marks] == [False, True]
    many = transcript(said(["a"] * 5000, word_s=0.01), duration_s=3000.0)
    assert len(timeline(many, [])) <= 2000


def test_a_long_text_has_parts():
    """Each is a page; what is looked for leads to its part."""
    sentences = [f"word{n}." for n in range(2 * SEGMENTS_A_PART + 1)]
    long = transcript(said(sentences))
    view = text_view(long, part=99)
    assert (view.part, len(view.parts), len(view.segments)) == (3, 3, 1)
    assert part_of_hit(long, f"word{SEGMENTS_A_PART}") == 2
    assert part_of_hit(long, "nowhere") == 1
    hits = text_view(long, 2, f"WORD{SEGMENTS_A_PART}").segments
    assert [segment.is_hit for segment in hits[:2]] == [True, False]


def test_a_text_without_word_times_is_whole():
    """Its words are at the start of their segment; no letter is lost."""
    plain = transcript(said(["Fail again, fail better."], has_words=False))
    (segment,) = text_view(plain, query="better").segments
    shown = "".join(word.space + word.text for word in segment.words)
    assert shown == " Fail again, fail better."
    assert [word.text for word in segment.words if word.is_hit] == ["better"]


def test_the_farm_is_done_when_what_is_left_is_done():
    """By its speed and the mean length; nothing left is done, nothing known is not known."""
    counts = BatchCounts(total=100, queued=50, succeeded=50, audio_s=5000.0)
    batch = BatchView("a", counts, Run())
    assert farm_eta_s((batch,), 10.0) == pytest.approx(500.0)
    assert farm_eta_s((), None) == 0.0
    assert farm_eta_s((batch,), None) is None
    unknown = BatchView("b", BatchCounts(total=5, queued=5), Run(), eta_s=7.0)
    assert farm_eta_s((unknown,), 10.0) == 7.0


def test_numbers_and_addresses_for_people_and_browsers():
    """Thousands are apart; an empty parameter is none; nothing in a value ends it."""
    assert [number(value) for value in (0, 7, 7.25, 123.4, 1_000_000)] == [
        *("0", "7", "7.2", "123", "1,000,000")
    ]
    assert duration(974 * 3600) == "974 h"
    assert duration(float("nan")) == "unknown"
    assert link("/batch", name='a&b="#?', state="") == "/batch?name=a%26b%3D%22%23%3F"
