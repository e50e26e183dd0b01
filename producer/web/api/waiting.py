"""Let many requests wait for results: one thread reads the events and wakes those whose job ended.

A request that waits costs no thread. The thread ends when nobody waits any more.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable

import redis

from producer.errors import ScribefarmError
from producer.events import last_event_id, read_entries
from producer.result import Failure, Transcript
from producer.stored_fields import stored_text
from producer.waiting import RECHECK_S, wait_for_results

# Entries read at once.
_PAGE = 1000
# The thread stays this long when nobody waits: the next request is often near.
_LINGER_S = 10.0
# Pause after the server did not answer; who waits looks for its result itself.
_OUTAGE_PAUSE_S = 1.0
# One reading of the events: `close` waits as long.
_BLOCK_S = 0.5
_JOIN_S = 5.0
# Who follows all that happens; no job has such an id.
_ANY_JOB = ""


class Waiters:
    """Wakes coroutines when jobs end; all methods but the thread's own are the event loop's."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._by_job: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._reads = threading.Event()
        self._is_closed = False

    async def wait(
        self,
        job_id: str,
        timeout_s: float,
        on_look: Callable[[], None] | None = None,
    ) -> Transcript | Failure | None:
        """Return a job's outcome as it comes; None when the time is out.

        `on_look` is called, in a thread, whenever there was none for `RECHECK_S`; what it raises
        ends the wait.
        """
        deadline = time.monotonic() + timeout_s
        async with self._registered(job_id) as woken:
            while True:
                woken.clear()
                outcome = await asyncio.to_thread(self._outcome, job_id)
                left_s = deadline - time.monotonic()
                if outcome is not None or left_s <= 0:
                    return outcome
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), min(RECHECK_S, left_s))
                if on_look is not None and not woken.is_set():
                    await asyncio.to_thread(on_look)

    @contextlib.asynccontextmanager
    async def news(self) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set whenever the farm has news; the receiver clears it."""
        async with self._registered(_ANY_JOB) as woken:
            yield woken

    def close(self) -> None:
        """End the thread; it may be at the server for a moment."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    @property
    def num_following(self) -> int:
        """Return how many receivers of `news` there are."""
        return len(self._by_job.get(_ANY_JOB, ()))

    @contextlib.asynccontextmanager
    async def _registered(self, job_id: str) -> AsyncIterator[asyncio.Event]:
        woken = asyncio.Event()
        self._by_job.setdefault(job_id, set()).add(woken)
        try:
            self._follow()
            # What ends from here on is noticed.
            await asyncio.to_thread(self._reads.wait, _JOIN_S)
            yield woken
        finally:
            self._by_job[job_id].discard(woken)
            if not self._by_job[job_id]:
                del self._by_job[job_id]

    def _outcome(self, job_id: str) -> Transcript | Failure | None:
        return next(wait_for_results(self._connection, [job_id], 0), None)

    def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._thread is None or not self._thread.is_alive():
            self._reads.clear()
            self._thread = threading.Thread(target=self._read, name="events", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        after, leave_at = "", time.monotonic() + _LINGER_S
        while time.monotonic() < leave_at and not self._is_closed:
            if self._by_job:
                leave_at = time.monotonic() + _LINGER_S
            try:
                after = after or last_event_id(self._connection)
                self._reads.set()
                entries = read_entries(self._connection, after, _PAGE, _BLOCK_S)
            except (ScribefarmError, redis.RedisError):
                time.sleep(_OUTAGE_PAUSE_S)
                continue
            if entries:
                after = entries[-1][0].decode()
                named = {stored_text(fields.get(b"job_id")) for _, fields in entries}
                self._tell(named)

    def _tell(self, job_ids: set[str]) -> None:
        loop = self._loop
        # The loop may have ended with the program.
        with contextlib.suppress(RuntimeError):
            if loop is not None:
                loop.call_soon_threadsafe(self._wake, job_ids)

    def _wake(self, job_ids: set[str]) -> None:
        for job_id in (job_ids | {_ANY_JOB}) & self._by_job.keys():
            for woken in self._by_job[job_id]:
                woken.set()
