"""The engine: recordings in, transcripts out, many at once over one pinned model.

One thread owns the device and runs this loop; audio is read in threads of its own, a few blocks
ahead, and host work of a transcription runs in one more. No tensor is touched here, and no Redis.

```
loop:   receive -> new recordings and blocks of audio (worker/engine/intake.py), results of host
                   work, cancellations
        turn    -> the schedule gives the device its next work (worker/engine/schedule.py)
```
"""

import gc
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

import structlog

from producer.errors import Internal, ScribefarmError
from producer.result import Model
from producer.settings import Settings
from worker.audio.reading_threads import ReadingThreads
from worker.engine.family import Family
from worker.engine.intake import Fetch, Intake
from worker.engine.memory_plan import MemoryPlan
from worker.engine.messages import EngineFigures, Event, Ticket
from worker.engine.requests import Compute
from worker.engine.schedule import Schedule
from worker.engine.stats import EngineStats
from worker.engine.track import Track

# How long a thread may keep Python's lock from another. The engine's thread gives it back at every call
# of MLX: a neighbour that works 40 % of the time made 1.8 ms of its work 3.1 with Python's own 5 ms, and
# 2.5 to 2.8 with 0.2 to 1 ms (two cores).
LOCK_TURN_S = 0.0005
IDLE_S = 1.0  # an idle engine looks for work at once when called; this bounds a missed wake-up

_log = structlog.get_logger()


class BatchEngine:
    """Drives many transcriptions over one device: a `worker.engine.messages.Engine`.

    Args:
        settings: Caps, threads and memory.
        load: Loads and pins the model, in the engine's own thread: only that thread may use it.
        fetch: Returns a descriptor of the bytes of a job whose source is no file here; called in a
            reading thread with the job and a sign of life. Without it such jobs are refused.

    Raises:
        ScribefarmError: what `load` raised.
    """

    def __init__(
        self, settings: Settings, load: Callable[[Settings], Family], fetch: Fetch | None = None
    ) -> None:
        sys.setswitchinterval(LOCK_TURN_S)
        self.stats = EngineStats()
        self._settings, self._fetch = settings, fetch
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._is_stopping = False
        self._broken: ScribefarmError | None = None
        audio = settings.audio
        self._readers = ReadingThreads(
            audio.processes or audio.threads,
            audio.read_timeout_s,
            in_processes=audio.processes > 0,
            log_settings=settings.log,
        )
        self._host_thread = ThreadPoolExecutor(1, "host")
        self._can_read = True
        self._is_loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load,), name="engine", daemon=True)
        self._thread.start()
        self._is_loaded.wait()
        if self._broken is not None:
            raise self._broken
        # One batch gathers, one is under way, and one has slots to wait for.
        self.capacity = self.plan.slots + 3 * self.plan.batch_size

    # Called from any thread.

    @property
    def model(self) -> Model:
        """The pinned model."""
        return self._family.model

    @property
    def plan(self) -> MemoryPlan:
        """How much is computed at once, and why."""
        return self._family.plan

    @property
    def figures(self) -> EngineFigures:
        """What the engine is, and what it has done so far."""
        family, stats = self._family, self.stats
        has_rows = family.stepper is not None
        return EngineFigures(
            family=family.name,
            slots=family.plan.slots if has_rows else family.plan.batch_size,
            steps=stats.steps if has_rows else stats.batches,
            row_steps=stats.row_steps if has_rows else stats.batched_requests,
            step_s=stats.step.total_s if has_rows else stats.batch.total_s + stats.reply.total_s,
            memory_bytes=family.peak_memory_bytes(),
            memory_limit_bytes=family.plan.limit_bytes,
        )

    @property
    def num_lost_threads(self) -> int:
        """Reading threads that hang in a disk or share at the moment."""
        return self._readers.num_lost

    @property
    def can_read(self) -> bool:
        """Whether more recordings should come; False while too many reading threads are lost."""
        return self._can_read

    def submit(self, ticket: Ticket) -> None:
        """Take a recording; its `Done` or `Failed` follows in `poll`, exactly once."""
        self._inbox.put(lambda: self._intake.admit(ticket))

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        """Drop a recording; it ends as `Failed(error)` unless it was done already."""
        self._inbox.put(partial(self._cancel, execution_id, error))

    def poll(self, timeout_s: float) -> list[Event]:
        """Return what happened since the last call; wait up to `timeout_s` for the first event.

        Raises:
            ScribefarmError: the engine is broken and takes no more work.
        """
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        if not events and self._broken is not None:
            raise self._broken
        return events

    def stop(self) -> None:
        """Give up all work, without events, and end the engine's threads."""
        self._is_stopping = True
        self._inbox.put(lambda: None)
        self._thread.join()

    # Everything below runs in the engine's thread, unless it says otherwise.

    def _run(self, load: Callable[[Settings], Family]) -> None:
        try:
            self._family = load(self._settings)
            self._schedule = Schedule(
                self._family, self._events.put, self._compute_beside, self.stats
            )
            self._intake = Intake(
                self._settings,
                self._family,
                self._schedule,
                read=self._readers.submit,
                emit=self._events.put,
                post=self._inbox.put,
                fetch=self._fetch,
            )
            gc.freeze()  # the model and the modules stay: no need to look at them again and again
            self._is_loaded.set()
            with closing(self._schedule):
                while not self._is_stopping:
                    self._receive()
                    self._look_after_readers()
                    self._schedule.turn()
        except ScribefarmError as error:
            self._broken = error
        except Exception as error:  # noqa: BLE001 the farm must hear of it
            _log.exception("engine broken")
            self._broken = Internal("engine", "must not fail", repr(error))
        finally:
            self._readers.stop()
            self._host_thread.shutdown(wait=False, cancel_futures=True)
            self._is_loaded.set()

    def _look_after_readers(self) -> None:
        """End readings that hang, and only then say that too many do: the farm hears it in order."""
        self._readers.look_after()
        if self._readers.is_able is not self._can_read:
            self._inbox.put(partial(setattr, self, "_can_read", self._readers.is_able))

    def _receive(self) -> None:
        """Do what other threads asked for; wait for it only if there is nothing else to do.

        Stops after `Schedule.receiving_s`.
        """
        try:
            message = self._first_message()
            with self.stats.receive:
                until = time.perf_counter() + self._schedule.receiving_s
                message()
                while time.perf_counter() < until:
                    self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _first_message(self) -> Callable[[], None]:
        if not self._schedule.is_idle:
            return self._inbox.get_nowait()
        with self.stats.idle:
            return self._inbox.get(timeout=IDLE_S)

    def _cancel(self, execution_id: str, error: ScribefarmError) -> None:
        track = self._schedule.tracks.get(execution_id)
        if track is not None:
            self._schedule.fail(track, error)

    def _compute_beside(self, track: Track, request: Compute[Any]) -> None:
        """Hand a transcription's host work to its thread."""
        self._host_thread.submit(self._compute, track, request)

    def _compute(self, track: Track, request: Compute[Any]) -> None:
        """Do a transcription's host work; runs in the host thread."""
        try:
            result = request.run()
        except ScribefarmError as error:
            self._inbox.put(partial(self._schedule.fail, track, error))
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("computation failed", **track.ticket.named())
            failed = Internal("transcription", "must not fail", repr(error))
            self._inbox.put(partial(self._schedule.fail, track, failed))
        else:
            self._inbox.put(partial(self._schedule.advance, track, result))
