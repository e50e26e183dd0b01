"""A batch's report as one HTML file: it loads nothing, runs nothing, and prints well.

Every value is made one visible line and escaped; links lead to local recordings alone.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.batches.markdown import MAX_ROWS
from producer.batches.playing import passage_time, play_command, play_link
from producer.batches.report import Report
from producer.batches.summary import next_steps, stamp, state_line, summary_rows
from producer.console import format_duration, one_line

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = Path(__file__).with_name("report.html.j2")
# Of one recording, so that the next is seen too.
_MAX_SEGMENTS = 10


def to_html(report: Report, max_rows: int | None = MAX_ROWS) -> str:
    """Return the report as an HTML document; `max_rows` bounds each list, None does not."""
    return _template().render(
        report=report,
        state=state_line(report),
        rows=list(summary_rows(report)),
        steps=next_steps(report, has_page=True),
        max_rows=max_rows,
        max_segments=_MAX_SEGMENTS if max_rows else None,
    )


@cache
def _template() -> "Template":
    # Slow to import, and only a page needs it.
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=format_duration, stamp=stamp, time=passage_time)
    environment.globals.update(play_command=play_command, play_link=play_link)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _shown(value: Any) -> Any:
    """Return what is written for a value; what the template's macros give is markup already."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return one_line(value) if is_text else value
