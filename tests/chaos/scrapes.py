"""A monitor beside the chaos: it scrapes all the while, and in the end its counts are held to the truth."""

import threading
from collections import Counter
from typing import Any

import redis
from prometheus_client.parser import text_string_to_metric_families

from producer.keys import EVENTS_KEY
from producer.metrics.collector import FarmCollector
from producer.settings import Settings

SCRAPE_EVERY_S = 0.5

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrapes:
    """Scrapes a farm every half second in a thread of its own.

    Attributes:
        num_scrapes, num_without_server: How often.
        went_down: Counters that were lower at a scrape than at the one before.
        last: The last scrape's series.
    """

    def __init__(self, settings: Settings) -> None:
        self._collector = FarmCollector(settings, max_age_s=0.0)
        self._stopped = threading.Event()
        self.num_scrapes = self.num_without_server = 0
        self.went_down: set[str] = set()
        self.last: Series = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Scrape once more, and end."""
        self._stopped.set()
        self._thread.join()
        self._scrape()

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels."""
        wanted = set(labels.items())
        return sum(
            value for (each, has), value in self.last.items() if each == name and wanted <= has
        )

    def by(self, name: str, label: str, **labels: str) -> Counter[str]:
        """Return a metric's sums by one label, those above 0."""
        values = {
            dict(has)[label] for each, has in self.last if each == name and label in dict(has)
        }
        found = {value: self.total(name, **{label: value}, **labels) for value in values}
        return Counter({value: int(number) for value, number in found.items() if number})

    def _run(self) -> None:
        while not self._stopped.wait(SCRAPE_EVERY_S):
            self._scrape()

    def _scrape(self) -> None:
        families = list(text_string_to_metric_families(self._collector.page().decode()))
        self.num_scrapes += 1
        if not self._collector.is_up:
            self.num_without_server += 1
            return
        counted: Series = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if family.type in {"counter", "histogram"}
        }
        self.went_down |= {
            key[0] for key, value in self.last.items() if counted.get(key, 0.0) < value
        }
        self.last = counted


def disagreements(
    scrapes: Scrapes,
    connection: redis.Redis,
    *,
    succeeded: int,
    failed: Counter[str],
    audio_s: float,
) -> list[str]:
    """Return where the last scrape says something else than results and events do."""
    entries: Any = connection.xrange(EVENTS_KEY)
    kinds = Counter(fields.get(b"kind", b"job_ended").decode() for _, fields in entries)
    ended = "scribefarm_jobs_ended_total"
    pairs = {
        "succeeded": (scrapes.total(ended, outcome="succeeded"), succeeded),
        "failed by code": (scrapes.by(ended, "error_code", outcome="failed"), failed),
        "ends": (scrapes.total(ended), kinds["job_ended"]),
        "seconds of audio": (scrapes.total("scribefarm_audio_seconds_total"), audio_s),
        "waits": (scrapes.total("scribefarm_queue_wait_seconds_count"), succeeded + failed.total()),
        "durations": (scrapes.total("scribefarm_job_seconds_count"), succeeded + failed.total()),
        "taken over": (
            scrapes.total("scribefarm_jobs_taken_over_total"),
            kinds["job_taken_over"],
        ),
        "workers lost": (scrapes.total("scribefarm_workers_lost_total"), kinds["worker_lost"]),
    }
    wrong = [
        f"{name}: scraped {found}, true {truth}"
        for name, (found, truth) in pairs.items()
        if found != truth
    ]
    return wrong + [f"{name} went down" for name in sorted(scrapes.went_down)]
