"""The report as Markdown: whatever names, messages and texts hold, none of it is markup."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from producer.batches.markdown import to_markdown
from producer.batches.folders import FolderSums
from producer.batches.report import Report, Run, SlowFile, Submitted
from producer.batches.review import (
    EmptyFile,
    FailedFile,
    FailureGroup,
    FlaggedFile,
    FlaggedSegment,
)
from producer.batches.submission import LeftOut
from producer.batches.views import BatchCounts

NOW = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
ODD = st.text(st.sampled_from("`*_[]()!|<>&\\~#$@:/w. \n\x1bax-+1\t"), min_size=1, max_size=30)


def make(text, num_files=1):
    """Return a report that has the text in all places."""
    failed = FailedFile(name=text, job_id="1", reason=text)
    segment = FlaggedSegment(start=0, end=1, text=text, flags=[text])
    return Report(
        batch=text,
        created_at=NOW,
        counts=BatchCounts(total=1, failed=1),
        run=Run(),
        submission=Submitted(
            began_at=NOW,
            problem=num_files,
            problems=[LeftOut(path=text, code="x", message=text)] * num_files,
            ignored={text: 1},
        ),
        files_by_worker={text: 1},
        files_by_model={text: 1},
        failures=[
            FailureGroup(code=text, count=num_files, advice="Do it.", files=[failed] * num_files)
        ],
        num_flagged_files=num_files,
        flagged=[FlaggedFile(name=text, job_id="1", flags=[text], segments=[segment])] * num_files,
        num_empty=num_files,
        empty=[EmptyFile(name=text, job_id="1")] * num_files,
        folders=[FolderSums(path=text, files=1), FolderSums(path=f"{text}/{text}", files=1)],
        files_by_language={text: 1},
        slowest=[SlowFile(name=text, took_s=1, audio_s=1)],
    )


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
        token.content for token in tokens(to_markdown(make(name))) if token.type == "code_inline"
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
