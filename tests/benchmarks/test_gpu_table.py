"""The table of the GPU bench, out of figures that parts told."""

import pytest

from tests.benchmarks.gpu.drive import PARTS, best_slots
from tests.benchmarks.gpu.table import markdown

FIGURES = {
    "transformers": {"times_real_time": 2000, "setting": "batch 128"},
    "static": {"times_real_time": 2500, "setting": "batch 192, static cache compiled"},
    "device": {"slots": {"128": {"times_real_time": 3300, "windows_per_s": 110.0}}},
    "files": {"times_real_time": 3000, "windows_per_s": 100.0, "slots": 192, "processes": 8},
    "redis": {"times_real_time": 2850, "windows_per_s": 95.0, "slots": 192},
}


def test_ours_is_held_against_the_best_that_transformers_reached():
    table = markdown(FIGURES)
    assert "| ours from files / best (a) | 1.20 | at least 1.25, goal 1.5 |" in table
    assert "| (a) transformers, generate, mels on the device | batch 128 | 2,000 |" in table


def test_redis_is_held_against_the_engine_with_as_many_slots():
    other = {"times_real_time": 3300, "windows_per_s": 110.0, "slots": 128, "processes": 8}
    assert "same slots | 0.95 |" in markdown(FIGURES | {"files-256": other})


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_told_nothing_is_a_dash_and_how_it_ended(name):
    table = markdown({name: {"took_s": 60.0, "ended": "ended after 60 s"}})
    assert f"- {name}: 60.0 s, ended after 60 s" in table
    assert "| (e) ours, files to results | - | - |" in table


def test_the_engine_takes_the_slots_of_the_fastest_row():
    slots = {"64": {"windows_per_s": 90.0}, "256": {"error": "no room"}}
    assert best_slots({"device": {"slots": slots}}) == 64
    assert best_slots(FIGURES) == 192
