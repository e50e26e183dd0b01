"""A batch and the farm in plain lines, for `status`, and for `watch` off a terminal."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from producer.batches.running import Running
from producer.batches.views import BatchCounts
from producer.batches.watching import BatchStatus
from producer.cli.worker_words import doing_words
from producer.console import format_duration
from producer.fleet import FarmStatus
from producer.models_served import shown, unserved, unserved_lines
from producer.worker_records import WorkerRecord

MAX_RUNNING = 12


def status_lines(look: BatchStatus) -> Iterator[str]:
    """Yield a batch's state for people."""
    counts = look.counts
    yield f"batch {look.batch}: {counts.done} of {counts.total} files done"
    if look.run.known:
        yield f"  done before the last submission {look.run.known}, since then {look.run.done}"
    yield f"  succeeded {counts.succeeded}, {format_duration(counts.audio_s)} of audio"
    if counts.num_empty:
        yield f"  of these without text {counts.num_empty}"
    yield f"  {failed_words(counts)}"
    yield f"  running {counts.running}, queued {counts.queued}, waiting {counts.waiting}"
    if counts.lost:
        yield f"  expired or deleted {counts.lost}"
    yield f"  {speed_words(look)}"
    yield f"  {worker_words(look)}"
    if look.models:
        yield f"  model {model_words(look.models)}"
    yield from (f"  {line}" for line in unserved_lines(look.unserved))
    yield from (f"  {line}" for line in _file_lines(look.running))


def farm_lines(farm: FarmStatus) -> Iterator[str]:
    """Yield the farm's state for people."""
    yield "farm: " + ("paused; go on with: scribefarm resume" if farm.is_paused else "working")
    if not farm.workers:
        yield "workers: none is alive; start one: scribefarm-worker run"
    yield from (_worker_line(worker) for worker in farm.workers)
    yield "queued: " + ", ".join(f"{name} {num}" for name, num in farm.queued.items())
    yield from unserved_lines(unserved(farm.queued_by_model, farm.workers))
    yield "running: " + ", ".join(f"{name} {num}" for name, num in farm.running.items())
    yield from (f"  {line}" for line in _file_lines(farm.running_files))
    for batch, counts in farm.batches.items():
        yield (
            f"batch {batch}: {counts.done} of {counts.total} done, {failed_words(counts)}"
            f", {format_duration(counts.audio_s)} of audio"
        )


def plain_line(look: BatchStatus) -> str:
    """Return one look as one line of a log."""
    counts = look.counts
    known = f" ({look.run.known} before)" if look.run.known else ""
    return (
        f"{time.strftime('%H:%M:%S')} {counts.done}/{counts.total} done{known}"
        f", {failed_words(counts)}, {counts.running} running, {counts.queued} queued"
        f", {format_duration(counts.audio_s)} of audio, {speed_words(look)}, {worker_words(look)}"
        + "".join(f"; {line}" for line in unserved_lines(look.unserved))
    )


def speed_words(look: BatchStatus) -> str:
    """Return speed and time left for people."""
    if look.is_done:
        return "done"
    rate = look.audio_hours_per_hour
    parts = [f"{rate:.1f} audio hours an hour" if rate is not None else "speed not known yet"]
    if look.eta_s is not None:
        parts.append(f"{format_duration(look.eta_s)} left")
    return ", ".join(parts)


def worker_words(look: BatchStatus) -> str:
    """Return how many workers are alive and at work, and until when they sleep."""
    paused = " (the farm is paused: scribefarm resume)" if look.is_paused else ""
    if not look.workers:
        return f"no worker is alive; start one: scribefarm-worker run{paused}"
    busy = Counter(file.worker for file in look.running)
    parts = [_number(len(look.workers), "worker"), f"{len(busy)} on this batch"]
    asleep = [worker for worker in look.workers if worker.sleeps_until_s is not None]
    if asleep:
        who = "" if len(asleep) == len(look.workers) else f"{len(asleep)} "
        first = min(asleep, key=lambda worker: worker.sleeps_until_s or 0.0)
        parts.append(who + doing_words(first))
    return ", ".join(parts) + paused


def failed_words(counts: BatchCounts, *, word: str = " failed") -> str:
    """Return how many files failed, and by which codes."""
    codes = ", ".join(f"{code} {num}" for code, num in counts.failed_by_code.items())
    return f"{counts.failed}{word}" + (f" ({codes})" if codes else "")


def model_words(labels: list[str]) -> str:
    """Return the models for people."""
    return ", ".join(shown(label) for label in labels)


def _file_lines(files: Sequence[Running]) -> Iterator[str]:
    for file in files[:MAX_RUNNING]:
        yield f"{position(file)}  {file.name}"
    if len(files) > MAX_RUNNING:
        yield f"and {len(files) - MAX_RUNNING} more"


def position(file: Running) -> str:
    """Return how far a file is."""
    return f"{100 * file.part_done:.0f} %" if file.duration_s else "..."


def _worker_line(worker: WorkerRecord) -> str:
    """Name, model and revision, heartbeat, load, and what it does if that is nothing, or amiss."""
    model = " ".join(filter(None, (worker.model, worker.revision[:8])))
    facts = [
        model,
        f"heartbeat {format_duration(worker.heartbeat_age_s)} ago",
        f"{worker.in_flight} of {worker.capacity} recordings in hand" if worker.capacity else "",
        "" if worker.state in {"busy", "idle"} else doing_words(worker),
        f"{worker.lost_threads} reading threads hang" if worker.lost_threads else "",
        "slow: scribefarm workers" if "slow" in worker.marks else "",
    ]
    return f"worker {worker.name}: " + ", ".join(filter(None, facts))


def _number(num: int, noun: str) -> str:
    return f"{num} {noun}" + ("" if num == 1 else "s")
