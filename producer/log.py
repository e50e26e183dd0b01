"""Log lines of both programs: structlog on stderr, JSON for machines, columns for people."""

import io
import logging
import sys
from typing import TYPE_CHECKING, TextIO

import structlog

from producer.console import one_line, visible
from producer.masking import mask_urls
from producer.settings import LogSettings

if TYPE_CHECKING:
    from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger


def configure(settings: LogSettings) -> None:
    """Send all log lines to stderr; stdout belongs to results.

    URLs are without their secrets, and no value can move a terminal's cursor or forge a line.
    `log.format` "auto" writes JSON unless stderr is a terminal.
    """
    wants_json = settings.format == "json" or (
        settings.format == "auto" and not sys.stderr.isatty()
    )
    # Local variables stay out of tracebacks: they are long, and some are nobody's business.
    renderer: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ]
        if wants_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_visible_traceback
            )
        ]
    )
    level = getattr(logging, settings.level.upper())
    structlog.configure(
        processors=[
            # The trace of the job at hand.
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _harmless,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # One write a line: lines of several workers in one file do not run into each other. It goes to
        # what stderr is then: who ran a command within another program has taken its own away.
        logger_factory=lambda *_names: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # RQ reports through logging what the farm worker says itself.
    logging.getLogger("rq").setLevel(logging.WARNING)


def _harmless(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
    return {
        key: one_line(mask_urls(value)) if isinstance(value, str) else value
        for key, value in event.items()
    }


def _visible_traceback(out: TextIO, error: "ExcInfo") -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write(visible(text.getvalue()))
