"""Formats of a call with a speaker a channel: nobody's words end up in the other's mouth."""

import pytest

from producer.formats import FORMATS, FormatOptions
from producer.formats.cues import subtitles
from tests.stage.transcripts import segment, transcript, words

LEFT = (
    (0.0, 3.0, " Good morning.", [(" Good", 0.0, 1.0), (" morning.", 1.0, 3.0)]),
    (4.0, 6.0, " Who is it?", [(" Who", 4.0, 4.5), (" is", 4.5, 5.0), (" it?", 5.0, 6.0)]),
)
RIGHT = ((2.0, 5.0, " It is me.", [(" It", 2.0, 3.0), (" is", 3.0, 4.0), (" me.", 4.0, 5.0)]),)


def call(*, with_words, kind="channel"):
    said = [(1, *each) for each in LEFT] + [(2, *each) for each in RIGHT]
    said.sort(key=lambda each: each[1])
    segments = [
        segment(n, start, end, text, words(*timed) if with_words else None).model_copy(
            update={kind: voice}
        )
        for n, (voice, start, end, text, timed) in enumerate(said)
    ]
    return transcript(segments, "".join(each.text for each in segments))


@pytest.mark.parametrize("with_words", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_line_width": 42, "max_line_count": 2},
        {"max_line_width": 42, "max_line_count": 2, "max_duration_s": 7.0, "min_duration_s": 0.8},
    ],
)
def test_each_subtitle_is_of_one_speaker_and_keeps_its_time(with_words, given):
    shown = [
        (each.start_s, "".join(each.texts).strip())
        for each in subtitles(call(with_words=with_words), FormatOptions.parse(**given))
    ]
    assert [start for start, _ in shown] == sorted(start for start, _ in shown)
    assert (2.0, "It is me.") in shown
    assert shown[0][0] == 0.0
    assert shown[0][1].startswith("Good morning.")


@pytest.mark.parametrize(("kind", "name"), [("channel", "channel 2"), ("track", "track 2")])
def test_what_people_read_names_the_speaker(kind, name):
    spoken = call(with_words=False, kind=kind)
    assert f"[00:02.000 --> 00:05.000] {name}: It is me." in FORMATS["timed"](spoken)
    assert f"**00:02.000 {name}** It is me." in FORMATS["md"](spoken)
    assert f'<span class="time">00:02.000 {name}</span>' in FORMATS["html"](spoken)
    for annotation in ("eaf", "textgrid"):
        assert f"segments of {name}" in FORMATS[annotation](spoken)
