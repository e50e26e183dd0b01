"""Devices whose times are formulas, on a clock of their own, for tests of what is chosen on them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from producer.errors import OutOfMemory
from worker.engine.family import Rehearsal
from worker.engine.requests import Rows


@dataclass
class FakeDevice:
    """A family's rehearsal on a device that takes as long as it is told to.

    Attributes:
        encode_s: Seconds of a batch of so many windows.
        step_s: Seconds of the device for a step of so many rows.
        host_s: Seconds of the host for one.
        hides: Whether the device goes on while the host works.
        compile_s: Seconds that the first run of each size takes more.
        disturbed: Runs, counted through, that take so many seconds more: other programs.
        max_rows: More have no room, whatever the plan says.
        rows_last: Steps after which rows end.
    """

    encode_s: Callable[[int], float]
    step_s: Callable[[int], float]
    host_s: float = 0.0
    hides: bool = True
    compile_s: float = 0.0
    disturbed: dict[int, float] = field(default_factory=dict)
    max_rows: int = 10_000
    rows_last: int = 10_000
    steps: int = 70
    patience_steps: int = 16
    now: float = 0.0
    seen: set = field(default_factory=set)
    runs: int = 0
    sizes: list = field(default_factory=list)

    def clock(self):
        return self.now

    def rehearsal(self, *, has_rows=True):
        """Return what `calibration.measure` is given."""
        if not has_rows:
            return Rehearsal(self.encode, self.patience_steps)
        return Rehearsal(
            encode=self.encode,
            patience_steps=self.patience_steps,
            steps=self.steps,
            stepper=lambda slots, ahead: FakeStepper(self, slots, ahead),
            rows=lambda _encoded: Rows(),
        )

    def encode(self, count):
        self.sizes.append(count)
        self.spend(("encode", count), self.encode_s(count))
        return ["states"] * count

    def spend(self, kind, seconds):
        """Let time pass, more of it the first time that something of a kind is done."""
        if kind not in self.seen:
            self.seen.add(kind)
            seconds += self.compile_s
        self.now += seconds + self.disturbed.get(self.runs, 0.0)
        self.runs += 1


class FakeStepper:
    """A `worker.engine.family.Stepper` that only takes time."""

    def __init__(self, device, slots, steps_ahead):
        self.num_slots, self.wait_s = slots, 0.0
        self._device, self._ahead = device, steps_ahead
        self._rows = []

    @property
    def num_active(self):
        return len(self._rows)

    def add(self, key, request):
        self._rows.append(self._device.rows_last)

    def step(self):
        device, count = self._device, len(self._rows)
        if count > device.max_rows:
            raise OutOfMemory("device", "must have room for the batch", count)
        busy_s = device.step_s(count) if count else 0.0
        hidden = self._ahead > 0 and device.hides
        before = device.now
        device.spend(
            ("step", count), max(busy_s, device.host_s) if hidden else busy_s + device.host_s
        )
        self.wait_s += max(0.0, device.now - before - device.host_s)
        self._rows = [left - 1 for left in self._rows if left > 1]
        return []

    def reset(self):
        self._rows = []
