"""A batch's report as a Markdown document."""

from collections.abc import Iterator
from datetime import datetime

from producer.batches.report import Report
from producer.formats import format_duration, format_timestamp
from producer.models_served import shown

# The JSON has all of them; a longer table is read by nobody.
_MAX_FLAGGED_ROWS = 200


def to_markdown(report: Report) -> str:
    """Return the report as a Markdown document."""
    sections = (
        _summary(report),
        _failure_section(report),
        _flagged_section(report),
        _slowest_section(report),
    )
    return "\n".join(line for section in sections for line in section)


def _summary(report: Report) -> Iterator[str]:
    counts = report.counts
    yield f"# Batch {_cell(report.batch)}"
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
    yield f"| audio transcribed | {format_duration(counts.audio_s)} |"
    yield f"| segments to review | {counts.num_flagged} |"
    if report.models:
        yield f"| model | {_cell(', '.join(shown(label) for label in report.models))} |"
    if report.started_at and report.ended_at and report.wall_s is not None:
        yield f"| worked | {_stamp(report.started_at)} to {_stamp(report.ended_at)} |"
        yield f"| wall time | {format_duration(report.wall_s)} |"
    if report.audio_hours_per_hour is not None:
        yield f"| audio hours per hour | {report.audio_hours_per_hour:.1f} |"
        yield f"| files per hour | {report.files_per_hour:.0f} |"
    for worker, num_files in report.files_by_worker.items():
        yield f"| files done by {_cell(worker)} | {num_files} |"
    yield ""


def _failure_section(report: Report) -> Iterator[str]:
    if not report.failures:
        return
    yield "## Failures"
    yield ""
    for group in report.failures:
        yield f"### {group.code or 'unknown'}: {group.count}"
        yield ""
        yield group.advice
        yield ""
        for file in group.files:
            reason = file.error.message if file.error else "the result has expired"
            yield f"- {_code(file.name)}: {_cell(reason)}"
        yield ""


def _flagged_section(report: Report) -> Iterator[str]:
    if not report.flagged:
        return
    yield "## Segments to review"
    yield ""
    if len(report.flagged) > _MAX_FLAGGED_ROWS:
        yield f"The first {_MAX_FLAGGED_ROWS} of {len(report.flagged)}; `--json` has all."
        yield ""
    yield from _table_head("file", "from", "to", "why", "text")
    for segment in report.flagged[:_MAX_FLAGGED_ROWS]:
        start, end = format_timestamp(segment.start), format_timestamp(segment.end)
        why, text = ", ".join(segment.flags), _cell(segment.text.strip())
        yield f"| {_code(segment.name)} | {start} | {end} | {why} | {text} |"
    yield ""


def _slowest_section(report: Report) -> Iterator[str]:
    if not report.slowest:
        return
    yield "## Slowest files"
    yield ""
    yield from _table_head("file", "took", "audio")
    for file in report.slowest:
        audio = format_duration(file.audio_s)
        yield f"| {_code(file.name)} | {format_duration(file.took_s)} | {audio} |"
    yield ""


def _stamp(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _cell(text: str) -> str:
    """Make text safe within a line or a table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _code(name: str) -> str:
    """Show a name as code; backticks within it need a longer fence."""
    text = _cell(name.encode("unicode_escape").decode() if "\n" in name else name)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _table_head(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
