"""A plan as lines for people."""

from collections.abc import Iterator
from datetime import datetime

from producer.console import format_duration
from producer.planning.plan import Finish, Plan

_NEVER = "never, or not within 20 years"
_SAID_BY = {
    "given": "as you say",
    "measured": "by their heartbeats",
    "bench": "by their bench",
    "peers": "as others of their model",
    "computed": "by arithmetic, not measured",
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines of a plan; times are this machine's."""
    unknown = f", {plan.num_unknown:,} of them of unknown length" if plan.num_unknown else ""
    yield f"work   {_hours(plan.audio_s)} of audio, {_counted(plan.num_recordings, 'recording')}{unknown}"
    said = ", ".join(f"{num} {_SAID_BY[origin]}" for origin, num in plan.speeds_from.items())
    yield (
        f"farm   {_counted(plan.num_machines, 'machine')}, together {plan.audio_s_per_s:.4g} times real time"
        f" ({said}); {plan.hours or 'at all hours'}"
    )
    yield f"done   {_when(plan.done, plan.hours)}"
    if len(plan.batches) > 1:
        for batch in plan.batches:
            name = batch.name or "what would be added"
            yield f"  {name}: {_hours(batch.audio_s)} of audio, {_when(batch.done, plan.hours)}"
    for size in plan.sizes:
        yield f"  with {_counted(size.num_machines, 'machine')}: {_when(size.done, plan.hours)}"
    if plan.nights_asked:
        nights = _counted(plan.nights_asked, "night")
        if plan.fewest_machines is None:
            yield f"within {nights}: no number of machines; a recording may be longer than that"
        else:
            yield f"within {nights}: {_counted(plan.fewest_machines, 'machine')}"


def _when(finish: Finish, hours: str) -> str:
    if finish.middle is None or finish.nights is None:
        return _NEVER
    late = _clock(finish.late) if finish.late else _NEVER
    early = _clock(finish.early) if finish.early else _NEVER
    unit = _counted(finish.nights, "night" if hours else "day")
    return f"{_clock(finish.middle)}, {unit} (between {early} and {late})"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%a %d %b %H:%M}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.0f} h" if seconds >= 36_000 else format_duration(seconds)  # noqa: PLR2004 ten hours


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
