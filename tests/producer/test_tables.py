"""The report as CSV and workbook: other people's readers open them, and nothing is a formula."""

import csv
import io
import re
import sys

import openpyxl
import pytest

from producer.batches.forms import FORMS, form_of, render
from producer.batches.tables import COLUMNS, to_csv, to_xlsx
from producer.errors import InvalidOptions
from producer.installation import install_hint
from tests.producer.made_report import made_report

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    " =1",
    '"=1',
    "\uff1d1",
    "'=1",
]


def book_of(report):
    return openpyxl.load_workbook(io.BytesIO(to_xlsx(report)))


def test_csv_has_a_line_for_each_file_and_passage_to_look_at():
    """With its times, its reason and the command that plays it."""
    rows = list(csv.DictReader(io.StringIO(to_csv(made_report("a, b.wav")))))
    assert [row["what"] for row in rows] == [
        "failed", "not submitted", "empty", "recording", "passage",
    ]  # fmt: skip
    assert tuple(rows[0]) == COLUMNS
    passage = rows[-1]
    assert (passage["file"], float(passage["start_s"]), float(passage["end_s"])) == (
        "a, b.wav", 2.5, 3.0,
    )  # fmt: skip
    assert passage["command"] == "ffplay -ss 1.5 '/archive/a, b.wav'"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_csv_begins_as_a_formula(text):
    """Spreadsheets take what follows an apostrophe for text."""
    for row in csv.reader(io.StringIO(to_csv(made_report(text)))):
        assert not any(cell.lstrip(' \t"').startswith(tuple("=+-@\uff1d")) for cell in row), row


@pytest.mark.parametrize(
    "text", [*FORMULAS, "https://evil.example", "x\x00\x1b\n" + "long" * 10_000]
)
def test_every_text_of_a_workbook_is_text(text):
    """No formulas, no links, no cell that Excel would refuse."""
    for sheet in book_of(made_report(text)):
        for row in sheet:
            for cell in row:
                assert cell.data_type in {"s", "n"}, cell
                assert cell.hyperlink is None
                assert len(str(cell.value)) <= 32_767
                assert cell.data_type == "n" or cell.quotePrefix or cell.value is None


def test_a_workbook_has_summary_folders_failures_and_what_to_review():
    """As openpyxl reads it back; numbers are numbers."""
    book = book_of(made_report("a.wav"))
    assert book.sheetnames == ["Summary", "Folders", "Failures", "Review"]
    head, *rows = book["Review"].iter_rows(values_only=True)
    assert head == COLUMNS
    assert [row[0] for row in rows] == ["failed", "not submitted", "empty", "recording", "passage"]
    assert rows[-1][2:4] == (2.5, 3)
    summary = dict(book["Summary"].iter_rows(values_only=True))
    assert summary["files"] == "2"


def test_a_workbook_without_its_library_says_how_to_get_it(monkeypatch, tmp_path):
    """Before anything is asked of a server."""
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(InvalidOptions, match=re.escape(install_hint("report"))):
        form_of("xlsx", tmp_path / "report.xlsx")


@pytest.mark.parametrize(
    ("given", "output", "form"),
    [
        (None, None, "markdown"),
        (None, "report.md", "markdown"),
        (None, "Report.HTML", "html"),
        (None, "night.csv", "csv"),
        (None, "night.report", "markdown"),
        ("json", "night.html", "json"),
        ("text", None, "text"),
    ],
)
def test_the_form_is_the_given_one_or_as_the_file_is_named(tmp_path, given, output, form):
    """As people expect who write `-o report.html`."""
    assert form_of(given, output and tmp_path / output) == form


@pytest.mark.parametrize(("given", "hint"), [("xlsx", "-o FILE"), ("htlm", "did you mean html")])
def test_a_form_that_cannot_be_is_refused(given, hint):
    """With the value and what would be right."""
    with pytest.raises(InvalidOptions, match=hint):
        form_of(given, None)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_batch_and_takes_any_text(form):
    """Also damaged times and what no terminal should see."""
    report = made_report("\x1b[2J\u202e\udcff<b>".encode("utf-8", "replace").decode())
    odd = report.flagged[0].segments[0].model_copy(update={"start": float("nan"), "end": -1.0})
    flagged = report.flagged[0].model_copy(update={"segments": [odd]})
    document = render(report.model_copy(update={"flagged": [flagged]}), form, full=False)
    text = document if isinstance(document, str) else ""
    assert document
    assert "\x1b" not in text
    assert "\u202e" not in text or form == "json"
