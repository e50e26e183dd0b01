"""`/events`: the farm's events as they come, as server-sent events.

A client that comes back with `Last-Event-ID` misses none that the stream still has.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producer.errors import InvalidOptions, QueueFull, ScribefarmError, Unreadable
from producer.events import ALL_KINDS, ENDS, Entries, Event, last_event_id, read_entries
from producer.web.api.errors import Refusal
from producer.web.api.paging import read_query
from producer.web.api.state import Api, api_of

_ID = r"[0-9]{1,20}(-[0-9]{1,20})?"
_PAGE = 500
# A proxy gives up a connection on which nothing comes.
BEAT_S = 15.0
_MAX_FOLLOWERS = 200


class EventsQuery(BaseModel):
    """Which events are asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Annotated[str, Field(pattern=f"^{_ID}$")] | None = Field(
        None, description="Id of the last event that is known; by default only news come."
    )
    all: bool = Field(False, description="Not only ends: also what workers lose and take over.")
    batch: str | None = Field(None, description="Only of jobs that this batch asked for first.")


async def follow_events(request: Request) -> Response:
    """Send events as they come, without end."""
    api, query = api_of(request), read_query(request, EventsQuery)
    after = request.headers.get("last-event-id") or query.after
    if after is not None:
        query = _checked(query, after)
    else:
        newest = await asyncio.to_thread(last_event_id, api.connection)
        query = query.model_copy(update={"after": newest})
    if api.waiters.num_following >= _MAX_FOLLOWERS:
        raise QueueFull("http", f"at most {_MAX_FOLLOWERS} may follow", api.waiters.num_following)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(api, query), media_type="text/event-stream", headers=headers)


def _checked(query: EventsQuery, after: str) -> EventsQuery:
    try:
        return EventsQuery.model_validate(query.model_dump() | {"after": after})
    except ValueError as error:
        must = "must be an event's id, like 1763867000000-0"
        raise Refusal(InvalidOptions("request: after", must), param="after") from error


async def _stream(api: Api, query: EventsQuery) -> AsyncIterator[str]:
    after = query.after or "0-0"
    yield ": scribefarm\n\n"
    async with api.waiters.news() as news:
        while True:
            news.clear()
            entries = await _entries(api, after)
            if entries:
                after = entries[-1][0].decode()
                if text := "".join(_texts(entries, query)):
                    yield text
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), BEAT_S)
            if not news.is_set():
                yield ": \n\n"


async def _entries(api: Api, after: str) -> Entries:
    try:
        return await asyncio.to_thread(read_entries, api.connection, after, _PAGE)
    except ScribefarmError:
        # The server is away for a moment; the client need not know.
        await asyncio.sleep(1.0)
        return []


def _texts(entries: Entries, query: EventsQuery) -> list[str]:
    texts = []
    for entry_id, fields in entries:
        try:
            event = Event.from_entry(entry_id, fields)
        except Unreadable:
            continue
        if event.kind in (ALL_KINDS if query.all else ENDS) and query.batch in {None, event.batch}:
            texts.append(f"id: {event.id}\nevent: {event.kind}\ndata: {event.to_json()}\n\n")
    return texts
