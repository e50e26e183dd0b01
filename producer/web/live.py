"""Live pages: one reader a process looks at the farm, and all browsers get what changed.

A page's parts that change have ids. While anybody looks, the reader renders the parts of each page
that is open every two seconds, and sends those that differ from the last time, as server-sent
events: `{"id of a part": "its HTML"}`. Nobody looks: nothing is read but the events.
"""

import asyncio
import contextlib
import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import redis
from markupsafe import escape
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from producer.connection import server_errors
from producer.console import one_line
from producer.errors import ScribefarmError, Unreadable
from producer.events import Event, last_event_id, read_entries
from producer.keys import EVENTS_KEY
from producer.settings import Settings
from producer.web.indexer import Indexer, run_step
from producer.web.snapshot import BatchView, FarmView, Reader

TICK_S = 2.0
# A browser that is gone is noticed when it is written to.
_KEEP_ALIVE_S = 15.0
_MAX_LISTENERS = 200
# Events at one look, and those that are remembered for "what happened last".
_MAX_EVENTS = 1000
_NUM_REMEMBERED = 500
# Samples of each worker's speed: an hour of one every half minute.
_NUM_SAMPLES, _SAMPLE_EVERY_S = 120, 30.0
_MAX_WORKERS = 2000

Parts = dict[str, str]
Render = Callable[["Topic", FarmView], Parts]
_log = logging.getLogger(__name__)


class Topic(NamedTuple):
    """What a page is about: `farm`, `batch`, `workers` or `worker`, and of which name."""

    kind: str
    name: str = ""


class Listener:
    """One open page: what it has not been sent yet."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._loop = asyncio.get_running_loop()
        self._pending: Parts = {}
        self._is_news = asyncio.Event()
        self._lock = threading.Lock()

    def send(self, parts: Parts) -> None:
        """Hand over parts, from any thread; of an old one and a new one the new one is sent."""
        with self._lock:
            self._pending.update(parts)
        # The loop may be closing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._is_news.set)

    async def receive(self, timeout_s: float) -> Parts:
        """Return the parts that have come; none after the time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_news.wait(), timeout_s)
        with self._lock:
            parts, self._pending = self._pending, {}
            self._is_news.clear()
        return parts


class Feed:
    """The thread that looks at the farm."""

    def __init__(
        self, connection: redis.Redis, settings: Settings, indexer: Indexer, render: Render
    ) -> None:
        self._connection, self._indexer, self._render = connection, indexer, render
        self._reader = Reader(connection, settings)
        self._listeners: set[Listener] = set()
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._sent: dict[Topic, Parts] = {}
        self._view: tuple[float, FarmView] | None = None
        self._watched: frozenset[str] = frozenset()
        self.events: deque[Event] = deque(maxlen=_NUM_REMEMBERED)
        self._last_id: str | None = None
        self.samples: dict[str, deque[tuple[float, float, int]]] = {}
        self._sampled_at = 0.0

    # Pages

    def view(self, watched: str | None = None) -> FarmView:
        """Return the farm as it was at most a tick ago, with a batch that somebody asks for.

        Raises:
            ServerUnreachable: no server answers.
        """
        with self._reading:
            read_at, view = self._view or (-math.inf, None)
            if view is None or time.monotonic() - read_at > TICK_S:
                view = self._read(self._watched)
            if watched is None or view.batch(watched):
                return view
            batch = self._reader.batch(watched, view.files)
            return view._replace(batches=(*view.batches, batch)) if batch else view

    def look_anew(self) -> None:
        """Let the next page look at the farm: somebody has just changed it."""
        with self._reading:
            self._view = None

    def batch(self, name: str) -> BatchView | None:
        """Return a batch that no page watches; None if the server does not know it."""
        return self._reader.batch(name)

    def _read(self, watched: frozenset[str]) -> FarmView:
        view = self._reader.read(watched)
        self._view = (time.monotonic(), view)
        self._sample(view)
        return view

    def _sample(self, view: FarmView) -> None:
        """Remember how fast each worker is, for its page."""
        if view.now_s - self._sampled_at < _SAMPLE_EVERY_S:
            return
        self._sampled_at = view.now_s
        for worker in view.workers[:_MAX_WORKERS]:
            samples = self.samples.setdefault(worker.name, deque(maxlen=_NUM_SAMPLES))
            samples.append((view.now_s, speed_of(worker), worker.in_flight))
        oldest_s = view.now_s - _NUM_SAMPLES * _SAMPLE_EVERY_S
        for name in [name for name, kept in self.samples.items() if kept[-1][0] < oldest_s]:
            del self.samples[name]

    # Browsers

    def listen(self, topic: Topic) -> Listener | None:
        """Return a new listener; None if there are too many."""
        with self._lock:
            if len(self._listeners) >= _MAX_LISTENERS:
                return None
            listener = Listener(topic)
            self._listeners.add(listener)
            if topic in self._sent:
                listener.send(self._sent[topic])
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        with self._lock:
            self._listeners.discard(listener)

    # The thread

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name="web-feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; open pages end with the server."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    @property
    def is_stopping(self) -> bool:
        """Whether open pages should be let go."""
        return self._stopping.is_set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._tick()
            except (ScribefarmError, redis.RedisError) as error:
                self._tell_all({"notice": f'<p class="notice bad">{_unreachable(error)}</p>'})
            except Exception:  # noqa: BLE001 - a defect in one look must not end all looks
                _log.exception("web_feed_failed")
            # What is left of the tick is the index's.
            while not self._stopping.is_set() and time.monotonic() - began < TICK_S:
                if not run_step(self._indexer):
                    self._stopping.wait(min(0.1, TICK_S))

    def _tick(self) -> None:
        events = self._new_events()
        self.events.extend(events)
        self._indexer.follow(events)
        with self._lock:
            topics = {listener.topic for listener in self._listeners}
        if not topics:
            self._sent, self._watched = {}, frozenset()
            return
        self._watched = frozenset(topic.name for topic in topics if topic.kind == "batch")
        with self._reading:
            view = self._read(self._watched)
        for topic in topics:
            self._publish(topic, {"notice": "", **self._render(topic, view)})

    def _publish(self, topic: Topic, parts: Parts) -> None:
        before = self._sent.get(topic, {})
        changed = {name: html for name, html in parts.items() if before.get(name) != html}
        with self._lock:
            self._sent[topic] = parts
            for listener in self._listeners if changed else ():
                if listener.topic == topic:
                    listener.send(changed)

    def _tell_all(self, parts: Parts) -> None:
        with self._lock:
            self._sent = {}
            for listener in self._listeners:
                listener.send(parts)

    def _new_events(self) -> list[Event]:
        if self._last_id is None:
            self._last_id = last_event_id(self._connection)
            return self._recent()
        entries = read_entries(self._connection, self._last_id, _MAX_EVENTS)
        if entries:
            self._last_id = entries[-1][0].decode()
        return list(_parsed(entries))

    def _recent(self) -> list[Event]:
        """Return the last events before we came."""
        with server_errors(self._connection):
            entries = self._connection.xrevrange(EVENTS_KEY, count=_NUM_REMEMBERED)
        return list(_parsed(reversed(entries)))  # type: ignore[arg-type]


def speed_of(worker: object) -> float:
    """Return the seconds of audio that a worker does in a second, as it says itself."""
    return float(getattr(worker, "audio_s_per_s", None) or 0.0)


async def stream(request: Request, feed: Feed, topic: Topic) -> Response:
    """Answer with the parts of a page as they change, until the browser goes."""
    listener = feed.listen(topic)
    if listener is None:
        return PlainTextResponse("Too many pages are open.\n", 503, {"Retry-After": "30"})

    async def messages() -> AsyncIterator[str]:
        try:
            yield "retry: 2000\n\n"
            silent_s = 0.0
            while not feed.is_stopping and not await request.is_disconnected():
                parts = await listener.receive(TICK_S)
                silent_s = 0.0 if parts else silent_s + TICK_S
                if parts:
                    yield f"data: {json.dumps(parts)}\n\n"
                elif silent_s > _KEEP_ALIVE_S:
                    silent_s = 0.0
                    yield ": still here\n\n"
        finally:
            feed.leave(listener)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages(), media_type="text/event-stream", headers=headers)


def _parsed(entries: object) -> list[Event]:
    events = []
    for entry_id, fields in entries:  # type: ignore[attr-defined]
        with contextlib.suppress(Unreadable):
            events.append(Event.from_entry(entry_id, fields))
    return events


def _unreachable(error: Exception) -> str:
    return str(escape(one_line(f"The server does not answer, so this stands still: {error}")))
