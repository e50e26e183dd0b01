"""What the handlers of the HTTP front share, and what stands around each of them."""

import functools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import redis
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producer.errors import Internal, ScribefarmError, ServerUnreachable
from producer.settings import Settings
from producer.spans import span
from producer.traces import TRACEPARENT_FIELD, TraceParent
from producer.web.api.bodies import Body
from producer.web.api.errors import Refusal, error_answer
from producer.web.api.waiting import Waiters
from producer.web.web import web_of

# Batches whose lines are read or whose results are counted at the same time.
_WORKING_BATCHES = 4
# The status that nginx gives a client that has gone; nobody sees it but the log.
_CLIENT_GONE = 499

_log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Api:
    """What the handlers share.

    Attributes:
        connection: To the server; safe to use from many threads.
        settings: Of the farm.
        waiters: Requests that wait for results.
        threads: Where batches are worked on.
        allow_actions: Whether other people's jobs may be cancelled.
        at_work: Batches that a thread works on, or is about to.
    """

    connection: redis.Redis
    settings: Settings
    waiters: Waiters
    allow_actions: bool = False
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_WORKING_BATCHES, "batches")
    )
    at_work: set[str] = field(default_factory=set)

    def begin(self, batch_id: str, work: "Callable[[Api, str], None]") -> None:
        """Let a thread work on a batch, unless one is about to."""
        if batch_id in self.at_work:
            return
        self.at_work.add(batch_id)

        def run() -> None:
            try:
                work(self, batch_id)
            except Exception:  # noqa: BLE001 - the log has it, and another look tries again
                _log.exception("batch_failed", batch=batch_id)
            finally:
                self.at_work.discard(batch_id)

        self.threads.submit(run)

    def close(self) -> None:
        """End what goes on in threads; a batch in hand goes on when it is asked for again."""
        self.waiters.close()
        self.threads.shutdown(cancel_futures=True)


def close_api(app: Starlette) -> None:
    """End what an app's handlers have begun."""
    api: Api | None = getattr(app.state, "api", None)
    if api is not None:
        api.close()


def api_of(request: Request) -> Api:
    """Return what the handlers share, made by the first request."""
    state = request.app.state
    if not hasattr(state, "api"):
        web = web_of(request)
        waiters = Waiters(web.connection)
        state.api = Api(web.connection, web.settings, waiters, web.allow_actions)
    api: Api = state.api
    return api


def trace_of(request: Request) -> TraceParent:
    """Return the trace of a request: of its `traceparent` header, or one of its own."""
    trace: TraceParent = request.state.trace
    return trace


def answered(handler: Handler) -> Handler:
    """Return the handler with all its errors as answers, in a trace, with a line in the log."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        begun = time.perf_counter()
        asked = TraceParent.read(request.headers.get(TRACEPARENT_FIELD)) or TraceParent.new()
        path = request.scope["route"].path
        with (
            structlog.contextvars.bound_contextvars(trace_id=asked.trace_id),
            span(f"{request.method} {path}", asked) as request.state.trace,
        ):
            response = await _safely(handler, request)
            took_s = round(time.perf_counter() - begun, 3)
            _log.info(
                "http", method=request.method, path=path, status=int(response.status_code), s=took_s
            )
        response.headers["x-request-id"] = asked.trace_id
        return response

    return answer


async def _safely(handler: Handler, request: Request) -> Response:
    retry_after_s = api_of(request).settings.http.retry_after_s
    body = Body(request)
    try:
        return await handler(Request(request.scope, body.receive))
    except Refusal as refusal:
        refused = refusal
    except ScribefarmError as error:
        refused = Refusal(error)
    except redis.RedisError as error:
        refused = Refusal(ServerUnreachable("redis", "must do what we ask", type(error).__name__))
    except ClientDisconnect:
        return Response(status_code=_CLIENT_GONE)
    except Exception:  # noqa: BLE001 - a client gets an answer, and the log the rest
        _log.exception("http_failed")
        refused = Refusal(Internal("http", "a defect; the log has the traceback"))
    # Who fell silent sends nothing more.
    if refused.status != HTTPStatus.REQUEST_TIMEOUT:
        await body.drop()
    return error_answer(refused, retry_after_s)
