"""Names, texts, tags and metadata are text: in pages, in news, in addresses, in headers."""

import re

import html5lib
import pytest

from producer.formats import FORMATS
from producer.rq_data import format_time
from producer.web.downloads import disposition
from producer.web.live import Topic
from producer.web.parts import render_parts
from tests.web.hostile import BATCH, CONTROLS, NAMES, SCRIPT

_HTML = "{http://www.w3.org/1999/xhtml}"
# Elements and attributes that our own pages have; whatever else is there was put there.
_SCRIPTS = {"/static/live.js", "/static/player.js"}


def tampered(document):
    """Return what in a page is not ours."""
    found = []
    for element in html5lib.parse(document).iter():
        tag = str(element.tag).removeprefix(_HTML)
        if tag in {"iframe", "object", "embed", "style", "base", "meta refresh"}:
            found.append(tag)
        if tag == "script" and (element.get("src") not in _SCRIPTS or element.text):
            found.append("script")
        if tag == "img" and element.get("src") != "/static/icon.svg":
            found.append("img")
        for name, value in element.attrib.items():
            if name.startswith("on") or name == "style":
                found.append(f"{tag} {name}")
            if name in {"href", "src", "action"} and not value.startswith(("/", "#")):
                found.append(f"{tag} {name}={value}")
    return found


def test_the_check_finds_what_it_looks_for():
    """Else the tests below would prove nothing."""
    for bad in (
        "<script>x</script>",
        "<img src=x>",
        "<b onclick=x>",
        "<a href='javascript:x'>",
        BATCH,
    ):
        assert tampered(f"<p>{bad}</p>")
    assert hidden(CONTROLS)


def hidden(text):
    """Return the characters that a person would not see, or that turn the direction of others."""
    return set(
        re.findall("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00-\x08\x0b-\x1f\u2028\u2029]", text)
    )


@pytest.fixture
def paths(night, page):
    """Return every page that shows something of the hostile batch."""
    page.index(BATCH)
    jobs = [night.jobs[name] for name in NAMES]
    recordings = [
        {"job": job, "batch": BATCH, "name": name, "q": SCRIPT}
        for job, name in zip(jobs, NAMES, strict=True)
    ]
    return [
        ("/", {}),
        ("/all-batches", {}),
        ("/batch", {"name": BATCH}),
        (
            "/batch",
            {"name": BATCH, "find": SCRIPT, "code": SCRIPT, "flag": SCRIPT, "folder": CONTROLS},
        ),
        ("/batch", {"name": BATCH, "said": SCRIPT, "n": SCRIPT}),
        ("/search", {"batch": BATCH, "q": "needle3"}),
        ("/search", {"batch": BATCH, "q": SCRIPT}),
        *(("/recording", each) for each in recordings),
        *(("/recording", {"job": job}) for job in jobs),
    ]


def test_nothing_becomes_a_part_of_a_page(page, paths):
    """Parsed as browsers do, each page has our elements alone, and shows what was hidden."""
    for path, asked in paths:
        text = page.html(path, **asked)
        assert tampered(text) == [], (path, asked)
        assert hidden(text) == set(), (path, asked)
        assert re.findall(r"\b(?:7651|6558)\b", text) == [], (path, asked)


def test_what_is_not_found_is_told_as_text(page):
    """Also what an address says itself."""
    for path in ("/batch", "/worker", "/search"):
        answer = page.get(path, params={"name": SCRIPT, "batch": SCRIPT})
        assert answer.status_code == 404
        assert tampered(answer.text) == []
    assert tampered(page.get(f"/{SCRIPT}").text) == []
    assert tampered(page.get("/download", params={"format": SCRIPT}).text) == []


def test_news_are_escaped_as_pages_are(page):
    """What is sent to open pages is put into them as it is."""
    view = page.web.feed.view(BATCH)
    for topic in (Topic("farm"), Topic("batch", BATCH), Topic("workers"), Topic("worker", SCRIPT)):
        for html in render_parts(topic, view).values():
            assert tampered(html) == []
            assert hidden(html) == set()


@pytest.mark.parametrize("name", NAMES)
def test_downloads_have_harmless_headers_and_are_no_pages(night, page, name):
    """One header, no path, no page, whatever the name says; the text is the format's own."""
    for format_name in FORMATS:
        asked = {"job": night.jobs[name], "batch": BATCH, "name": name, "format": format_name}
        answer = page.get("/download", params=asked)
        assert "set-cookie" not in answer.headers
        given = answer.headers["content-disposition"]
        assert re.fullmatch(
            r"attachment; filename=\"[A-Za-z0-9._ -]+\"; filename\*=UTF-8''[A-Za-z0-9._~%-]+", given
        )
        assert "%2F" not in given
        assert "%E2%80%AE" not in given
        assert "sandbox" in answer.headers["content-security-policy"]
        assert not answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a\r\nX: y.srt", "a_X_ y.srt"),
        ('"; filename=evil.html', "filename_evil.html"),
        ("....", "transcript"),
        ("日本.srt", "_.srt"),
        ("\ud800.srt", "_.srt"),
    ],
)
def test_a_file_name_is_ascii_or_encoded(name, plain):
    """RFC 6266."""
    assert f'filename="{plain}"' in disposition(name).replace("__", "_").replace('"_ ', '"')


def test_a_worker_may_be_called_anything(farm, open_page):
    """Any program of the server can write a worker's record."""
    beat = format_time(farm.connection.time()[0])
    for name in (SCRIPT, "\"'><b onmouseover=alert(1)>", CONTROLS):
        farm.connection.sadd("rq:workers", f"rq:worker:{name}")
        fields = {"queues": "default", "last_heartbeat": beat, "state": name, "model": name}
        farm.connection.hset(f"rq:worker:{name}", mapping=fields)
    page = open_page(farm, allow_actions=True)
    assert page.html("/workers").count('scope="row"') == 3
    for path, asked in (("/", {}), ("/workers", {}), ("/worker", {"name": SCRIPT})):
        text = page.html(path, **asked)
        assert tampered(text) == []
        assert hidden(text) == set()
