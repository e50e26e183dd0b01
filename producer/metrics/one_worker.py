"""The metrics that one worker serves of itself."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from producer.metrics.families import worker_metrics
from producer.worker_records import WorkerRecord


class _Collector(Collector):
    def __init__(self, record: WorkerRecord) -> None:
        self._record = record

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the one worker."""
        yield from worker_metrics({self._record.known_as: [self._record]})


def worker_page(record: WorkerRecord) -> bytes:
    """Return a worker's metrics as Prometheus's text."""
    registry = CollectorRegistry()
    registry.register(_Collector(record))
    return generate_latest(registry)
