"""`scribefarm metrics`: what it says of a farm, what that costs, and what it stands."""

import http.client
import threading
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producer.addresses import Address, parse_address
from producer.errors import InvalidOptions
from producer.events import ALL_KINDS, read_events
from producer.keys import FACTS_KEY, METRICS_KEY, ROSTER_KEY
from producer.metrics.collector import FarmCollector
from producer.queue import submit
from tests.monitoring.exporter import running_exporter
from tests.producer.known_jobs import jobs
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import make_settings, running_server, wait_until


def samples(page):
    """Return the value of each series of a page, by name and labels in order."""
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def scrape(farm):
    return samples(FarmCollector(farm.settings).page())


def test_a_page_says_what_has_ended_and_what_waits(farm):
    """Each end once, by queue, outcome and code; audio by worker and model; times as histograms."""
    farm.start()
    done = farm.submit(*(job(f"a{n}") for n in range(3)), job("bad", error="corrupt_audio"))
    for job_id in done:
        farm.result(job_id)
    farm.submit(job("later").model_copy(update={"model": "another"}))
    page = scrape(farm)
    ended = "scribefarm_jobs_ended_total{error_code=%s,outcome=%s,queue=default}"
    assert page[ended % ("", "succeeded")] == 3
    assert page[ended % ("corrupt_audio", "failed")] == 1
    assert page["scribefarm_audio_seconds_total{model=fake,worker=thread}"] == 3 * 3 * 30
    assert page["scribefarm_queue_wait_seconds_count{queue=default}"] == 4
    assert page["scribefarm_job_seconds_count{outcome=succeeded}"] == 3
    assert page["scribefarm_job_seconds_bucket{le=+Inf,outcome=failed}"] == 1
    assert page["scribefarm_jobs{queue=default,state=queued}"] == 1
    assert page["scribefarm_jobs_unserved"] == 1
    assert page["scribefarm_redis_up"] == 1


def test_a_page_says_what_each_worker_does(farm):
    """Under its name without its start's part; two of one name are added up."""
    farm.configure(grace_s=0.0, bench_speed=1e6)
    for _ in range(2):
        farm.start(FakeEngine(4))
    farm.submit(*(job(f"a{n}", windows=400, window_s=0.05) for n in range(8)))
    page = wait_until(
        lambda: (
            found
            if (found := scrape(farm)).get("scribefarm_worker_recordings{worker=thread}") == 8
            and "scribefarm_batch_rows{worker=thread}" in found
            else None
        )
    )
    assert page["scribefarm_workers{state=busy}"] == 2
    assert page["scribefarm_worker_up{worker=thread}"] == 1
    assert page["scribefarm_batch_slots{worker=thread}"] == 8
    assert page["scribefarm_worker_bench_speed_ratio{worker=thread}"] == 2e6
    assert page["scribefarm_worker_marked{mark=slow,worker=thread}"] == 1
    assert any(name.startswith("scribefarm_worker_info{family=fake,model=fake") for name in page)


def test_no_label_comes_from_a_file_or_a_batch(farm):
    """Whatever they are called; a queue's name and a code are ours."""
    farm.start()
    secret = job('evil"} 1\nscribefarm_paused 1').model_copy(
        update={"batch": "evil-batch", "name": "evil-name", "metadata": {"evil": "evil"}}
    )
    (job_id,) = farm.submit(secret)
    farm.result(job_id)
    assert b"evil" not in FarmCollector(farm.settings).page()


def test_labels_are_bounded(farm):
    """What finds no room is counted as such; what was there goes on."""
    farm.start()
    filler = {f"flags|{n}": 1 for n in range(5000)}
    farm.connection.hset(METRICS_KEY, mapping=filler)
    (job_id,) = farm.submit(job("a"))
    farm.result(job_id)
    assert farm.connection.hlen(METRICS_KEY) <= 5001
    assert scrape(farm)["scribefarm_metrics_overflow_total"] > 0


def test_counters_that_are_damaged_are_left_out(farm):
    """Whoever wrote them."""
    odd = {
        b"\xff|\xfe": b"1",
        b"jobs|default|succeeded|": b"x" * 1000,
        b"jobs|default": b"3",
        b"wait|default|nan": b"1",
        b"wait|default|60": b"-1",
        b"flags|repetition": b"9" * 30,
        b"flags|low_confidence": b"7",
    }
    farm.connection.hset(METRICS_KEY, mapping=odd)
    farm.connection.expire(METRICS_KEY, 60)
    page = scrape(farm)
    assert page["scribefarm_flags_total{flag=low_confidence}"] == 7
    assert page["scribefarm_jobs_ended_total{error_code=,outcome=succeeded,queue=default}"] == 0
    assert "scribefarm_flags_total{flag=repetition}" not in page


def test_a_scrape_asks_the_server_twice_whatever_waits(farm):
    """And scrapes within seconds are one: a storm of them costs nothing."""
    submit(farm.connection, farm.settings, jobs(500))
    collector = FarmCollector(farm.settings)
    collector.page()
    farm.connection.config_resetstat()
    collector._looked_at = float("-inf")
    threads = [threading.Thread(target=collector.page) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = {
        name.removeprefix("cmdstat_"): each["calls"]
        for name, each in farm.connection.info("commandstats").items()
    }
    assert asked["evalsha"] == 2
    assert not {"keys", "scan", "hscan", "sscan", "zscan"} & set(asked)
    # Inside the scripts: a few for each queue, nothing for each job.
    assert sum(asked.values()) < 60


def test_without_a_server_the_page_says_so(tmp_path):
    """And comes back with it; the exporter is started before its server like that."""
    with running_server(tmp_path / "server") as server:
        settings = make_settings(server.url)
        collector = FarmCollector(settings, max_age_s=0.0)
        assert samples(collector.page())["scribefarm_redis_up"] == 1
        server.kill()
        page = samples(collector.page())
        assert page["scribefarm_redis_up"] == 0
        assert "scribefarm_paused" not in page
        server.start()
        assert samples(collector.page())["scribefarm_redis_up"] == 1


def test_the_exporter_tells_of_lost_workers_when_nobody_else_is_left(farm):
    """Of those that were late at an earlier look too; twice is once."""
    farm.connection.hset(FACTS_KEY, "mini-12345678", '{"queues": ["default"]}')
    farm.connection.zadd(ROSTER_KEY, {"mini-12345678": 1.0})
    collectors = [FarmCollector(farm.settings, max_age_s=0, late_for_s=0.2) for _ in range(2)]
    for collector in collectors:
        collector.page()
    events = lambda: list(read_events(farm.connection, kinds=ALL_KINDS))  # noqa: E731
    assert events() == []
    wait_until(lambda: [collector.page() for collector in collectors] and events())
    assert [(each.kind, each.worker) for each in events()] == [("worker_lost", "mini-12345678")]
    farm.connection.delete(FACTS_KEY)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9740", Address("127.0.0.1", 9740)),
        ("0.0.0.0:1", Address("0.0.0.0", 1)),
        ("[::1]:9740", Address("::1", 9740)),
        ("mini.local:80", Address("mini.local", 80)),
    ],
)
def test_an_address_is_read(text, found):
    """A port alone is this machine's."""
    assert parse_address(text, "--listen") == found


@pytest.mark.parametrize(
    "text", ["", "x", "1:2:3", ":80", "a b:80", "127.0.0.1:65536", "[::1]", "-1"]
)
def test_an_address_of_another_form_is_refused(text):
    """Before anything is started."""
    with pytest.raises(InvalidOptions):
        parse_address(text, "--listen")


@pytest.mark.slow
def test_the_command_serves_until_it_is_stopped(farm, tmp_path):
    """On this machine alone, unless told otherwise; other paths and hosts get nothing."""
    with running_exporter(farm.settings, tmp_path / "log") as port:
        status, page = get(port, "/metrics")
        assert status == 200
        assert samples(page)["scribefarm_redis_up"] == 1
        assert get(port, "/healthz") == (200, b"ok\n")
        assert get(port, "/readyz") == (200, b"ok\n")
        assert get(port, "/../etc/passwd")[0] == 404
        assert get(port, "/metrics", host="evil.example")[0] == 403
        assert get(port, "/metrics", method="POST")[0] == 501


def test_once_prints_the_page(scribefarm):
    """For a textfile collector; a wrong address is refused before anything is asked."""
    done = scribefarm("metrics", "--once")
    assert done.returncode == 0, done.stderr
    assert samples(done.stdout.encode())["scribefarm_redis_up"] == 1
    assert scribefarm("metrics", "--listen", "nowhere").returncode == 2


def get(port, path, host=None, method="GET"):
    """Return status and body of a request."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
