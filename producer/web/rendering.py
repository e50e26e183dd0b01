"""Templates: every value is escaped, made visible, and shown as people write it."""

import math
import time
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from producer.batches.playing import passage_time
from producer.console import format_bytes, format_duration, visible
from producer.errors import advice_for
from producer.events import Event
from producer.masking import mask_urls
from producer.models_served import shown as shown_model

TEMPLATES = Path(__file__).with_name("templates")
# Nearer than that the day needs no name.
_SAME_DAY_S = 20 * 3600
_MANY_HOURS = 100

# What a flag means, in a few words; of a segment or of a recording.
FLAGS = {
    "repetition": "the text repeats itself",
    "low_confidence": "the model was not sure of the text",
    "likely_silence": "probably nobody speaks here",
    "uncertain_language": "the language may be another one",
    "fallback_exhausted": "no try gave acceptable text; the last one is kept",
    "language_drift": "another language than was asked for",
    "phase_cancelled": "the channels cancel each other out; they were mixed so that it is heard",
    "likely_not_english": "probably another language, heard by a model of English",
}


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page."""
    return HTMLResponse(environment().get_template(template).render(values), status)


@cache
def environment() -> Environment:
    """Return the environment of all templates."""
    made = Environment(
        autoescape=True,
        loader=FileSystemLoader(TEMPLATES),
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        duration=duration,
        size=format_bytes,
        time=passage_time,
        clock=clock,
        event_time=event_time,
        stamp=stamp,
        number=number,
        advice=advice_for,
        model=shown_model,
        masked=mask_urls,
    )
    made.globals.update(link=link, flag_meanings=FLAGS)
    return made


def load_templates() -> None:
    """Compile all templates, which nobody who looks should wait for."""
    for name in environment().list_templates(extensions=["j2"]):
        environment().get_template(name)


def link(path: str, **parameters: object) -> str:
    """Return an address of ours; parameters that are empty are left out."""
    given = {key: value for key, value in parameters.items() if value not in {None, "", False}}
    encoded = urlencode(given, errors="surrogatepass") if given else ""
    return f"{path}?{encoded}" if encoded else path


def clock(moment_s: float) -> str:
    """Return a moment's time of day here, with its day unless that is near."""
    local = datetime.fromtimestamp(moment_s).astimezone()
    is_near = abs(moment_s - time.time()) < _SAME_DAY_S
    return local.strftime("%H:%M" if is_near else "%a %d %b, %H:%M")


def event_time(event: Event) -> str:
    """Return when an event was, here."""
    local = datetime.fromtimestamp(int(event.id.partition("-")[0]) / 1000).astimezone()
    is_near = time.time() - local.timestamp() < _SAME_DAY_S
    return local.strftime("%H:%M:%S" if is_near else "%a %H:%M")


def stamp(moment_s: float) -> str:
    """Return a moment in full, as it is here."""
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def duration(seconds: float) -> str:
    """Return a duration for people, a long one without its minutes: `974 h`."""
    hours = round(seconds / 3600) if math.isfinite(seconds) else 0
    return f"{hours:,} h" if hours >= _MANY_HOURS else format_duration(seconds)


def number(value: float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"  # noqa: PLR2004


def _shown(value: Any) -> Any:
    """Return what is written for a value; what the templates' macros give is markup already."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return visible(value) if is_text else value
