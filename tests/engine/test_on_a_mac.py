"""The engine's policy on a model of a Mac's GPU: the real schedule, a device that keeps Metal's limits.

What these tests show is arithmetic over MLX's source and the chips' figures. No Mac was there.
"""

from types import SimpleNamespace

import pytest

from producer.errors import Cancelled, DeviceLost, OutOfRange
from producer.job import Job
from producer.planning.speeds import COMPUTED
from producer.result import Audio
from tests.stage.fake_metal import MOST_UNDER_WAY, FakeMetal, MetalFamily, Windows
from tests.stage.readme import TEXTS
from worker.audio.read_ahead import End
from worker.cli.expected_speed import (
    CHIPS,
    MODELS,
    WINDOW_S,
    chip_of,
    encode_s,
    mac_limit_bytes,
    mac_plan,
    step_s,
    table,
    times_real_time,
)
from worker.engine.messages import Done, Failed, Ticket
from worker.engine.schedule import Schedule
from worker.engine.stats import EngineStats
from worker.engine.track import Track

M1, M4 = chip_of("Apple M1", 8), chip_of("Apple M4", 10)
TURBO = MODELS["large-v3-turbo"]
TIMEOUT = "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"


class Night:
    """A schedule over a Mac's family, kept as full as the engine would."""

    def __init__(self, family, recordings=40, windows=3):
        self.family, self.events = family, []
        self.schedule = Schedule(family, self.events.append, lambda *_: None, EngineStats())
        self.waiting = [(f"r{number}", windows) for number in range(recordings)]
        self.longest_turn_s = 0.0

    def admit(self):
        """Take recordings up to the engine's capacity."""
        capacity = self.family.plan.slots + self.family.batch_size
        while self.waiting and len(self.schedule.tracks) < capacity:
            name, windows = self.waiting.pop(0)
            features = SimpleNamespace(finish=lambda: None)
            reading = SimpleNamespace(stop=lambda: None)
            track = Track(Ticket(name, name, Job(source=name)), Windows(windows), features, reading)
            self.schedule.add(track)
            audio = Audio(
                duration_s=windows * WINDOW_S, sample_rate_hz=16_000, channels=1, format="x"
            )
            track.begin(End(audio, 0.0))
            self.schedule.advance(track)

    def turn(self):
        """Do one turn, and note how long the engine's thread was in it."""
        self.admit()
        before = self.family.metal.now
        self.schedule.turn()
        self.longest_turn_s = max(self.longest_turn_s, self.family.metal.now - before)

    def run(self):
        """Transcribe everything, and return how many times faster than real time."""
        audio_s = sum(windows for _, windows in self.waiting) * WINDOW_S
        while self.waiting or self.schedule.tracks:
            self.turn()
        assert {type(event) for event in self.events} == {Done}
        return audio_s / self.family.metal.now


def night(chip=M4, recordings=40, **family):
    return Night(MetalFamily(chip, **family), recordings)


def test_the_model_device_keeps_metals_limits():
    """In order, ten under way, memory that waits, errors at the next use."""
    metal = FakeMetal(limit_bytes=100, resident_bytes=40)
    buffers = [metal.commit(1.0) for _ in range(12)]
    assert (metal.now, metal.peak_under_way) == (2.0, MOST_UNDER_WAY)
    assert [buffer.ends for buffer in buffers[:3]] == [1.0, 2.0, 3.0]
    metal.wait(buffers[-1])
    assert metal.now == 12.0
    metal.commit(1.0, 50)
    metal.commit(1.0, 50)
    assert (metal.now, metal.peak_bytes) == (13.0, 90)
    metal.commit(1.0, 500)
    assert metal.peak_bytes == 540
    metal.next_error = TIMEOUT
    failing = metal.commit(1.0)
    metal.commit(1.0)
    with pytest.raises(RuntimeError, match="Timeout"):
        metal.wait(failing)
    metal.commit(1.0)


@pytest.mark.parametrize("chip", CHIPS[:4], ids=str)
def test_the_schedule_gives_what_the_table_says(chip):
    """Within 15 %: windows wait for company, and the last rows run alone."""
    work = night(chip, recordings=60)
    slots = work.family.plan.slots
    assert work.run() == pytest.approx(times_real_time(chip, TURBO, slots), rel=0.15)


@pytest.mark.parametrize("chip", CHIPS, ids=str)
def test_sixteen_rows_give_nearly_what_sixty_four_would(chip):
    """The encoder is most of the time, and does not get cheaper."""
    share = times_real_time(chip, TURBO, 16) / times_real_time(chip, TURBO, 64)
    assert share > (0.9 if "M5" in chip.name else 0.96)


def test_small_batches_cost_nothing_and_keep_the_engines_thread_free():
    """Encoding is synchronous there: a batch of eight is seconds without audio or cancellation."""
    small, large = night(M1), night(M1, batch=8)
    assert small.run() > 0.97 * large.run()
    assert small.longest_turn_s < 2.2 * encode_s(M1, TURBO) < 3.0
    assert large.longest_turn_s > 7.0
    assert max(small.family.batches) == 1


def test_more_steps_ahead_than_are_chosen_are_of_no_use():
    """Ten buffers are under way at most, and a step has six."""
    chosen = night()
    assert chosen.family.plan.steps_ahead == 1
    assert chosen.run() >= night(steps_ahead=4).run()


def test_a_cancelled_recording_leaves_within_a_turn():
    """A turn is at most one batch and one step long."""
    work = night()
    for _ in range(30):
        work.turn()
    track = next(iter(work.schedule.tracks.values()))
    asked = work.family.metal.now
    work.turn()
    work.schedule.fail(track, Cancelled("job", "was cancelled"))
    assert type(work.events[-1]) is Failed
    assert work.family.metal.now - asked < 2.2 * encode_s(M4, TURBO)


def test_a_gpu_timeout_ends_the_schedule_typed_and_fails_nobody():
    """Thrown at some later use; the worker starts again, and others go on from the checkpoints."""
    work = night()
    for _ in range(20):
        work.turn()
    work.family.metal.next_error = TIMEOUT
    with pytest.raises(DeviceLost, match="GPU Timeout"):
        work.run()
    assert not [event for event in work.events if isinstance(event, Failed)]


@pytest.mark.parametrize("memory_gib", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("model", MODELS)
def test_the_plan_fits_and_what_runs_stays_within_it(memory_gib, model):
    """On every Mac that is sold with so much memory."""
    plan = mac_plan(memory_gib, MODELS[model], M4)
    assert plan.needed_bytes <= plan.limit_bytes == mac_limit_bytes(memory_gib)
    assert plan.limit_bytes <= 0.625 * memory_gib * 1024**3
    assert plan.slots <= 32
    assert plan.batch_size == 1
    work = night(model=model, memory_gib=memory_gib, recordings=20)
    work.run()
    assert work.family.metal.peak_bytes <= plan.limit_bytes


def test_what_does_not_fit_is_refused_with_the_arithmetic():
    """An 8 GB Mac holds large-v3 with two windows and six rows, and not with sixteen."""
    plan = mac_plan(8, MODELS["large-v3"], M1)
    assert (plan.slots, plan.rows) == (2, 6)
    with pytest.raises(OutOfRange, match=r"2 x \(16 windows .* of 5\.37 GB"):
        mac_plan(8, MODELS["large-v3"], M1, 16)


def test_the_table_in_deploys_readme_is_the_computed_one():
    """Nobody edits a figure; `python -c "from worker.cli.expected_speed import *; print(table())"`."""
    assert table() in TEXTS["deploy/README.md"]


def test_plans_take_their_speeds_from_that_table():
    """With the beams of the default; of a chip's machines that of one which has the memory."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table().splitlines()[2:]]
    found = {(row[1].partition(",")[0], row[3], row[8]) for row in rows}
    for chip, speeds in COMPUTED.items():
        assert {(f"Apple {chip}", model, str(speed)) for model, speed in speeds.items()} <= found


def test_five_beams_read_their_windows_audio_once():
    """They cost a few hundredths of turbo's speed on a Mac, and much less than five times a step."""
    assert 0.9 < times_real_time(M4, TURBO, 16, 5) / times_real_time(M4, TURBO, 16) < 1.0
    assert step_s(M4, TURBO, 16) < step_s(M4, TURBO, 16, 5) < 2 * step_s(M4, TURBO, 16)


def test_a_chip_is_known_by_name_and_cores():
    """Without the cores the first of its name; others have no figures."""
    assert chip_of("Apple M4 Pro", 20).tflops > chip_of("Apple M4 Pro", None).tflops
    assert chip_of("Apple M9", 10) is None
