"""The ASGI app: its routes, what its handlers share, and what becomes of an error.

A set of routes of another kind is a list in a module of its own, named in `create_app`; what all
handlers share is a `producer.web.web.Web`, which `web_of(request)` gives.
"""

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import redis
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from producer.cache_folder import cache_folder
from producer.connection import server_name
from producer.errors import OutputFailed, ScribefarmError, ServerUnreachable, advice_for
from producer.http_status import http_status
from producer.settings import Settings
from producer.web import pages
from producer.web.access import Access, AccessMiddleware, is_for_programs, problem_as_json
from producer.web.api.routes import routes
from producer.web.api.state import close_api
from producer.web.audio import Recordings
from producer.web.index import Index
from producer.web.indexer import Indexer
from producer.web.live import Feed
from producer.web.parts import render_parts
from producer.web.rendering import load_templates, render
from producer.web.web import Web


def create_app(
    connection: redis.Redis,
    settings: Settings,
    *,
    access: Access | None = None,
    allow_actions: bool = False,
) -> Starlette:
    """Return the app, an ASGI application.

    Args:
        connection: To the server.
        settings: Of the farm.
        access: Who is let in; by default everybody who reaches us by an address or as localhost.
        allow_actions: Whether the page may retry, cancel, pause, resume and drain.

    Raises:
        OutputFailed: the folder of the index cannot be written.
    """
    load_templates()
    web = make_web(connection, settings, access or Access(), allow_actions=allow_actions)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        web.feed.start()
        yield
        web.feed.stop()
        await run_in_threadpool(close_api, app)

    app = Starlette(
        routes=[*pages.ROUTES, *routes()],
        middleware=[Middleware(AccessMiddleware, access=web.access)],
        exception_handlers={
            HTTPException: _http_error,
            ScribefarmError: _our_error,
            redis.RedisError: _server_error,
        },
        lifespan=lifespan,
    )
    app.state.web = web
    return app


def make_web(
    connection: redis.Redis, settings: Settings, access: Access, *, allow_actions: bool
) -> Web:
    """Return what the handlers share.

    Raises:
        OutputFailed: the folder of the index cannot be written.
    """
    folder = settings.web.index_dir or cache_folder() / "web"
    server = hashlib.sha256(server_name(connection).encode()).hexdigest()[:16]
    try:
        index = Index(Path(folder) / f"index-{server}.sqlite")
    except (OSError, sqlite3.Error) as error:
        raise OutputFailed("web.index_dir", f"must be writable: {error}", folder) from error
    indexer = Indexer(connection, index, settings.web.max_index_bytes)
    return Web(
        connection=connection,
        settings=settings,
        access=access,
        allow_actions=allow_actions,
        index=index,
        indexer=indexer,
        feed=Feed(connection, settings, indexer, render_parts),
        recordings=Recordings(settings),
    )


def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = error.detail if isinstance(error, HTTPException) else ""
    if is_for_programs(request):
        return problem_as_json(HTTPStatus(status), text)
    return render("error.html.j2", status, title=HTTPStatus(status).phrase, text=text, advice="")


def _our_error(_: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, ScribefarmError) else "internal"
    status, advice = http_status(code), advice_for(code)
    return render("error.html.j2", status, title=status.phrase, text=str(error), advice=advice)


def _server_error(request: Request, error: Exception) -> Response:
    return _our_error(request, ServerUnreachable("redis", "must do what we ask", error))
