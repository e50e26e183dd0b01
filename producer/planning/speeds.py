"""How fast a farm's workers are, and who says so."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Literal, NamedTuple

from producer.errors import InvalidOptions
from producer.planning.simulation import Machine
from producer.worker_records import WorkerRecord

Origin = Literal["given", "measured", "bench", "peers", "computed"]
"""Who says how fast a worker is, the surest first: you; its heartbeats; its own bench; other workers
of its model; arithmetic from the chip's figures."""

# By how much such a speed may be wrong to either side (two standard deviations). Guesses: nobody has
# held plans against nights yet. A computed one is for a chip on which nothing was run.
UNCERTAINTY: dict[Origin, float] = {
    "given": 0.1,
    "measured": 0.1,
    "bench": 0.15,
    "peers": 0.2,
    "computed": 0.4,
}
# What a worker does with fewer rows at work than this share of its slots is not what it can do.
BUSY_SHARE = 0.5
DEFAULT_SLOTS = 16

# Times real time that scribefarm-worker's own arithmetic gives (worker.cli.expected_speed) with the
# default's five beams, by chip and model; none was measured.
COMPUTED: dict[str, dict[str, int]] = {
    "M1": {"large-v3-turbo": 22, "large-v3": 10},
    "M4": {"large-v3-turbo": 34, "large-v3": 17},
    "M4 Pro": {"large-v3-turbo": 58, "large-v3": 36},
    "M2 Ultra": {"large-v3-turbo": 220, "large-v3": 137},
    "M5": {"large-v3-turbo": 108, "large-v3": 31},
}


class Known(NamedTuple):
    """A machine of the plan, and who says how fast it is."""

    machine: Machine
    origin: Origin


def speed_of_chip(chip: str, model: str) -> float:
    """Return what the arithmetic gives for a chip, in times real time.

    Raises:
        InvalidOptions: no such chip, or no figure for this model.
    """
    chips = {name.casefold(): name for name in COMPUTED}
    name = chips.get(chip.casefold().removeprefix("apple ").strip())
    if name is None:
        raise InvalidOptions("--chip", f"must be one of {', '.join(COMPUTED)}", chip)
    wanted = "large-v3-turbo" if model in {"turbo", "whisper-turbo"} else model
    speeds = COMPUTED[name]
    if wanted not in speeds:
        limit = (
            f"has figures for {' and '.join(speeds)} alone: measure with scribefarm-worker bench"
        )
        raise InvalidOptions("--chip", limit, model)
    return float(speeds[wanted])


def known_workers(workers: Sequence[WorkerRecord]) -> list[Known]:
    """Return the workers that say, or whose peers say, how fast they are; paused ones do not count."""
    ready = [each for each in workers if not each.is_paused and not each.is_draining]
    sure = {each.name: found for each in ready if (found := _own_speed(each))}
    peers: dict[str, list[float]] = {}
    for each in ready:
        if each.name in sure:
            peers.setdefault(each.model, []).append(sure[each.name][0])
    known = []
    for each in ready:
        speed, origin = sure.get(each.name) or _speed_of_peers(peers.get(each.model, []))
        if speed:
            known.append(Known(_machine(each, speed), origin))
    return known


def asked_farm(
    alive: Sequence[WorkerRecord],
    num_machines: int | None = None,
    speed: tuple[float, Origin] | None = None,
    hours: tuple[str | None, str | None] | None = None,
) -> list[Known]:
    """Return the machines of a plan: those that are alive, but for what is asked instead.

    Args:
        alive: Workers.
        num_machines: How many; None is as many as are alive. More of them are like those.
        speed: Of each, in times real time, and who says so; None is what the workers do.
        hours: When all of them work, and its time zone; None is as the workers say.

    Raises:
        InvalidOptions: nobody says how fast a machine is.
    """
    farm = known_workers(alive)
    if speed is not None:
        slots = farm[0].machine.slots if farm else DEFAULT_SLOTS
        own = (farm[0].machine.hours, farm[0].machine.timezone) if farm else (None, None)
        machine = Machine(speed[0], slots, 2 * slots, *own)
        farm = [Known(machine, speed[1])] * (num_machines or len(farm) or 1)
    elif num_machines is not None and farm:
        farm = [farm[number % len(farm)] for number in range(num_machines)]
    if not farm:
        raise InvalidOptions(
            "--speed",
            "is needed, in times real time (or --chip): no worker that is alive says how fast it is;"
            " scribefarm-worker bench measures one",
        )
    if hours is None:
        return farm
    spec, timezone = hours
    return [
        Known(replace(machine, hours=spec, timezone=timezone), origin) for machine, origin in farm
    ]


def _own_speed(worker: WorkerRecord) -> tuple[float, Origin] | None:
    rows, measured, bench = worker.rows, worker.audio_s_per_s, worker.bench_audio_s_per_s
    is_busy = rows is not None and rows >= BUSY_SHARE * worker.slots
    if measured and is_busy:
        return measured, "measured"
    if bench:
        return bench, "bench"
    # At half its rows it did this much; it can do more.
    return (measured, "measured") if measured else None


def _speed_of_peers(speeds: Sequence[float]) -> tuple[float, Origin]:
    return (median(speeds), "peers") if speeds else (0.0, "peers")


def _machine(worker: WorkerRecord, speed: float) -> Machine:
    hours, _, timezone = worker.active_hours.partition(" ")
    slots = worker.slots or worker.capacity or DEFAULT_SLOTS
    return Machine(speed, slots, worker.capacity or slots, hours or None, timezone or None)
