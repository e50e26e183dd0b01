"""What the pages say: the farm, a batch, a recording, found phrases, files to download."""

import html
import json
import re

import pytest

from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS, to_srt
from producer.queue import read_result


def links(text, path):
    """Return the addresses on a page that lead to a path."""
    found = re.findall(rf'href="({path}\?[^"]*)"', text)
    return [html.unescape(each) for each in found]


def test_the_farm_shows_its_batches_and_what_failed(page):
    """Counts, the throughput as a picture, and when all will be done."""
    text = page.html("/")
    assert "All done: nothing waits." in text or "No worker is alive" in text
    assert "<bdi>interviews</bdi>" in text
    assert "Audio hours done in an hour" in text
    assert 'class="audio"' in text


def test_a_batch_shows_errors_with_advice_folders_and_files(page):
    """Advice stands beside each code; folders have their own progress."""
    text = page.html("/batch", name="interviews")
    assert "corrupt_audio: 2" in text
    assert "Copy it again from the original" in text
    assert "<bdi>interviews/1974</bdi>" in text
    assert "<bdi>letters</bdi>" in text
    assert len(links(text, "/recording")) == 16


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"state": "failed", "code": "corrupt_audio"}, ["damp.wav", "torn.wav"]),
        ({"code": "unsupported_format"}, ["list.doc"]),
        ({"folder": "letters"}, ["list.doc", "share.wav"]),
        ({"find": "TAPE 03"}, ["tape 03 side B.wav"]),
        ({"find": "100%_"}, []),
        ({"flag": "low_confidence"}, ["tape 02 side A.wav", "tape 07 side B.wav"]),
        ({"flag": "repetition"}, []),
        ({"state": "open"}, []),
    ],
)
def test_files_are_filtered(page, asked, names):
    """By state, code, flag of a segment, folder and name; all at once if asked."""
    page.index("interviews")
    text = page.html("/batch", name="interviews", **asked)
    shown = re.findall(r'<th scope="row"><a href="/recording[^>]*><bdi>([^<]*)', text)
    assert [name.rpartition("/")[2] for name in shown] == names


def test_a_page_of_files_is_one_of_many(night, open_page, monkeypatch):
    """Pages follow one another, by name; one too far is the last."""
    monkeypatch.setattr("producer.web.pages.FILES_A_PAGE", 7)
    page = open_page(night.farm)
    seen = []
    for number in (1, 2, 3):
        text = page.html("/batch", name="interviews", page=number)
        assert f"Page {number} of 3" in text
        seen += re.findall(r'<th scope="row"><a href="/recording[^>]*><bdi>([^<]*)', text)
    assert seen == sorted(night.jobs.keys() & set(seen))
    assert len(seen) == 16
    assert "Page 3 of 3" in page.html("/batch", name="interviews", page=99)
    assert "Page 1 of 3" in page.html("/batch", name="interviews", page="-1 OR 1=1")


def test_a_recording_shows_words_with_times_and_marks(night, page):
    """Each word knows its time; a doubtful one and a flagged passage are marked."""
    job_id = night.jobs["interviews/1974/tape 07 side B.wav"]
    text = page.html("/recording", job=job_id)
    result = read_result(night.farm.connection, job_id)
    times = [float(each) for each in re.findall(r'class="w[^"]*" data-t="([\d.]+)"', text)]
    assert times == [round(word.start, 3) for each in result.segments for word in each.words]
    assert re.findall(r'class="w doubt"[^>]*>([^<]*)', text) == ["keys."]
    assert text.count('class="segment flagged') == 1
    assert 'id="audio" controls' in text


def test_channels_stand_in_lanes(night, page):
    """Who speaks on which channel is seen in the text and on the timeline."""
    text = page.html("/recording", job=night.jobs["interviews/1974/tape 03 side B.wav"])
    assert "channel 1" in text
    assert 'class="segment lane-1"' in text
    assert 'class="timeline lanes-2"' in text


def test_a_failed_recording_says_why_and_what_to_do(night, page):
    """Value, limit and advice."""
    text = page.html("/recording", job=night.jobs["interviews/1974/damp.wav"])
    assert "header: must hold 96 kB of samples (got 1024)" in text
    assert "Copy it again from the original" in text


def test_what_is_not_known_is_a_page_too(page):
    """404, with what to do; nobody sees a traceback."""
    for path in ("/batch?name=none", "/recording?job=none", "/worker?name=none", "/nothing"):
        answer = page.get(path)
        assert answer.status_code == 404
        assert "<h1>Not Found</h1>" in answer.text


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_transcript_is_downloaded_in_every_format(night, page, format_name):
    """The same bytes that `scribefarm results` writes, as a file."""
    name = "interviews/1971/tape 00 side A.wav"
    job = {"job": night.jobs[name], "batch": "interviews", "name": name}
    answer = page.get("/download", params={**job, "format": format_name})
    assert answer.status_code == 200
    assert 'attachment; filename="tape 00 side A.' in answer.headers["content-disposition"]
    assert answer.headers["content-type"].partition(";")[0] in {"text/plain", "application/json"}
    transcript = read_result(night.farm.connection, night.jobs[name])
    if format_name == "srt":
        assert answer.text == to_srt(transcript, DEFAULT_FORMAT_OPTIONS)
    if format_name == "json":
        assert json.loads(answer.text)["text"] == transcript.text


def test_a_phrase_is_found_in_the_texts(page):
    """Words, a phrase, the beginning of a word; with what stands around, and a way there."""
    page.index("interviews")
    text = page.html("/search", batch="interviews", q='"nobody kept" key')
    assert '<mark class="hit">nobody kept</mark>' in text
    found = links(text, "/recording")
    assert found
    there = page.get(found[0].partition("#")[0])
    assert 'id="hit"' in there.text
    assert "Nobody says that" in page.html("/search", batch="interviews", q='"kept nobody"')
    assert "Nobody says that" in page.html("/search", batch="interviews", q="zeppelin")


def test_the_workers_are_shown(page):
    """Also those that have ended are answered for, while anything of them is remembered."""
    assert "Workers" in page.html("/workers")
    assert "thread-" in page.html("/batch", name="interviews")
