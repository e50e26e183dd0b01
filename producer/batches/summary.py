"""What every form of a report says first, as (label, value) pairs of plain text, and what to do next.

Values may hold anything from names and settings: each form makes them harmless in its own way.
"""

from collections.abc import Iterator
from datetime import datetime

from producer.batches.playing import shell_word
from producer.batches.report import Report, Run
from producer.console import format_duration
from producer.errors import ERRORS
from producer.models_served import shown


def state_line(report: Report) -> str:
    """Return whether the batch is done, and as of when."""
    counts = report.counts
    state = "Done" if not counts.left else f"{counts.left} of {counts.total} files still to do"
    return f"{state}, as of {stamp(report.created_at)}."


def summary_rows(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the report's totals: the batch, its last submission, the run, who did it."""
    counts = report.counts
    yield "files", f"{counts.total}"
    yield "succeeded", f"{counts.succeeded}"
    yield "failed", f"{counts.failed}"
    if counts.lost:
        yield "expired or deleted", f"{counts.lost}"
    if counts.left:
        yield "queued, running, waiting", f"{counts.queued}, {counts.running}, {counts.waiting}"
    yield from _submission_rows(report)
    yield from _run_rows(report.run)
    if report.num_empty:
        yield "without any text", f"{report.num_empty}"
    yield "recordings to review", f"{report.num_flagged_files}"
    if report.models:
        yield "model", ", ".join(shown(label) for label in report.models)
    for language, num_files in report.files_by_language.items():
        yield f"files in language {language}", f"{num_files}"
    for worker, num_files in report.files_by_worker.items():
        yield f"files done by {worker}", f"{num_files}"
    for model, num_files in report.files_by_model.items():
        yield f"files done with {model}", f"{num_files}"
    for worker, number in report.taken_over.items():
        yield f"taken over from {worker}, which was lost", f"{number}"


def _submission_rows(report: Report) -> Iterator[tuple[str, str]]:
    if known := report.known_succeeded + report.known_failed:
        yield "known before, failed among them", f"{known}, {report.known_failed}"
    submitted = report.submission
    if submitted is None:
        return
    if submitted.duplicate:
        yield "copies of others", f"{submitted.duplicate}"
    if submitted.problem:
        yield "not submitted for a problem", f"{submitted.problem}"
    if submitted.ignored:
        yield "ignored by name", ignored_words(submitted.ignored)
    if submitted.ended_at is None:
        yield "submission", f"unfinished, begun {stamp(submitted.began_at)}"


def _run_rows(run: Run) -> Iterator[tuple[str, str]]:
    if run.since:
        yield "this run", f"since {stamp(run.since)}"
    if run.until:
        yield "this run", f"until {stamp(run.until)}"
    yield "succeeded in this run", f"{run.succeeded}"
    yield "failed in this run", f"{run.failed}"
    yield "audio transcribed", format_duration(run.audio_s)
    yield "segments to review", f"{run.num_flagged}"
    if run.started_at and run.ended_at:
        yield "worked", f"{stamp(run.started_at)} to {stamp(run.ended_at)}"
        yield "without pauses", format_duration(run.worked_s)
    if run.audio_hours_per_hour is not None:
        yield "audio hours per hour", f"{run.audio_hours_per_hour:.1f}"
        yield "recordings per hour", f"{run.jobs_per_hour:.0f}"


def ignored_words(ignored: dict[str, int], most: int = 8) -> str:
    """Return how many files were ignored, and what kinds: `9: 3 .aax, 2 .ul, 4 hidden`."""
    ordered = sorted(ignored.items(), key=lambda each: (-each[1], each[0]))
    words = [f"{number} {kind}" for kind, number in ordered[:most]]
    if rest := sum(number for _, number in ordered[most:]):
        words.append(f"{rest} of other kinds")
    return f"{sum(ignored.values())}: {', '.join(words)}"


def next_steps(report: Report, *, has_page: bool = False) -> list[tuple[str, str]]:
    """Return what to do now, as (why, command); the commands are quoted for a shell.

    `has_page`: the reader has the report as a page already.
    """
    batch = shell_word(report.batch)
    steps = []
    if report.counts.left:
        steps.append(("Some files are still to do", f"scribefarm watch {batch}"))
    codes = [group.code for group in report.failures if group.code in ERRORS]
    if retryable := [code for code in codes if ERRORS[code].retryable]:
        flags = " ".join(f"--code {code}" for code in retryable)
        steps.append(("What may succeed another time", f"scribefarm retry {batch} {flags}"))
    if set(codes) - set(retryable):
        why = "What fails the same way until it is mended"
        steps.append((why, f"scribefarm errors {batch}"))
    if report.counts.succeeded:
        steps.append(("The transcripts, as files", f"scribefarm results {batch} -o texts"))
    if not has_page and (report.num_flagged_files or report.num_empty):
        why = "Passages to listen to, on a page"
        steps.append((why, f"scribefarm report {batch} -o report.html"))
    return steps


def stamp(moment: datetime) -> str:
    """Return a moment in local time."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
