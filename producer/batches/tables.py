"""A batch's report as tables, CSV and XLSX, for people who sort and filter: nothing is a formula.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula, which may run programs
or send what stands in other cells; file names and transcripts can begin so.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from producer.batches.playing import play_command
from producer.batches.report import Report
from producer.batches.review import FlaggedFile
from producer.batches.summary import next_steps, state_line, summary_rows
from producer.console import one_line
from producer.errors import InvalidOptions
from producer.installation import install_hint

Cell = str | float | int | None

COLUMNS = (
    "what", "file", "start_s", "end_s", "why", "text", "source", "job_id", "command",
)  # fmt: skip
# As a leading apostrophe, which spreadsheets show as text: OWASP's "CSV Injection".
_FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Excel's own limits.
_MAX_CELL, _MAX_SHEET_ROWS = 32_767, 1_048_576


def to_csv(report: Report) -> str:
    """Return all that a person should look at as CSV (UTF-8, with a head): a line a passage or file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_harmless(cell) for cell in row] for row in review_rows(report))
    return out.getvalue().rstrip("\n")


def to_xlsx(report: Report) -> bytes:
    """Return the report as a workbook: summary, folders, files and passages to look at.

    Raises:
        InvalidOptions: XlsxWriter is not installed.
    """
    check_xlsx()
    import xlsxwriter  # noqa: PLC0415 an optional extra

    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_urls": False, "strings_to_formulas": False}
    with xlsxwriter.Workbook(out, options) as book:
        for name, widths, rows in _sheets(report):
            _write_sheet(book, name, widths, rows)
    return out.getvalue()


def check_xlsx() -> None:
    """Accept that a workbook is asked for.

    Raises:
        InvalidOptions: XlsxWriter is not installed.
    """
    if find_spec("xlsxwriter") is None:
        needed = f"xlsx needs XlsxWriter; {install_hint('report')}"
        raise InvalidOptions("--format", needed, "xlsx")


def review_rows(report: Report) -> Iterator[tuple[Cell, ...]]:
    """Yield the rows of `COLUMNS`: what failed, what was not submitted, empty and flagged texts."""
    for group in report.failures:
        for file in group.files:
            error = file.error.code if file.error else group.code
            yield (
                "failed", file.name, None, None, error, file.reason, file.source, file.job_id, "",
            )  # fmt: skip
    for problem in report.submission.problems if report.submission else ():
        yield (
            "not submitted", problem.path, None, None, problem.code, problem.message,
            problem.path, "", "",
        )  # fmt: skip
    for empty in report.empty:
        command = play_command(empty.source, 0.0)
        yield (
            "empty", empty.name, 0.0, empty.audio_s, "no text", "", empty.source, empty.job_id,
            command,
        )  # fmt: skip
    for flagged in report.flagged:
        yield from _passages(flagged)


def _passages(file: FlaggedFile) -> Iterator[tuple[Cell, ...]]:
    if file.flags:
        command = play_command(file.source, 0.0)
        why = ", ".join(file.flags)
        yield "recording", file.name, None, None, why, "", file.source, file.job_id, command
    for segment in file.segments:
        why, command = ", ".join(segment.flags), play_command(file.source, segment.start)
        text = " ".join(segment.text.split())
        yield (
            "passage", file.name, segment.start, segment.end, why, text, file.source, file.job_id,
            command,
        )  # fmt: skip


def _sheets(report: Report) -> Iterator[tuple[str, tuple[int, ...], list[tuple[Cell, ...]]]]:
    summary: list[tuple[Cell, ...]] = [("batch", report.batch), ("state", state_line(report))]
    summary += list(summary_rows(report))
    summary += [(f"next: {why}", command) for why, command in next_steps(report)]
    yield "Summary", (40, 60), summary
    head = ("folder", "files", "succeeded", "failed", "audio_s")
    folders = [
        (each.path or ".", each.files, each.succeeded, each.failed, each.audio_s)
        for each in report.folders
    ]
    yield "Folders", (50, 10, 10, 10, 12), [head, *folders]
    groups = [(group.code, group.count, group.advice) for group in report.failures]
    yield "Failures", (24, 8, 90), [("code", "files", "advice"), *groups]
    yield "Review", (14, 50, 10, 10, 24, 80, 60, 34, 60), [COLUMNS, *review_rows(report)]


def _write_sheet(book: Any, name: str, widths: Iterable[int], rows: list[tuple[Cell, ...]]) -> None:
    # `quote_prefix`: it stays text also for who edits the cell.
    plain, head = (book.add_format({"quote_prefix": True, "bold": bold}) for bold in (False, True))
    sheet = book.add_worksheet(name)
    for column, width in enumerate(widths):
        sheet.set_column(column, column, width)
    if name != "Summary":
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, max(1, len(rows) - 1), len(rows[0]) - 1)
    for index, row in enumerate(rows[:_MAX_SHEET_ROWS]):
        is_head = name != "Summary" and index == 0
        for column, cell in enumerate(row):
            if isinstance(cell, str):
                text = one_line(cell)[:_MAX_CELL]
                sheet.write_string(index, column, text, head if is_head else plain)
            elif cell is not None and math.isfinite(cell):
                sheet.write_number(index, column, cell)


def _harmless(cell: Cell) -> Cell:
    """Return a cell of CSV that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    return f"'{text}" if text.lstrip(" \u00a0'\"").startswith(_FORMULA_STARTS) else text
