"""Metrics of the farm by Prometheus's rules: base units, `_total` for counters, few labels.

No label comes from a file, a batch or an error's words. `worker` is a worker's name without the part
of its start, so that a restart goes on with the same series; workers of the same name are added up.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from producer.errors import ERRORS
from producer.metrics.snapshot import Snapshot
from producer.metrics.stored import Counters, Distribution, JobKind
from producer.worker_records import State, WorkerRecord

# Beyond any farm: more names are left out, and how many is told.
MAX_WORKERS = 1000

Samples: TypeAlias = Iterable[tuple[Sequence[str], float]]
Workers: TypeAlias = Mapping[str, Sequence[WorkerRecord]]


class WorkerGauge(NamedTuple):
    """A metric with one series a worker.

    Attributes:
        of: Its value; None if the worker has none.
        combined: What it is for several workers of one name.
    """

    name: str
    help: str
    of: Callable[[WorkerRecord], float | None]
    combined: Callable[[Iterable[float]], float] = sum


WORKER_GAUGES = (
    WorkerGauge("worker_recordings", "Recordings in hand.", lambda worker: worker.in_flight),
    WorkerGauge("worker_capacity", "Recordings taken at once.", lambda worker: worker.capacity),
    WorkerGauge(
        "worker_speed_ratio",
        "Audio seconds a second in the last five minutes with work.",
        lambda worker: worker.audio_s_per_s,
    ),
    WorkerGauge(
        "worker_bench_speed_ratio",
        "Audio seconds a second that bench measured there (worker.bench_speed).",
        lambda worker: worker.bench_audio_s_per_s,
    ),
    WorkerGauge(
        "batch_rows", "Mean rows of a step in the last five minutes.", lambda worker: worker.rows
    ),
    WorkerGauge("batch_slots", "Rows decoded together at most.", lambda worker: worker.slots),
    WorkerGauge(
        "step_seconds",
        "Mean time of a step in the last five minutes.",
        lambda worker: worker.step_s,
        max,
    ),
    WorkerGauge(
        "worker_heartbeat_age_seconds",
        "Time since the last heartbeat.",
        lambda worker: worker.heartbeat_age_s,
        max,
    ),
    WorkerGauge(
        "worker_resident_memory_bytes",
        "Most memory of the process at once.",
        lambda worker: worker.resident_bytes,
    ),
    WorkerGauge(
        "worker_lost_threads",
        "Reading threads that hang in a disk or share.",
        lambda worker: worker.lost_threads,
    ),
)


def farm_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield all metrics of a farm."""
    yield from _counted(snapshot.counters, queues=snapshot.jobs())
    yield from _queues(snapshot)
    by_name: dict[str, list[WorkerRecord]] = defaultdict(list)
    for worker in snapshot.roster.workers:
        by_name[worker.known_as].append(worker)
    shown = dict(sorted(by_name.items())[:MAX_WORKERS])
    states = Counter(worker.state for worker in snapshot.roster.workers)
    known: Samples = [((state,), states[state]) for state in get_args(State)]
    yield gauge("workers", "Workers by state.", ("state",), known)
    omitted = len(by_name) - len(shown)
    yield gauge("workers_omitted", "Workers without series of their own.", (), [((), omitted)])
    yield from worker_metrics(shown)


def worker_metrics(workers: Workers) -> Iterator[Metric]:
    """Yield the metrics of single workers, by the names that they are known as."""
    alive = {name: [each for each in records if each.is_alive] for name, records in workers.items()}
    yield gauge(
        "worker_up",
        "1 while a worker sends heartbeats, 0 for a day after.",
        ("worker",),
        [((name,), bool(records)) for name, records in alive.items()],
    )
    for each in WORKER_GAUGES:
        yield gauge(each.name, each.help, ("worker",), _of_workers(each, alive))
    yield gauge(
        "device_memory_bytes",
        "Most device memory in use at once (peak), and what may be used (limit).",
        ("worker", "kind"),
        _memory(alive),
    )
    yield from _words(workers)


def gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    """Return a gauge of ours with its samples."""
    family = GaugeMetricFamily(f"scribefarm_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = CounterMetricFamily(f"scribefarm_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def _histogram(name: str, text: str, label: str, found: Mapping[str, Distribution]) -> Metric:
    family = HistogramMetricFamily(f"scribefarm_{name}", text, labels=(label,))
    for value, distribution in found.items():
        family.add_metric((value,), distribution.buckets(), distribution.sum_s)
    return family


def _counted(counters: Counters, queues: Iterable[str]) -> Iterator[Metric]:
    # The first jobs would be missed by `increase` if their series began with them.
    begun = {
        kind: 0
        for queue in queues
        for kind in (
            JobKind(queue, "succeeded", ""),
            *(JobKind(queue, "failed", code) for code in ERRORS),
        )
    }
    yield _counter(
        "jobs_ended",
        "Jobs that ended, each once; again if they were retried from outside.",
        ("queue", "outcome", "error_code"),
        (begun | counters.jobs).items(),
    )
    yield _counter(
        "audio_seconds",
        "Audio of jobs that succeeded.",
        ("worker", "model"),
        counters.audio_s.items(),
    )
    yield _histogram(
        "queue_wait_seconds",
        "From submission to the claim that led to the end.",
        "queue",
        counters.waits,
    )
    yield _histogram("job_seconds", "From that claim to the end.", "outcome", counters.durations)
    flags = [((flag,), number) for flag, number in counters.flags.items()]
    yield _counter("flags", "Recordings by flag.", ("flag",), flags)
    retries = [((code,), number) for code, number in counters.retries.items()]
    yield _counter("retries", "Attempts made again by the farm.", ("error_code",), retries)
    for name, text, number in (
        ("jobs_taken_over", "Jobs taken over from lost workers.", counters.taken_over),
        ("workers_lost", "Workers that were lost.", counters.workers_lost),
        ("metrics_overflow", "Counts without room for their labels.", counters.overflow),
    ):
        yield _counter(name, text, (), [((), number)])


def _queues(snapshot: Snapshot) -> Iterator[Metric]:
    jobs: Samples = [
        ((queue, state), number)
        for queue, states in snapshot.jobs().items()
        for state, number in states.items()
    ]
    text = "Jobs: queued, running, waiting (for another try or job)."
    yield gauge("jobs", text, ("queue", "state"), jobs)
    oldest: Samples = [((queue,), age_s) for queue, age_s in snapshot.oldest_s().items()]
    text = "Time since the oldest waiting job was submitted."
    yield gauge("oldest_queued_seconds", text, ("queue",), oldest)
    for name, text, number in (
        ("jobs_unserved", "Jobs that wait for a model that no worker has.", snapshot.num_unserved),
        ("queues_omitted", "Queues beyond those that are counted.", snapshot.num_queues_left_out),
        ("paused", "1 while the farm is paused.", snapshot.is_paused),
        ("speed_ratio", "Audio seconds a second of all workers together.", snapshot.speed),
        ("time_left_seconds", "Until all jobs are done at this speed.", snapshot.time_left_s),
        (
            "work_ends_timestamp_seconds",
            "When the last worker's active hours close.",
            snapshot.works_until_s,
        ),
    ):
        yield gauge(name, text, (), [] if number is None else [((), number)])


def _of_workers(each: WorkerGauge, alive: Workers) -> Iterator[tuple[Sequence[str], float]]:
    for name, records in alive.items():
        found = [value for value in map(each.of, records) if value is not None]
        if found:
            yield (name,), each.combined(found)


def _memory(alive: Workers) -> Iterator[tuple[Sequence[str], float]]:
    for name, records in alive.items():
        if records:
            yield (name, "peak"), sum(each.memory_bytes for each in records)
            yield (name, "limit"), sum(each.memory_limit_bytes for each in records)


def _words(workers: Workers) -> Iterator[Metric]:
    """Yield what is said in labels: what a worker is and does, and what is wrong with it."""
    latest = [(name, records[-1]) for name, records in workers.items() if records]
    yield gauge(
        "worker_info",
        "What a worker is.",
        ("worker", "family", "model", "revision", "version"),
        [
            ((name, each.family, each.model, each.revision, each.version), 1)
            for name, each in latest
        ],
    )
    states: Samples = [((name, each.state), 1) for name, each in latest]
    yield gauge("worker_state", "What a worker does.", ("worker", "state"), states)
    marks = {
        (name, mark) for name, records in workers.items() for each in records for mark in each.marks
    }
    text = "Why somebody should look at a worker."
    yield gauge("worker_marked", text, ("worker", "mark"), [(mark, 1) for mark in sorted(marks)])
