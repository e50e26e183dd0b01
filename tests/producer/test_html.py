"""The report as HTML: one file that loads and runs nothing, whatever names and texts hold."""

import html.parser
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.batches.html import to_html
from tests.producer.made_report import made_report

ODD = st.text(
    st.sampled_from("<>&\"'`={}%#/\\ax-\n\t\x1b\u202e\u0000:;( "), min_size=1, max_size=40
)
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "</style></title></code><base href=//evil.example>",
    "javascript:alert(1)//",
    "&lt;b&gt; \u202egnp.exe",
]


class Outline(html.parser.HTMLParser):
    """The tags of a document with the names of their attributes, its links, and its text."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.links, self.text = [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, [name for name, _ in attrs]))
        self.links += [value for name, value in attrs if name in {"href", "src", "style", "action"}]

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        self.tags.append(("comment", [data]))


PLAIN = Outline(to_html(made_report("plain"))).tags


@settings(deadline=None, max_examples=50)
@given(ODD)
def test_no_text_changes_the_outline_of_a_page(text):
    """No tags and attributes beyond those of a plain name; all links lead to files here."""
    outline = Outline(to_html(made_report(f"a{text}b")))
    assert outline.tags == PLAIN
    assert all(link.startswith("file:///archive/") for link in outline.links)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_texts_are_shown_as_they_are(text):
    """As text, with what cannot be seen made visible."""
    outline = Outline(to_html(made_report(text)))
    assert outline.tags == PLAIN
    shown = text.replace("\u202e", "\\u202e")
    assert "".join(outline.text).count(shown) > 10
    assert "\u202e" not in "".join(outline.text)


def test_a_page_needs_nothing_from_elsewhere():
    """No scripts, images or style sheets; and it forbids them to itself."""
    page = to_html(made_report("a.wav"))
    outline = Outline(page)
    assert {tag for tag, _ in outline.tags}.isdisjoint({"script", "img", "link", "iframe", "audio"})
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page


@pytest.mark.parametrize(
    "name", ["it's a tape.wav", "-v.wav", "$(touch x).wav", "a\nb\x1b[2J\u202e.wav"]
)
def test_a_command_plays_the_very_file_from_a_second_before_the_passage(tmp_path, name):
    """Bash reads back the path, whatever stands in it."""
    page = Outline(to_html(made_report(name)))
    command = next(text for text in page.text if text.startswith("ffplay -ss 1.5 "))
    say = command.replace("ffplay", "printf '%s\\0'", 1)
    said = subprocess.run(
        [shutil.which("bash"), "-c", say], capture_output=True, check=True, cwd=tmp_path
    )
    assert said.stdout.decode().split("\0") == ["-ss", "1.5", f"/archive/{name}", ""]
    assert not list(tmp_path.iterdir())


def test_long_lists_say_how_many_more_there_are_on_a_page():
    """Unless all are asked for."""
    report = made_report("name", num_files=5)
    assert to_html(report, max_rows=2).count("And 3 more;") == 4
    assert "more;" not in to_html(report, None)


def test_next_steps_are_commands_for_a_shell():
    """The batch's name is one word of them."""
    page = Outline(to_html(made_report("my batch; rm -rf /")))
    steps = [text for text in page.text if text.startswith("scribefarm ")]
    assert steps
    assert all("my batch; rm -rf /" in shlex.split(step) for step in steps)
