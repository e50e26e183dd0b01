"""A plan: when each batch will be done, in which night, with how many machines."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from producer.active_hours import is_active, next_change, zone_of
from producer.planning.simulation import Machine, finish_times
from producer.planning.speeds import UNCERTAINTY, Known
from producer.planning.work import MAX_RECORDINGS, Load, mixed

# More nobody has.
MOST_MACHINES = 4096
# The range is that of the middle eight tenths of all plays. So many recordings are played in all,
# about a second's work; the plays of one plan are within the bounds.
RECORDINGS_PLAYED = 60_000
FEWEST_PLAYS, MOST_PLAYS = 15, 60
# Of another number of machines, which nobody reads to the hour.
SIZE_PLAYS = 5
LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9
_TWO_SIGMA = 2.0
_SLOWEST = 0.2
_FOREVER = float("inf")


class Finish(BaseModel):
    """When something is done: the middle of all plays, and the range of eight in ten.

    Attributes:
        early, middle, late: None is never, or not within 20 years.
        nights: Nights that are worked in, counted to `middle`; days where there are no hours.
    """

    model_config = ConfigDict(frozen=True)

    early: datetime | None
    middle: datetime | None
    late: datetime | None
    nights: int | None


class BatchPlan(BaseModel):
    """A batch of the plan; the name "" is what would be added."""

    model_config = ConfigDict(frozen=True)

    name: str
    num_recordings: int
    audio_s: float
    done: Finish


class FarmSize(BaseModel):
    """What another number of machines would do."""

    model_config = ConfigDict(frozen=True)

    num_machines: int
    done: Finish


class Plan(BaseModel):
    """The whole plan, as `scribefarm plan --json` prints it."""

    model_config = ConfigDict(frozen=True)

    begins: datetime
    num_recordings: int
    num_unknown: int = Field(description="Whose length no header says.")
    audio_s: float
    num_machines: int
    audio_s_per_s: float = Field(description="Of all machines together, all their slots taken.")
    speeds_from: dict[str, int] = Field(description="Machines by who says how fast they are.")
    hours: str = Field(description='When most machines work; "" is always.')
    batches: list[BatchPlan]
    done: Finish
    sizes: list[FarmSize] = Field(description="The same work with other numbers of machines.")
    nights_asked: int | None = Field(None, description="Nights that were asked for.")
    fewest_machines: int | None = Field(
        None, description="Machines that are done within them, late plays included; None: none are."
    )


def make_plan(
    loads: Sequence[Load],
    farm: Sequence[Known],
    begins: datetime,
    *,
    sizes: Sequence[int] = (),
    seed: int = 0,
) -> Plan:
    """Play the farm's nights many times, with lengths, failures and speeds drawn anew.

    Args:
        loads: What is to be done, in the order of the queue.
        farm: At least one machine.
        begins: When work may begin, an aware time.
        sizes: Numbers of machines to plan as well; they are copies of the first machine.
        seed: Of the draws; the same plan comes again with it.

    Raises:
        InvalidSettings: a machine's hours or time zone are none.
    """
    plays = _played(loads, farm, begins, seed, _num_plays(loads))
    first = farm[0].machine
    return Plan(
        begins=begins,
        num_recordings=sum(each.num_recordings for each in loads),
        num_unknown=sum(each.num_unknown for each in loads),
        audio_s=round(sum(each.audio_s for each in loads), 3),
        num_machines=len(farm),
        audio_s_per_s=round(sum(each.machine.audio_s_per_s for each in farm), 3),
        speeds_from=_counted(farm),
        hours=" ".join(filter(None, (first.hours, first.timezone))),
        batches=[
            BatchPlan(
                name=load.name,
                num_recordings=load.num_recordings,
                audio_s=round(load.audio_s, 3),
                done=_finish([play.get(number, _FOREVER) for play in plays], begins, first),
            )
            for number, load in enumerate(loads)
        ],
        done=_finish([_last(play, begins) for play in plays], begins, first),
        sizes=[
            FarmSize(num_machines=size, done=_sized(loads, farm[0], size, begins, seed))
            for size in sizes
        ],
    )


def _num_plays(loads: Sequence[Load]) -> int:
    num_played = sum(min(each.num_recordings, MAX_RECORDINGS) for each in loads)
    return max(FEWEST_PLAYS, min(MOST_PLAYS, RECORDINGS_PLAYED // max(1, num_played)))


def fewest_machines(
    loads: Sequence[Load], machine: Known, begins: datetime, nights: int
) -> int | None:
    """Return how few such machines are done within so many nights, late plays included.

    None if one for each recording is not: a recording may be longer than the nights.
    """
    most = min(MOST_MACHINES, sum(each.num_recordings for each in loads))
    audio_s = sum(each.audio_s for each in loads)
    # One night is at most a day: fewer machines than this cannot do it.
    low = max(1, int(audio_s / (machine.machine.audio_s_per_s * nights * 86_400 * 2)))
    high = low
    while not _is_done(loads, machine, high, begins, nights):
        if high >= most:
            return None
        low, high = high + 1, min(most, high * 2)
    while low < high:
        middle = (low + high) // 2
        if _is_done(loads, machine, middle, begins, nights):
            high = middle
        else:
            low = middle + 1
    return low


def _is_done(
    loads: Sequence[Load], machine: Known, size: int, begins: datetime, nights: int
) -> bool:
    late = _sized(loads, machine, size, begins, 0).late
    return late is not None and nights_until(machine.machine, begins, late) <= nights


def _sized(loads: Sequence[Load], machine: Known, size: int, begins: datetime, seed: int) -> Finish:
    plays = _played(loads, [machine] * size, begins, seed, SIZE_PLAYS)
    return _finish([_last(play, begins) for play in plays], begins, machine.machine)


def _played(
    loads: Sequence[Load],
    farm: Sequence[Known],
    begins: datetime,
    seed: int,
    num_plays: int,
) -> list[Mapping[int, float]]:
    random_ = random.Random(seed)  # noqa: S311 a simulation
    plays: list[Mapping[int, float]] = []
    for _ in range(num_plays):
        # Speeds are wrong together: one model, one kind of recordings.
        luck = random_.gauss(0.0, 1.0)
        machines = [_lucky(each, luck) for each in farm]
        plays.append(finish_times(machines, mixed(loads, random_), begins.timestamp()))
    return plays


def _lucky(known: Known, luck: float) -> Machine:
    factor = max(_SLOWEST, 1 + luck * UNCERTAINTY[known.origin] / _TWO_SIGMA)
    machine = known.machine
    return Machine(
        machine.audio_s_per_s * factor,
        machine.slots,
        machine.capacity,
        machine.hours,
        machine.timezone,
    )


def _last(play: Mapping[int, float], begins: datetime) -> float:
    return max(play.values(), default=begins.timestamp())


def _finish(ends: Sequence[float], begins: datetime, machine: Machine) -> Finish:
    ordered = sorted(ends)

    def at(share: float) -> datetime | None:
        end = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        return None if end == _FOREVER else datetime.fromtimestamp(end, UTC)

    middle = at(MIDDLE)
    return Finish(
        early=at(LOW),
        middle=middle,
        late=at(HIGH),
        nights=None if middle is None else nights_until(machine, begins, middle),
    )


def nights_until(machine: Machine, begins: datetime, end: datetime) -> int:
    """Return in how many nights a machine works until `end`; days where it has no hours.

    What runs when hours close is finished, and belongs to that night.
    """
    if machine.hours is None:
        return max(1, -(-(end - begins) // timedelta(days=1)))
    zone_of(machine.timezone)
    now, nights = begins, int(is_active(machine.hours, machine.timezone, begins))
    while (change := next_change(machine.hours, machine.timezone, now)) and change < end:
        nights += is_active(machine.hours, machine.timezone, change)
        now = change
    return max(1, nights)


def _counted(farm: Sequence[Known]) -> dict[str, int]:
    origins = [each.origin for each in farm]
    return {origin: origins.count(origin) for origin in dict.fromkeys(origins)}
