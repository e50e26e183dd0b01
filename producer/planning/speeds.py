"""How fast a farm's workers are, and who says so."""

from collections.abc import Sequence
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

# Times real time that scribefarm-worker's own arithmetic gives (worker.cli.expected_speed), by chip
# and model; none was measured.
COMPUTED: dict[str, dict[str, int]] = {
    "M1": {"large-v3-turbo": 22, "large-v3": 13},
    "M4": {"large-v3-turbo": 36, "large-v3": 22},
    "M4 Pro": {"large-v3-turbo": 60, "large-v3": 42},
    "M2 Ultra": {"large-v3-turbo": 230, "large-v3": 152},
    "M5": {"large-v3-turbo": 114, "large-v3": 46},
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
