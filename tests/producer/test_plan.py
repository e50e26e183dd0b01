"""Plans: nights played through, speeds by who says them, the command's words and refusals."""

import json
import math
import os
import random
from datetime import UTC, datetime, timedelta

import pytest

from producer.errors import InvalidOptions, InvalidSettings
from producer.planning.lines import plan_lines
from producer.planning.plan import fewest_machines, make_plan, nights_until
from producer.planning.simulation import Machine, Recording, finish_times
from producer.planning.speeds import Known, known_workers, speed_of_chip
from producer.planning.work import MAX_RECORDINGS, Load
from producer.worker_records import WorkerRecord
from tests.stage.command import run_command

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
START_S = NOON.timestamp()
HOUR = 3600.0
NIGHT = {"hours": "22:00-06:00", "timezone": "UTC"}


def finish(machines, lengths, **kinds):
    """Return the hours after noon at which the recordings of batch 0 are done."""
    recordings = [Recording(length, **kinds) for length in lengths]
    return (finish_times(machines, recordings, START_S)[0] - START_S) / HOUR


def test_a_full_machine_works_at_its_speed():
    assert finish([Machine(10.0, slots=4, capacity=4)], [HOUR] * 4) == pytest.approx(0.4)


def test_a_single_recording_leaves_most_of_a_machine_idle():
    """Half of a full batch's time is shared by nobody: of four slots one takes 2.5 times as long."""
    assert finish([Machine(10.0, slots=4, capacity=4)], [HOUR]) == pytest.approx(0.1 * 2.5)


def test_two_machines_share_the_queue():
    machines = [Machine(10.0, 1, 1), Machine(30.0, 1, 1)]
    assert finish(machines, [HOUR] * 4) == pytest.approx(0.1)


def test_work_waits_for_the_night_and_for_the_next():
    """Ten hours of work from 22:00: eight in the first night, the rest from 22:00 on."""
    machine = Machine(1.0, 1, 1, **NIGHT)
    assert finish([machine], [HOUR / 4] * 40) == pytest.approx(24 + 12.0)


def test_what_runs_when_the_hours_close_is_finished():
    """As a worker does: it takes nothing more."""
    machine = Machine(1.0, 1, 1, **NIGHT)
    assert finish([machine], [7 * HOUR, 7 * HOUR]) == pytest.approx(10 + 14)


def test_recordings_that_are_played_as_one_do_not_outlast_the_night():
    """A bundle is given back but for the recording that runs."""
    machine = Machine(1.0, 1, 1, **NIGHT)
    one_by_one = finish([machine], [HOUR] * 12)
    assert finish([machine], [12 * HOUR], pieces=12) == pytest.approx(one_by_one)


def test_a_machine_without_work_takes_what_another_gives_back():
    night, always = Machine(1.0, 1, 1, **NIGHT), Machine(1.0, 1, 1)
    done = finish_times([night, always], [Recording(HOUR, 0), Recording(16 * HOUR, 1, 16)], START_S)
    late = finish_times([night], [Recording(16 * HOUR, 1, 16)], START_S)
    assert done[1] - START_S == pytest.approx(16 * HOUR + HOUR)
    assert late[1] > done[1]


def test_batches_end_in_the_order_of_the_queue():
    machine = Machine(10.0, 1, 1)
    done = finish_times([machine], [Recording(HOUR, 0), Recording(HOUR, 1)], START_S)
    assert done[1] - done[0] == pytest.approx(360.0)


def test_what_is_never_done_is_infinite_and_said():
    slow = Known(Machine(1e-6, 1, 1), "given")
    assert math.isinf(finish_times([slow.machine], [Recording(HOUR)], START_S)[0])
    plan = make_plan([Load("a", 1, (HOUR,))], [slow], NOON)
    assert plan.done.middle is None
    assert "never" in "\n".join(plan_lines(plan))


def test_nothing_to_do_is_done_at_once():
    assert finish_times([Machine(1.0)], [Recording(0.0)], START_S) == {0: START_S}


def test_hours_that_are_none_are_refused():
    with pytest.raises(InvalidSettings):
        finish_times([Machine(1.0, hours="22-06")], [Recording(1.0)], START_S)


@pytest.mark.parametrize(("hours_later", "nights"), [(11, 1), (17, 1), (24 + 11, 2), (48 + 12, 3)])
def test_nights_are_counted_by_their_evenings(hours_later, nights):
    end = NOON + timedelta(hours=hours_later)
    assert nights_until(Machine(1.0, **NIGHT), NOON, end) == nights


def test_a_large_archive_is_played_in_bundles_of_the_same_audio():
    load = Load("a", 3 * MAX_RECORDINGS, [60.0] * (3 * MAX_RECORDINGS))
    drawn = load.drawn(random.Random(0), 7)
    assert len(drawn) == MAX_RECORDINGS
    assert {each.pieces for each in drawn} == {3}
    assert {each.batch for each in drawn} == {7}
    assert sum(each.audio_s for each in drawn) == pytest.approx(load.audio_s)


def test_unknown_lengths_have_their_mean_and_failures_take_less():
    plain = Load("a", 4000, (), 600.0).drawn(random.Random(1), 0)
    failing = Load("a", 4000, (), 600.0, 0.5).drawn(random.Random(1), 0)
    seconds = sum(each.audio_s for each in plain)
    assert seconds == pytest.approx(4000 * 600.0, rel=0.05)
    assert sum(each.audio_s for each in failing) == pytest.approx(0.75 * seconds, rel=0.05)


def worker(name, **says):
    return WorkerRecord(name=name, **{"model": "m", "slots": 16, "capacity": 24} | says)


def test_the_surest_speed_counts():
    """Measured with its rows at work, else its bench, else what its peers do."""
    found = known_workers(
        [
            worker("a", audio_s_per_s=40.0, rows=15.0, bench_audio_s_per_s=50.0),
            worker("b", audio_s_per_s=4.0, rows=1.0, bench_audio_s_per_s=50.0),
            worker("c", audio_s_per_s=4.0, rows=1.0),
            worker("d", active_hours="22:00-06:00 Europe/Berlin"),
            worker("e", model="another"),
            worker("f", audio_s_per_s=99.0, rows=16.0, is_paused=True),
        ]
    )
    assert [(each.machine.audio_s_per_s, each.origin) for each in found] == [
        (40.0, "measured"),
        (50.0, "bench"),
        (4.0, "measured"),
        (40.0, "peers"),
    ]
    assert (found[3].machine.hours, found[3].machine.timezone) == ("22:00-06:00", "Europe/Berlin")


def test_fewer_machines_than_the_fewest_are_too_late():
    loads = [Load("a", 400, [HOUR] * 400)]
    machine = Known(Machine(10.0, 4, 4, **NIGHT), "given")
    fewest = fewest_machines(loads, machine, NOON, nights=2)
    assert fewest == 3  # a night of eight hours is 80 h of audio for each
    assert fewest_machines([Load("a", 1, [500 * HOUR])], machine, NOON, nights=1) is None


def test_a_plan_comes_again():
    loads, farm = [Load("a", 50, (), 600.0)], [Known(Machine(10.0, 4, 4), "computed")]
    assert make_plan(loads, farm, NOON) == make_plan(loads, farm, NOON)
    assert make_plan(loads, farm, NOON).done.early < make_plan(loads, farm, NOON).done.late


def test_a_chip_is_named_as_people_name_it():
    assert speed_of_chip("apple m4 pro", "turbo") == 58.0
    with pytest.raises(InvalidOptions, match="M2 Ultra"):
        speed_of_chip("M9", "turbo")
    with pytest.raises(InvalidOptions, match="bench"):
        speed_of_chip("M4", "tiny.en")


@pytest.fixture
def run(settings, tmp_path):
    """Return a function that runs `scribefarm plan` on the test's own server."""
    env = os.environ | {"SCRIBEFARM_REDIS__EMBEDDED_DIR": str(settings.redis.embedded_dir)}
    return lambda *arguments: run_command(["plan", *arguments], env=env, cwd=tmp_path)


FARM = ("--workers", "2", "--speed", "30")


def test_hours_and_a_farm_that_are_not_there_yet(run):
    answer = run("--hours", "100", *FARM, "--night", "22:00-06:00", "--nights", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    plan = json.loads(answer.stdout)
    assert (plan["num_machines"], plan["audio_s_per_s"], plan["audio_s"]) == (2, 60.0, 360_000.0)
    assert plan["speeds_from"] == {"given": 2}
    assert plan["fewest_machines"] in {1, 2}
    assert [each["num_machines"] for each in plan["sizes"]] == [1, 3, 4, 8]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--hours", "5"), "--speed"),
        ((*FARM,), "needs work"),
        (("--hours", "5", *FARM, "--night", "22-06"), "22:00-06:00"),
        (("--hours", "5", *FARM, "--timezone", "Europe/Berlin"), "--night"),
        (("--hours", "5", *FARM, "--chip", "M4"), "--chip"),
        (("--hours", "0", *FARM), "--hours"),
    ],
)
def test_what_makes_no_plan_is_refused(run, arguments, said):
    answer = run(*arguments)
    assert answer.returncode == 2
    assert said in answer.stderr.decode()
