"""A batch's report as plain text, for a terminal or a mail: every value in one line, as it is."""

from collections.abc import Iterator, Sequence

from producer.batches.folders import FolderSums
from producer.batches.markdown import MAX_ROWS
from producer.batches.playing import passage_time, play_command
from producer.batches.report import Report
from producer.batches.review import FlaggedFile
from producer.batches.summary import next_steps, state_line, summary_rows
from producer.console import format_duration, one_line


def to_text(report: Report, max_rows: int | None = MAX_ROWS) -> str:
    """Return the report as text; `max_rows` bounds each list, None does not."""
    rows = [(one_line(label), one_line(value)) for label, value in summary_rows(report)]
    width = max(len(label) for label, _ in rows)
    lines = [f"Batch {one_line(report.batch)}: {state_line(report)}", ""]
    lines += [f"{label:{width}}  {value}" for label, value in rows]
    lines += [line for section in _sections(report, max_rows) for line in section]
    return "\n".join(lines)


def _sections(report: Report, max_rows: int | None) -> Iterator[list[str]]:
    if len(report.folders) > 1:
        yield _section("By folder", [_folder_line(folder) for folder in report.folders])
    for group in report.failures:
        files = [f"{file.name}: {file.reason}" for file in group.files]
        title = f"Failed with {group.code or 'unknown'}: {group.count}. {group.advice}"
        yield _section(title, files, group.count, max_rows)
    if report.submission and report.submission.problem:
        problems = [f"{each.path}: {each.message}" for each in report.submission.problems]
        yield _section("Not submitted", problems, report.submission.problem, max_rows)
    if report.num_empty:
        names = [file.name for file in report.empty]
        yield _section("Without any text", names, report.num_empty, max_rows)
    if report.num_flagged_files:
        files = [line for file in report.flagged[:max_rows] for line in _flagged_lines(file)]
        lines = _section("To review", files)
        yield [*lines, *_more(report.flagged, report.num_flagged_files, max_rows)]
    if steps := next_steps(report):
        yield _section("Next", [f"{why}:  {command}" for why, command in steps])


def _section(
    title: str, lines: Sequence[str], number: int | None = None, max_rows: int | None = None
) -> list[str]:
    shown = [f"  {one_line(line)}" for line in lines[:max_rows]]
    more = [] if number is None else _more(lines, number, max_rows)
    return ["", one_line(title), *shown, *more]


def _more(listed: Sequence[object], number: int, max_rows: int | None) -> list[str]:
    shown = len(listed) if max_rows is None else min(len(listed), max_rows)
    return [f"  and {number - shown} more; --full lists all"] if number > shown else []


def _folder_line(folder: FolderSums) -> str:
    done = f"{folder.files} files, {folder.succeeded} succeeded, {folder.failed} failed"
    return f"{folder.path or '.'}: {done}, {format_duration(folder.audio_s)}"


def _flagged_lines(file: FlaggedFile) -> Iterator[str]:
    yield f"{file.name}: {', '.join(file.flags)}" if file.flags else file.name
    for segment in file.segments:
        start, why = passage_time(segment.start), ", ".join(segment.flags)
        yield f"  {start}  {why}: {' '.join(segment.text.split())}"
        if command := play_command(file.source, segment.start):
            yield f"             {command}"
