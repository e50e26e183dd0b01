"""A batch's report as a Markdown document, in which no name, message or text is markup."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from producer.batches.report import FailureGroup, FlaggedFile, Report, Run
from producer.console import format_duration, one_line
from producer.formats import format_timestamp
from producer.markup import markdown_text as _text
from producer.models_served import shown

# A longer list is read by nobody; the JSON has more of them.
MAX_ROWS = 200
# Of one recording, so that the next is seen too.
_MAX_SEGMENTS = 10


def to_markdown(report: Report, max_rows: int | None = MAX_ROWS) -> str:
    """Return the report as a Markdown document; `max_rows` bounds each list, None does not."""
    sections = (
        _summary(report),
        _failure_section(report, max_rows),
        _problem_section(report, max_rows),
        _empty_section(report, max_rows),
        _flagged_section(report, max_rows),
        _slowest_section(report),
    )
    return "\n".join(line for section in sections for line in section)


def _summary(report: Report) -> Iterator[str]:
    counts = report.counts
    yield f"# Batch {_text(report.batch)}"
    yield ""
    state = "Done" if not counts.left else f"{counts.left} of {counts.total} files still to do"
    yield f"{state}, as of {_stamp(report.created_at)}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| files | {counts.total} |"
    yield f"| succeeded | {counts.succeeded} |"
    yield f"| failed | {counts.failed} |"
    if counts.lost:
        yield f"| expired or deleted | {counts.lost} |"
    if counts.left:
        yield f"| queued, running, waiting | {counts.queued}, {counts.running}, {counts.waiting} |"
    yield from _submission_rows(report)
    yield from _run_rows(report.run)
    if report.num_empty:
        yield f"| without any text | {report.num_empty} |"
    yield f"| recordings to review | {report.num_flagged_files} |"
    if report.models:
        yield f"| model | {_text(', '.join(shown(label) for label in report.models))} |"
    for worker, num_files in report.files_by_worker.items():
        yield f"| files done by {_text(worker)} | {num_files} |"
    for model, num_files in report.files_by_model.items():
        yield f"| files done with {_text(model)} | {num_files} |"
    for worker, number in report.taken_over.items():
        yield f"| taken over from {_text(worker)}, which was lost | {number} |"
    yield ""


def _submission_rows(report: Report) -> Iterator[str]:
    if known := report.known_succeeded + report.known_failed:
        yield f"| known before, failed among them | {known}, {report.known_failed} |"
    submitted = report.submission
    if submitted is None:
        return
    if submitted.duplicate:
        yield f"| copies of others | {submitted.duplicate} |"
    if submitted.problem:
        yield f"| not submitted for a problem | {submitted.problem} |"
    if submitted.ignored:
        yield f"| ignored by name | {_text(ignored_words(submitted.ignored))} |"
    if submitted.ended_at is None:
        yield f"| submission | unfinished, begun {_stamp(submitted.began_at)} |"


def _run_rows(run: Run) -> Iterator[str]:
    if run.since:
        yield f"| this run | since {_stamp(run.since)} |"
    if run.until:
        yield f"| this run | until {_stamp(run.until)} |"
    yield f"| succeeded in this run | {run.succeeded} |"
    yield f"| failed in this run | {run.failed} |"
    yield f"| audio transcribed | {format_duration(run.audio_s)} |"
    yield f"| segments to review | {run.num_flagged} |"
    if run.started_at and run.ended_at:
        yield f"| worked | {_stamp(run.started_at)} to {_stamp(run.ended_at)} |"
        yield f"| without pauses | {format_duration(run.worked_s)} |"
    if run.audio_hours_per_hour is not None:
        yield f"| audio hours per hour | {run.audio_hours_per_hour:.1f} |"
        yield f"| recordings per hour | {run.jobs_per_hour:.0f} |"


def ignored_words(ignored: dict[str, int], most: int = 8) -> str:
    """Return how many files were ignored, and what kinds: `9: 3 .aax, 2 .ul, 4 hidden`."""
    ordered = sorted(ignored.items(), key=lambda each: (-each[1], each[0]))
    words = [f"{number} {kind}" for kind, number in ordered[:most]]
    if rest := sum(number for _, number in ordered[most:]):
        words.append(f"{rest} of other kinds")
    return f"{sum(ignored.values())}: {', '.join(words)}"


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
    yield from (f"- {_code(name)}" for name in report.empty[:max_rows])
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
        start, end = format_timestamp(segment.start), format_timestamp(segment.end)
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


def _stamp(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


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
