"""A batch's report as a Markdown document, in which no name, message or text is markup."""

import re
from collections.abc import Iterator, Sequence

from producer.batches.playing import passage_time
from producer.batches.report import Report
from producer.batches.review import FailureGroup, FlaggedFile
from producer.batches.summary import next_steps, state_line, summary_rows
from producer.console import format_duration, one_line
from producer.markup import markdown_text as _text

# A longer list is read by nobody; the JSON has more of them.
MAX_ROWS = 200
# Of one recording, so that the next is seen too.
_MAX_SEGMENTS = 10


def to_markdown(report: Report, max_rows: int | None = MAX_ROWS) -> str:
    """Return the report as a Markdown document; `max_rows` bounds each list, None does not."""
    sections = (
        _summary(report),
        _next_section(report),
        _folder_section(report),
        _failure_section(report, max_rows),
        _problem_section(report, max_rows),
        _empty_section(report, max_rows),
        _flagged_section(report, max_rows),
        _slowest_section(report),
    )
    return "\n".join(line for section in sections for line in section)


def _summary(report: Report) -> Iterator[str]:
    yield f"# Batch {_text(report.batch)}"
    yield ""
    yield state_line(report)
    yield ""
    yield "| | |"
    yield "|---|---|"
    for label, value in summary_rows(report):
        yield f"| {_text(label)} | {_text(value)} |"
    yield ""


def _next_section(report: Report) -> Iterator[str]:
    if not (steps := next_steps(report)):
        return
    yield "## Next"
    yield ""
    yield from (f"- {why}: {_code(command)}" for why, command in steps)
    yield ""


def _folder_section(report: Report) -> Iterator[str]:
    if len(report.folders) < 2:  # noqa: PLR2004 one folder is the batch
        return
    yield "## By folder"
    yield ""
    yield from _table_head("folder", "files", "succeeded", "failed", "audio")
    for folder in report.folders:
        audio = format_duration(folder.audio_s)
        numbers = f"{folder.files} | {folder.succeeded} | {folder.failed} | {audio}"
        yield f"| {_text(folder.path or '.')} | {numbers} |"
    yield ""


def _failure_section(report: Report, max_rows: int | None) -> Iterator[str]:
    if not report.failures:
        return
    yield "## Failures"
    yield ""
    for group in report.failures:
        yield from _failure_group(group, max_rows)


def _failure_group(group: FailureGroup, max_rows: int | None) -> Iterator[str]:
    yield f"### {_text(group.code) or 'unknown'}: {group.count}"
    yield ""
    yield group.advice
    yield ""
    for file in group.files[:max_rows]:
        yield f"- {_code(file.name)}: {_text(file.reason)}"
    yield from _more(group.files, group.count, max_rows)
    yield ""


def _problem_section(report: Report, max_rows: int | None) -> Iterator[str]:
    submitted = report.submission
    if submitted is None or not submitted.problem:
        return
    yield "## Not submitted"
    yield ""
    for problem in submitted.problems[:max_rows]:
        yield f"- {_code(problem.path)}: {_text(problem.message)}"
    yield from _more(submitted.problems, submitted.problem, max_rows)
    yield ""


def _empty_section(report: Report, max_rows: int | None) -> Iterator[str]:
    if not report.num_empty:
        return
    yield "## Without any text"
    yield ""
    yield from (f"- {_code(file.name)}" for file in report.empty[:max_rows])
    yield from _more(report.empty, report.num_empty, max_rows)
    yield ""


def _flagged_section(report: Report, max_rows: int | None) -> Iterator[str]:
    if not report.num_flagged_files:
        return
    yield "## Recordings to review"
    yield ""
    for file in report.flagged[:max_rows]:
        yield from _flagged_file(file, max_rows and _MAX_SEGMENTS)
    yield from _more(report.flagged, report.num_flagged_files, max_rows)
    yield ""


def _flagged_file(file: FlaggedFile, max_segments: int | None) -> Iterator[str]:
    whole = f": {_text(', '.join(file.flags))}" if file.flags else ""
    yield f"### {_code(file.name)}{whole}"
    yield ""
    if not file.segments:
        return
    yield from _table_head("from", "to", "why", "text")
    for segment in file.segments[:max_segments]:
        start, end = passage_time(segment.start), passage_time(segment.end)
        why, text = _text(", ".join(segment.flags)), _text(segment.text)
        yield f"| {start} | {end} | {why} | {text} |"
    yield ""
    yield from _more(file.segments, len(file.segments), max_segments)


def _slowest_section(report: Report) -> Iterator[str]:
    if not report.slowest:
        return
    yield "## Slowest files"
    yield ""
    yield from _table_head("file", "took", "audio")
    for file in report.slowest:
        audio = format_duration(file.audio_s)
        yield f"| {_text(file.name)} | {format_duration(file.took_s)} | {audio} |"
    yield ""


def _more(listed: Sequence[object], number: int, max_rows: int | None) -> Iterator[str]:
    shown = len(listed) if max_rows is None else min(len(listed), max_rows)
    if number > shown:
        yield ""
        yield f"And {number - shown} more; `--full` lists all."


def _code(name: str) -> str:
    """Write a name as code: its fence is longer than any run of backticks within."""
    text = one_line(name)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    # One space is taken off at each end; without backticks and spaces there is none to protect.
    pad = " " if longest or text != text.strip(" ") or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _table_head(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
