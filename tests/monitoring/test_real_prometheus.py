"""Prometheus itself scrapes a farm to which each alert's cause happens, and is mended.

The rules are the shipped ones with their times cut down: minutes would be waited for otherwise. What
they mean with the shipped times, `alerts_test.yml` shows.
"""

import contextlib
import json
import re
import signal
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from producer.batches.actions import cancel_jobs
from producer.events import read_events
from producer.fleet import live_workers
from producer.settings import ModelSettings
from tests.monitoring.exporter import running_exporter
from tests.monitoring.test_shipped_files import ALERTS, rules
from tests.stage.fake_engine import job
from tests.stage.farm import Farm, free_port, make_settings, running_server, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What must hold for minutes holds for a second here, half hours are eight seconds.
SHORTENED = (
    (r"\[(15|30)m\]", "[8s]"),
    (r"> 43200", "> 4"),
    (r">= 20", ">= 10"),
)
PATIENCE_S = 60


def shortened():
    """Return the shipped rules with short times."""
    text = ALERTS.read_text()
    for long, short in SHORTENED:
        assert re.search(long, text), long
        text = re.sub(long, short, text)
    document = yaml.safe_load(text)
    for rule in document["groups"][0]["rules"]:
        rule["for"] = "1s"
    return yaml.safe_dump(document)


class Prometheus:
    """The server, and which alerts fire."""

    def __init__(self, program, folder, exporter_port):
        self.port = free_port()
        folder.mkdir()
        (folder / "alerts.yml").write_text(shortened())
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {
                    "job_name": "scribefarm",
                    "static_configs": [{"targets": [f"127.0.0.1:{exporter_port}"]}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, 60)

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return self._get("/-/ready") is not None
        return False

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read()

    def firing(self):
        """Return the alerts that fire now."""
        alerts = json.loads(self._get("/api/v1/alerts"))["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def fires(self, name):
        """Wait until an alert fires."""
        wait_until(lambda: name in self.firing(), PATIENCE_S, every_s=0.2)

    def cleared(self, name):
        """Wait until an alert has cleared."""
        wait_until(lambda: name not in self.firing(), PATIENCE_S, every_s=0.2)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def stage(tmp_path, prometheus):
    """Return a farm with an exporter that looks at each scrape, and Prometheus."""
    with running_server(tmp_path / "server") as server:
        farm = Farm(server.url)
        farm.server = server
        with running_exporter(farm.settings, tmp_path / "exporter.log", max_age_s=0.2) as port:
            watching = Prometheus(prometheus, tmp_path / "prometheus", port)
            try:
                yield farm, watching
            finally:
                watching.stop()
                farm.stop()


def worker(farm, model="fake", **settings):
    """Start a worker process with settings of its own, and wait for its heartbeat."""
    before = {each.name for each in alive(farm)}
    farm.configure(**({"grace_s": 0.0} | settings))
    farm.settings = farm.settings.model_copy(update={"model": ModelSettings(name=model)})
    process = farm.start_process()
    wait_until(lambda: {each.name for each in alive(farm)} - before, 30)
    return process


def alive(farm):
    """Return the workers that have sent a heartbeat."""
    return [each for each in live_workers(farm.connection, farm.settings) if each.version]


def cancel(farm, job_ids):
    """Cancel jobs: those that wait now, those in hand soon."""
    list(cancel_jobs(farm.connection, farm.settings, job_ids))


def stop(process):
    """Drain a worker."""
    process.signal(signal.SIGTERM)
    process.wait()


def test_each_alert_fires_when_its_cause_is_there_and_clears_when_it_is_gone(stage):
    """One after the other on one farm; in the end none is left, and each has been seen."""
    farm, watching = stage
    seen = []

    @contextlib.contextmanager
    def alert(name):
        """The block removes the cause that is there when it begins."""
        watching.fires(name)
        seen.append(name)
        yield
        watching.cleared(name)

    # Jobs wait, and nobody is there.
    farm.submit(job("first"))
    with alert("ScribefarmNoWorker"):
        process = worker(farm)

    # The worker is killed, and one of its name comes.
    process.signal(signal.SIGKILL)
    with alert("ScribefarmWorkerGone"):
        process = worker(farm)
    stop(process)

    # One row hangs in a window, others wait behind it; then it goes on.
    process = worker(farm, slots=1)
    hang = farm.submit(job("hangs", windows=1, window_s=15.0))
    behind = farm.submit(*(job(f"behind{n}") for n in range(4)))
    with alert("ScribefarmQueueNotMoving"):
        for job_id in (*hang, *behind):
            farm.result(job_id, 60)
    stop(process)

    # Jobs that have waited for long, while somebody works at others.
    process = worker(farm, slots=1)
    long = farm.submit(job("long", windows=100, window_s=0.3))
    wait_until(lambda: farm.state(long[0]) == "started")
    behind = farm.submit(*(job(f"old{n}") for n in range(3)))
    with alert("ScribefarmOldestJob"):
        cancel(farm, [*long, *behind])
    stop(process)

    # Most recordings are broken; then sound ones come.
    process = worker(farm)
    farm.submit(*(job(f"bad{n}", error="corrupt_audio") for n in range(40)))
    with alert("ScribefarmErrorShare"):
        farm.submit(*(job(f"good{n}") for n in range(40)))
    stop(process)

    # A full worker is far below its bench; the same with a bench that it reaches is not.
    process = worker(farm, bench_speed=1e6, slots=4)
    slow = farm.submit(*(job(f"slow{n}", windows=2000, window_s=0.1) for n in range(8)))
    watching.fires("ScribefarmWorkerMarked")
    with alert("ScribefarmWorkerSlow"):
        stop(process)
        process = worker(farm, bench_speed=100.0, slots=4)
    seen.append("ScribefarmWorkerMarked")
    watching.cleared("ScribefarmWorkerMarked")
    cancel(farm, slow)
    stop(process)

    # A model that nobody has, until somebody has it.
    process = worker(farm)
    farm.submit(job("other").model_copy(update={"model": "another"}))
    with alert("ScribefarmJobsUnserved"):
        having = worker(farm, model="another")
    stop(having)
    stop(process)

    # More is left than can be done until the hours close, in a few minutes.
    closes = datetime.now(UTC) + timedelta(minutes=4)
    opens = closes - timedelta(hours=2)
    hours = f"{opens:%H:%M}-{closes:%H:%M}"
    process = worker(farm, active_hours=hours, timezone="UTC", slots=2)
    night = farm.submit(*(job(f"n{n}", windows=30, window_s=0.1) for n in range(2000)))
    with alert("ScribefarmNotDoneByMorning"):
        cancel(farm, night)
    stop(process)

    # The server dies and comes back.
    farm.server.kill()
    with alert("ScribefarmServerDown"):
        farm.server.start()

    assert {*seen, "ScribefarmExporterDown"} == {rule["alert"] for rule in rules()}
    assert watching.firing() == set()
    assert list(read_events(farm.connection, kinds={"worker_lost"}))


def test_the_exporters_own_end_is_an_alert(tmp_path, prometheus):
    """It is scraped in vain, until it is started again."""
    with running_server(tmp_path / "server") as server:
        settings, port = make_settings(server.url), free_port()
        with running_exporter(settings, tmp_path / "first.log", port=port):
            watching = Prometheus(prometheus, tmp_path / "prometheus", port)
        try:
            watching.fires("ScribefarmExporterDown")
            with running_exporter(settings, tmp_path / "second.log", port=port):
                watching.cleared("ScribefarmExporterDown")
        finally:
            watching.stop()
