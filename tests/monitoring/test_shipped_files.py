"""The alerts, the configuration and the dashboard that are shipped: sound, and of metrics that exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from producer.metrics.collector import FarmCollector
from producer.metrics.families import farm_metrics
from producer.metrics.snapshot import Snapshot
from producer.metrics.stored import Counters
from producer.roster import Roster
from producer.settings import Settings
from tests.stage.farm import ROOT

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
UNIT_TESTS = Path(__file__).parent / "alerts_test.yml"
NAMED = re.compile(r"\bscribefarm_[a-z0-9_]+\b")
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}


def rules():
    """Return the alert rules."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return group["rules"]


def series_names():
    """Return the name of every series that a scrape can have."""
    nothing = Snapshot(0.0, False, [], 0, Counters(), Roster(0.0, [], frozenset()))
    families = [*farm_metrics(nothing), *FarmCollector(Settings())._own(0.0)]
    return {each.name + suffix for each in families for suffix in SUFFIXES[each.type]}


def dashboard_queries():
    """Return every query of the dashboard."""
    board = json.loads(DASHBOARD.read_text())
    found = [each["expr"] for panel in board["panels"] for each in panel.get("targets", ())]
    found += [each["query"] for each in board["templating"]["list"]]
    return found + [each["expr"] for each in board["annotations"]["list"]]


def test_every_metric_that_alerts_and_dashboard_name_exists():
    """And the dashboard shows a good part of what there is."""
    known = series_names()
    in_alerts = {name for rule in rules() for name in NAMED.findall(rule["expr"])}
    in_dashboard = {name for query in dashboard_queries() for name in NAMED.findall(query)}
    assert in_alerts
    assert in_alerts <= known
    assert in_dashboard <= known
    shown = {name.removesuffix("_bucket") for name in in_alerts | in_dashboard}
    assert {name for name in known if not name.endswith(("_sum", "_count"))} - shown <= {
        *(f"{name}_bucket" for name in shown),
        "scribefarm_worker_recordings",
        "scribefarm_worker_capacity",
        "scribefarm_worker_lost_threads",
    }


def test_the_panels_lie_beside_each_other():
    """None overlaps another, and each has a title and a data source."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_says_what_to_do_and_is_tried():
    """Each has a unit test in which it fires, and one in which it has cleared."""
    tried = {}
    for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for each in test["alert_rule_test"]:
            outcomes = tried.setdefault(each["alertname"], [])
            outcomes.append((test["name"], bool(each["exp_alerts"])))
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["for"]
        outcomes = tried.pop(rule["alert"])
        fired = [name for name, fires in outcomes if fires]
        assert fired, rule["alert"]
        in_order = [fires for name, fires in outcomes if name == fired[0]]
        assert in_order[0] is False, rule["alert"]
        assert in_order[-1] is False, rule["alert"]
    assert tried == {}


def test_promtool_takes_rules_and_configuration(promtool):
    """As the shipped folder is laid out."""
    for words in (
        ("check", "rules", ALERTS),
        ("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
    ):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_and_clears(promtool, tmp_path):
    """`promtool test rules`, with the times that are shipped."""
    done = unit_test(promtool, tmp_path, ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shipped", "broken"),
    [
        ("> 0.1", "> 0.3"),
        ("scribefarm_worker_up == 0", "scribefarm_worker_up == 1"),
        ("> 43200", "> 90000"),
        ("max(scribefarm_paused) == 0", "max(scribefarm_paused) == 1"),
        ("time() + ", ""),
    ],
)
def test_the_unit_tests_would_find_a_wrong_rule(promtool, tmp_path, shipped, broken):
    """Each of these was right once."""
    text = ALERTS.read_text()
    assert shipped in text
    changed = tmp_path / "changed.yml"
    changed.write_text(text.replace(shipped, broken))
    assert unit_test(promtool, tmp_path, changed).returncode != 0


def unit_test(promtool, folder, alerts):
    """Run the unit tests of alerts against a file of rules."""
    file = folder / "alerts_test.yml"
    file.write_text(re.sub(r"- ALERTS .*", f"- {alerts}", UNIT_TESTS.read_text()))
    command = [promtool, "test", "rules", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
