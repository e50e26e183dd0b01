"""The report as Markdown: whatever names, messages and texts hold, none of it is markup."""

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from producer.batches.markdown import to_markdown
from tests.producer.made_report import made_report as make

RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ODD = st.text(st.sampled_from("`*_[]()!|<>&\\~#$@:/w. \n\x1bax-+1\t"), min_size=1, max_size=30)


def tokens(markdown):
    for token in RENDERER.parse(markdown):
        yield token
        yield from token.children or ()


def outline(markdown):
    """Return what kinds of markup a document has, one after the other, and no text."""
    return [token.type for token in tokens(markdown) if token.type not in {"text", "text_special"}]


@settings(deadline=None)
@given(ODD)
def test_no_text_changes_the_outline_of_a_report(text):
    """No links, images, emphasis, HTML or columns beyond those of a plain name."""
    plain = outline(to_markdown(make("plain")))
    # Cells without visible text are the same cells.
    assert outline(to_markdown(make(f"a{text}b"))) == plain


@settings(deadline=None)
@given(ODD)
def test_names_are_shown_as_they_are(text):
    """As code, with controls made visible; the fence is longer than the name's backticks."""
    name = f"a{text}b"
    shown = [
        token.content
        for token in tokens(to_markdown(make(name)))
        if token.type == "code_inline" and not token.content.startswith("scribefarm ")
    ]
    expected = name.replace("\n", "\\n").replace("\t", "\\t").replace("\x1b", "\\x1b")
    assert set(shown) == {expected}


def test_an_image_in_a_message_is_not_fetched_and_an_address_no_link():
    """As GitHub and editors would do."""
    text = to_markdown(make("![x](http://evil.example/a.png) www.evil.example <b>"))
    assert "\\!\\[x\\](http\\://evil.example/a.png) www\\.evil.example &lt;b>" in text


def test_long_lists_say_how_many_more_there_are():
    """Unless all are asked for."""
    report = make("name", num_files=5)
    short, full = to_markdown(report, max_rows=2), to_markdown(report, None)
    assert short.count("And 3 more; `--full` lists all.") == 4
    assert short.count("- `name`: name\n") == 4
    assert "more;" not in full
