"""Spans for OpenTelemetry, with the extra `otel`; without it, or unasked for, nothing is imported.

A program that has set up OpenTelemetry itself gets our spans in its own traces; ours export them if
`trace.exporter` says where to. Spans of a job hang on the `traceparent` that it was submitted with:
`submit`, then at its end `wait` (from submission to claim) and `job` (from claim to end) with `line`
(claimed, and not yet opened), `read and decode`, and `commit`. Reading and decoding of one recording
take turns with those of others: their own seconds are attributes of their span.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from producer.errors import InvalidSettings
from producer.installation import install_hint
from producer.settings import TraceSettings
from producer.traces import TraceParent

_NAME = "scribefarm"
_API = "opentelemetry.trace"
# What `configure_spans` has set up.
_ours: list[Any] = []

Attributes = Mapping[str, str | int | float | bool]


def configure_spans(settings: TraceSettings, service: str) -> None:
    """Export spans as `trace.exporter` says; with "none" import nothing.

    Raises:
        InvalidSettings: the packages are missing.
    """
    if settings.exporter == "none":
        return
    try:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        exporter = _exporter(settings.exporter)
    except ModuleNotFoundError as error:
        needed = f"needs packages; {install_hint('otel')}"
        raise InvalidSettings("trace.exporter", needed, error.name) from error
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _ours.append(provider)


def end_spans() -> None:
    """Export what is still to be exported, for some seconds at most; before a program's end."""
    while _ours:
        _ours.pop().shutdown()


@contextlib.contextmanager
def span(
    name: str, parent: TraceParent, attributes: Attributes | None = None
) -> Iterator[TraceParent]:
    """Record a span around a block; yield what its children hang on: the parent if nobody records."""
    tracer = _tracer()
    if tracer is None:
        yield parent
        return
    context = _context(parent)
    with tracer.start_as_current_span(
        name, context=context, attributes=dict(attributes or {})
    ) as own:
        yield _traceparent(own) or parent


def past_span(
    name: str,
    parent: TraceParent,
    begin_s: float,
    end_s: float,
    attributes: Attributes | None = None,
) -> TraceParent:
    """Record what is over, in seconds since the epoch; return what its children hang on."""
    tracer = _tracer()
    if tracer is None:
        return parent
    own = tracer.start_span(
        name,
        context=_context(parent),
        start_time=int(begin_s * 1e9),
        attributes=dict(attributes or {}),
    )
    own.end(end_time=int(max(begin_s, end_s) * 1e9))
    return _traceparent(own) or parent


def _tracer() -> Any:
    """Return OpenTelemetry's tracer if this program has loaded it; None otherwise."""
    api = sys.modules.get(_API)
    return None if api is None else api.get_tracer(_NAME)


def _context(parent: TraceParent) -> Any:
    api: Any = sys.modules[_API]
    remote = api.SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(int(parent.flags, 16)),
    )
    return api.set_span_in_context(api.NonRecordingSpan(remote))


def _traceparent(own: Any) -> TraceParent | None:
    found = own.get_span_context()
    if not found.is_valid:
        return None
    return TraceParent(
        f"{found.trace_id:032x}", f"{found.span_id:016x}", f"{found.trace_flags:02x}"
    )


def _exporter(name: str) -> Any:
    if name == "otlp":
        # Where to: OTEL_EXPORTER_OTLP_ENDPOINT and its like.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        return OTLPSpanExporter()
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

    return ConsoleSpanExporter(out=sys.stderr)
