"""What the farm did, five minutes by five minutes: counted where it is done, read in one look."""

import time

import pytest

from producer.keys import work_key
from producer.throughput import SLOT_S, Slot, read_throughput, speed
from tests.stage.fake_engine import FakeEngine, job


def test_what_ends_is_counted_once(farm):
    """Audio as it is done, ends as they come; in a batch or not, and of failed jobs their failure."""
    in_batch = [
        job(f"r{n}", windows=2).model_copy(update={"batch": "night", "name": f"{n}.wav"})
        for n in range(3)
    ]
    farm.submit(*in_batch, job("alone", windows=4), job("bad", error="corrupt_audio"))
    farm.start(FakeEngine(2), burst=True).wait()
    slots = read_throughput(farm.connection, hours=1)
    assert sum(slot.audio_s for slot in slots) == pytest.approx(30.0 * (3 * 2 + 4))
    assert (sum(slot.succeeded for slot in slots), sum(slot.failed for slot in slots)) == (4, 1)


def test_a_day_is_one_small_key_with_an_end(farm):
    """Nothing grows with the number of jobs."""
    farm.submit(*(job(f"r{n}") for n in range(20)))
    farm.start(FakeEngine(8), burst=True).wait()
    keys = farm.connection.keys("scribefarm:work:*")
    assert 1 <= len(keys) <= 2
    assert all(0 < farm.connection.ttl(key) <= 8 * 86_400 for key in keys)
    assert sum(farm.connection.hlen(key) for key in keys) <= 4


def test_slots_are_read_over_midnight_and_odd_ones_are_nothing(connection):
    """A slot is where its time is, whatever another program wrote beside it."""
    now = int(time.time())
    last = now // SLOT_S
    for back, audio_ms in ((0, 9000), (250, 5000)):
        day, slot = divmod(last - back, 86_400 // SLOT_S)
        fields = {f"{slot}:audio_ms": audio_ms, f"{slot}:failed": "many", "x": "y", "999:failed": 1}
        connection.hset(work_key(day), mapping=fields)
        connection.expire(work_key(day), 60)
    slots = read_throughput(connection)
    assert len(slots) == 24 * 12
    by_start = {slot.start_s: slot for slot in slots}
    assert by_start[last * SLOT_S] == Slot(last * SLOT_S, 9.0)
    assert by_start[(last - 250) * SLOT_S] == Slot((last - 250) * SLOT_S, 5.0)


def test_speed_is_that_of_the_last_quarter_of_an_hour():
    """What is older says nothing, and what was not done is no speed."""
    slots = [Slot(n * 300, 3000.0 if n > 5 else 9000.0) for n in range(10)]
    assert speed(slots, 2950.0) == pytest.approx(12_000 / 1150)
    assert speed([], 0.0) is None
    assert speed([Slot(0, 0.0)], 100.0) is None
