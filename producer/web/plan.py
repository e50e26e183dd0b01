"""The page of the plan: when what waits will be done, and what another farm would do."""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from starlette.datastructures import QueryParams

from producer.active_hours import parse_hours
from producer.errors import InvalidOptions, ScribefarmError
from producer.planning.plan import Plan, make_plan
from producer.planning.speeds import asked_farm
from producer.planning.work import DEFAULT_LENGTH_S, Load, waiting
from producer.roster import read_roster
from producer.web.web import Web

# A page waits for it: a farm larger than this is planned by the command.
MOST_MACHINES = 256
_MOST_HOURS = 10_000_000
_MOST_SPEED = 1_000_000


class Asked(NamedTuple):
    """What the form says; "" is what the farm has."""

    hours: str = ""
    machines: str = ""
    speed: str = ""
    night: str = ""


class PlanView(NamedTuple):
    """A plan, or why there is none.

    Attributes:
        asked: What the form says.
        plan: None where nothing waits and nothing is asked, or with a problem.
        problem: What is wrong with the form, or missing.
    """

    asked: Asked
    plan: Plan | None = None
    problem: str = ""


def plan_view(web: Web, given: QueryParams) -> PlanView:
    """Return the plan of what waits and what the form adds."""
    asked = Asked(*(given.get(name, "").strip()[:40] for name in Asked._fields))
    try:
        hours = _number("hours of audio", asked.hours, _MOST_HOURS)
        machines = _number("machines", asked.machines, MOST_MACHINES)
        speed = _number("speed", asked.speed, _MOST_SPEED)
        if asked.night:
            parse_hours(asked.night)
        loads = waiting(web.connection)
        if hours:
            num_recordings = max(1, round(3600 * hours / DEFAULT_LENGTH_S))
            loads.append(Load("", num_recordings, (), DEFAULT_LENGTH_S))
        if not loads:
            return PlanView(asked)
        farm = asked_farm(
            read_roster(web.connection, web.settings).alive[:MOST_MACHINES],
            None if machines is None else max(1, int(machines)),
            None if speed is None else (speed, "given"),
            (asked.night, web.settings.worker.timezone) if asked.night else None,
        )
    except ScribefarmError as error:
        return PlanView(asked, problem=_said(error))
    sizes = sorted({max(1, len(farm) // 2), len(farm) + 1, 2 * len(farm)} - {len(farm)})
    return PlanView(asked, make_plan(loads, farm, datetime.now(UTC), sizes=sizes))


def _number(name: str, given: str, most: float) -> float | None:
    """Return a number of the form, above 0; None where it is empty.

    Raises:
        InvalidOptions: it is none, or too large.
    """
    if not given:
        return None
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value <= most:
        raise InvalidOptions(name, f"must be a number above 0, up to {most:,}", given)
    return value


def _said(error: ScribefarmError) -> str:
    if error.context == "--speed":
        return "No worker that is alive says how fast it is: name a speed."
    return f"{error.context} {error.constraint}"
