"""What all handlers of the app share, made once a process."""

from dataclasses import dataclass

import redis
from starlette.requests import Request

from producer.settings import Settings
from producer.web.access import Access
from producer.web.audio import Recordings
from producer.web.index import Index
from producer.web.indexer import Indexer
from producer.web.live import Feed


@dataclass(frozen=True)
class Web:
    """What the handlers share.

    Attributes:
        connection: To the server; safe to use from many threads.
        settings: Of the farm.
        access: Who is let in.
        allow_actions: Whether anything on the page may change the farm.
        index, indexer: Files and texts of batches that are looked at, and what fills it.
        feed: What is read of the farm for all browsers.
        recordings: Which files are played.
    """

    connection: redis.Redis
    settings: Settings
    access: Access
    allow_actions: bool
    index: Index
    indexer: Indexer
    feed: Feed
    recordings: Recordings


def web_of(request: Request) -> Web:
    """Return what the app's handlers share."""
    web: Web = request.app.state.web
    return web
