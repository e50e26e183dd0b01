"""The ASGI app: its routes, and what they share.

A program of another kind adds its own routes to `ROUTES` of a module of its own and names it in
`create_app`; what all handlers share is in `request.app.state.web`, a `Web`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request

from producer.settings import Settings
from producer.web.access import Access, AccessMiddleware
from producer.web.api.routes import routes
from producer.web.api.state import close_api


@dataclass(frozen=True)
class Web:
    """What the handlers share.

    Attributes:
        connection: To the server; safe to use from many threads.
        settings: Of the farm.
        access: Who is let in.
        allow_actions: Whether anything on the page may change the farm.
    """

    connection: redis.Redis
    settings: Settings
    access: Access
    allow_actions: bool = False


def web_of(request: Request) -> Web:
    """Return what the app's handlers share."""
    web: Web = request.app.state.web
    return web


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
    """
    web = Web(connection, settings, access or Access(), allow_actions)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(close_api, app)

    middleware = [Middleware(AccessMiddleware, access=web.access)]
    app = Starlette(routes=routes(), middleware=middleware, lifespan=lifespan)
    app.state.web = web
    return app
