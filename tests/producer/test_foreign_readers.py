"""Each format is read by a program that is not ours, with the same times and text, whatever is said."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import av
import html5lib
import parselmouth
import pympi
import pysubs2
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from parselmouth.praat import call
from ttconv.imsc import reader as imsc

from producer.formats import FORMATS, FormatOptions
from producer.markup import spreadsheet_text
from tests.stage.transcripts import ODD_TEXT, segment, timed_transcripts, transcript, words

PLAIN = FormatOptions()
SUNG = FormatOptions(highlight_words=True)
SPOKEN = transcript(
    [
        segment(
            0,
            0.5,
            1.75,
            " Ever tried,",
            words((" Ever", 0.5, 1.0), (" tried,", 1.25, 1.75)),
            flags=(),
        ),
        segment(
            1, 2.0, 3671.5, " ever failed.", words((" ever", 2.0, 3.0), (" failed.", 3.0, 3671.5))
        ),
    ]
)
TIMES = [(500, 1750), (2000, 3_671_500)]
TEXTS = ["Ever tried,", "ever failed."]
ODD = transcript(
    [
        segment(number, number, number + 1, text)
        for number, text in enumerate(["<b>a</b>", "=1+1", "{x}"])
    ]
)

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# Each test reads files, or a whole other program does.
patiently = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def written(name, spoken, options=PLAIN):
    return FORMATS[name](spoken, options)


def said(text):
    """Return text as documents hold it: one kind of space, no characters that are none."""
    no_character = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
    return re.sub(no_character, "\ufffd", " ".join(text.split()))


def read_by_ffmpeg(text, name, tmp_path):
    """Return start and text of each entry as FFmpeg's demuxer has them."""
    path = tmp_path / f"talk.{name}"
    path.write_bytes(text.encode())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        return [
            (float(packet.pts * packet.time_base), bytes(packet).decode().strip())
            for packet in packets
        ]


# Subtitles


@pytest.mark.parametrize("name", ["ass", "ttml"])
def test_ass_and_ttml_are_read_by_pysubs2(name):
    """Times and text of every entry."""
    lines = pysubs2.SSAFile.from_string(written(name, SPOKEN), name)
    assert [(line.start, line.end) for line in lines] == TIMES
    assert [line.plaintext for line in lines] == TEXTS


@patiently
@given(timed_transcripts(), st.sampled_from([PLAIN, SUNG]))
@example(ODD, PLAIN)
def test_no_text_is_a_tag_of_ass(spoken, options):
    """Nothing is hidden, and no line begins a section of its own."""
    lines = pysubs2.SSAFile.from_string(written("ass", spoken, options), "ass")
    looks = str.maketrans({"{": "\uff5b", "}": "\uff5d", "\u2060": ""})
    expected = "".join("".join(each.text.split()) for each in spoken.segments).translate(looks)
    shown = "".join("".join(line.plaintext.split()) for line in lines)
    assert shown.replace("\u2060", "") == expected
    assert len(lines.styles) == 1


@pytest.mark.parametrize("name", ["ass", "lrc"])
def test_ass_and_lrc_are_read_by_ffmpeg(name, tmp_path):
    """Its demuxers find each entry at its time."""
    entries = read_by_ffmpeg(written(name, SPOKEN), name, tmp_path)
    assert [start for start, _ in entries] == [0.5, 2.0]
    assert [text.rpartition(",,")[2] if name == "ass" else text for _, text in entries] == TEXTS


@patiently
@given(timed_transcripts())
def test_no_text_is_a_time_of_lrc(tmp_path, spoken):
    """Each entry stands at the time of its segment; FFmpeg drops some of those that are the same."""
    assume(spoken.segments)
    entries = read_by_ffmpeg(written("lrc", spoken), "lrc", tmp_path)
    assert {round(start, 2) for start, _ in entries} == {
        round(each.start, 2) for each in spoken.segments
    }
    assert len(entries) <= len(spoken.segments)


def test_lrc_has_the_start_of_each_word_for_karaoke():
    """The enhanced kind; minutes go on behind the sixtieth."""
    text = written("lrc", SPOKEN, SUNG)
    assert text.splitlines()[0] == "[00:00.50]<00:00.50> Ever <00:01.25> tried,"
    late = written("lrc", transcript([segment(0, 3671.5, 3680, " late")]))
    assert late == "[61:11.50]late\n"


def test_karaoke_sings_each_word_for_its_time_and_pauses_too():
    """Read by pysubs2: the tags' centiseconds add up to the subtitle."""
    (line, _) = pysubs2.SSAFile.from_string(written("ass", SPOKEN, SUNG), "ass")
    assert line.text == r"{\k50}Ever{\k25} {\k50}tried,"
    assert sum(map(int, re.findall(r"\\k(\d+)", line.text))) * 10 == line.duration


@pytest.mark.parametrize("options", [PLAIN, SUNG])
def test_ttml_is_read_by_ttconv(options):
    """The reader of IMSC: a document with language, regions and every paragraph."""
    document = imsc.to_model(ET.ElementTree(ET.fromstring(written("ttml", SPOKEN, options))))
    assert document.get_body().get_region() is None or document.has_region("bottom")
    (division,) = list(document.get_body())
    paragraphs = list(division)
    assert paragraphs[0].get_lang() == "en"
    begins = [float(each.get_begin()) for each in paragraphs]
    assert begins[0] == 0.5
    assert begins == sorted(begins)
    if options is PLAIN:
        assert [float(each.get_end()) for each in paragraphs] == [1.75, 3671.5]


@patiently
@given(timed_transcripts(), st.sampled_from([PLAIN, SUNG]))
@example(ODD, PLAIN)
def test_no_text_is_an_element_of_ttml(spoken, options):
    """Parsed as XML: only our own elements, and all of the text."""
    root = ET.fromstring(written("ttml", spoken, options))
    names = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert names <= {"tt", "head", "layout", "region", "body", "div", "p", "br", "span"}
    if options is PLAIN:
        shown = "".join("".join(root.itertext()).split())
        text = "".join(each.text for each in spoken.segments)
        expected = text if spoken.segments and spoken.segments[0].words else None
        text = text if expected else text.replace("-->", "->")
        assert shown == "".join(said(text).split())


# Documents


@patiently
@given(ODD_TEXT)
@example("</title><script>alert(1)</script>")
@example("'\" onload=x")
def test_html_is_valid_and_no_text_is_markup(text):
    """html5lib's strict parser takes it, and finds the same elements as for a plain word."""
    outlines = [elements(written("html", named(each))) for each in ("a", f"a{text}b")]
    assert outlines[0] == outlines[1]


def named(text):
    """Return a transcript in which a text stands wherever one can."""
    spoken = transcript(
        [segment(0, 0, 1, text, flags=[text])], language=text, source=f"/x/{text.replace('/', '')}"
    )
    return spoken.model_copy(update={"model": spoken.model.model_copy(update={"name": text})})


def elements(html):
    document = html5lib.HTMLParser(strict=True).parse(html)
    return [(each.tag, sorted(each.attrib)) for each in document.iter()]


def test_html_shows_the_text_and_marks_what_is_doubtful():
    """And loads nothing."""
    document = html5lib.parse(written("html", SPOKEN), namespaceHTMLElements=False)
    paragraphs = ["".join(each.itertext()) for each in document.iterfind("body/p")]
    assert paragraphs[1:] == [
        "00:00.500Ever tried,",
        "00:02.000ever failed. (low_confidence)",
    ]
    assert document.find("head/title").text == "talk.wav"
    assert not [each for each in document.iter() if {"src", "href"} & set(each.attrib)]


@patiently
@given(ODD_TEXT)
@example("- x")
@example("1. x")
def test_no_text_is_markdown(text):
    """A CommonMark parser finds the outline of a plain word."""
    outlines = [outline(written("md", named(each))) for each in ("a", f"a{text}b")]
    assert outlines[0] == outlines[1]


def outline(markdown):
    return [
        token.type
        for block in MARKDOWN.parse(markdown)
        for token in (block, *(block.children or ()))
        if token.type not in {"text", "text_special"}
    ]


def test_markdown_shows_name_times_and_text():
    """As a reader sees it."""
    shown = MARKDOWN.render(written("md", SPOKEN))
    assert "<h1>Transcript: talk.wav</h1>" in shown
    assert "<p><strong>00:00.500</strong> Ever tried,</p>" in shown
    assert "<em>(low_confidence)</em>" in shown


@patiently
@given(timed_transcripts(st.text(max_size=6), max_segments=2))
@example(ODD)
def test_csv_has_the_text_back_and_no_formula(spoken):
    """Every row has four cells; none begins as a formula does; an apostrophe comes off again."""
    rows = list(csv.reader(io.StringIO(written("csv", spoken), newline="")))
    assert rows[0] == ["start", "end", "text", "flags"]
    assert len(rows) == len(spoken.segments) + 1
    for (start, end, text, _), spoken_segment in zip(rows[1:], spoken.segments, strict=True):
        assert float(start) <= float(end)
        assert not text.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d"))
        assert text.removeprefix("'") == " ".join(
            spoken_segment.text.replace("\0", "\ufffd").split()
        )


@given(st.text())
def test_a_spreadsheet_text_reads_back(text):
    """One apostrophe in front, only where needed."""
    marked = spreadsheet_text(text)
    assert marked in {text, f"'{text}"}
    assert not marked.startswith(("=", "+", "-", "@"))
    assert (marked.removeprefix("'")) == text


# Annotations


@patiently
@given(timed_transcripts())
@example(SPOKEN)
@example(ODD)
def test_eaf_is_read_by_pympi(tmp_path, spoken):
    """Tiers in order and without overlap, with all texts; the recording is linked."""
    path = tmp_path / "talk.eaf"
    path.write_bytes(written("eaf", spoken).encode())
    document = pympi.Eaf(str(path))
    tiers = tiers_of(spoken)
    assert list(document.get_tier_names()) == list(tiers)
    for name, texts in tiers.items():
        found = sorted(document.get_annotation_data_for_tier(name))
        assert [text for _, _, text in found] == texts
        assert all(start < end for start, end, _ in found)
        assert all(end <= start for (_, end, _), (start, _, _) in pairwise(found))
    (media,) = document.get_linked_files()
    assert (media["MEDIA_URL"], media["MIME_TYPE"]) == ("file:///archive/talk.wav", "audio/x-wav")


@patiently
@given(timed_transcripts())
@example(SPOKEN)
@example(ODD)
def test_textgrid_is_read_by_praat(tmp_path, spoken):
    """Praat's own reader finds every tier and every label."""
    path = tmp_path / "talk.TextGrid"
    path.write_bytes(written("textgrid", spoken).encode())
    grid = parselmouth.read(str(path))
    for number, (name, texts) in enumerate(tiers_of(spoken).items(), start=1):
        assert call(grid, "Get tier name", number) == name
        size = call(grid, "Get number of intervals", number)
        labels = [call(grid, "Get label of interval", number, each + 1) for each in range(size)]
        assert [label for label in labels if label] == [
            "".join(char if char.isprintable() else "\ufffd" for char in text) for text in texts
        ]


def tiers_of(spoken):
    tiers = {"segments": [said(each.text) for each in spoken.segments if each.text.strip()]}
    timed = [said(word.word) for each in spoken.segments for word in each.words or ()]
    return tiers | ({"words": [word for word in timed if word]} if timed else {})


def test_the_times_of_annotations_are_those_of_the_transcript(tmp_path):
    """Milliseconds in both."""
    path = tmp_path / "talk"
    path.write_text(written("eaf", SPOKEN))
    found = pympi.Eaf(str(path)).get_annotation_data_for_tier("segments")
    assert sorted((start, end) for start, end, _ in found) == TIMES
    path.write_text(written("textgrid", SPOKEN))
    grid = parselmouth.read(str(path))
    assert call(grid, "Get start time of interval", 1, 2) == 0.5
    assert call(grid, "Get total duration") == 3671.5


@pytest.mark.parametrize("name", FORMATS)
def test_a_transcript_without_a_word_is_a_sound_file_too(name, tmp_path):
    """Of each format; the readers that we have for it agree."""
    text = written(name, transcript([], source=""))
    if name in {"ass", "ttml"}:
        assert len(pysubs2.SSAFile.from_string(text, name)) == 0
    elif name == "html":
        assert elements(text)
    elif name in {"eaf", "textgrid"}:
        path = tmp_path / "a"
        path.write_text(text)
        assert pympi.Eaf(str(path)) if name == "eaf" else parselmouth.read(str(path))
    else:
        assert isinstance(text, str)
