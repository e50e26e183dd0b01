"""The RQ worker apart from its jobs: registration, signals, commands over pubsub."""

import contextlib
import json
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import redis
import structlog
from redis.client import PubSub
from rq.worker import BaseWorker

PUBSUB_RETRY_S = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


class ForcedExit(BaseException):
    """A second SIGTERM or SIGINT arrived: exit without waiting for anything."""


class DrainableWorker(BaseWorker):
    """A worker that keeps signals and RQ's commands until its loop asks for them."""

    drain_asked: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what RQ's worker takes."""
        self._stop_requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        super().__init__(*args, **kwargs)

    def drain(self) -> None:
        """Ask the loop to claim no more, finish what fits in the grace period, and end."""
        self.drain_asked = True

    def stop_requests(self) -> list[str]:
        """Return the job and execution ids that stop commands named since the last call."""
        asked = []
        with contextlib.suppress(queue.Empty):
            while True:
                asked.append(self._stop_requests.get_nowait())
        return asked

    @contextlib.contextmanager
    def registered(self, **facts: Any) -> Iterator[None]:
        """Register with RQ and receive its commands and the signals; undo it at the end.

        Args:
            facts: Fields of the log line that announces the worker.

        Raises:
            ForcedExit: in the block, when a second signal comes.
        """
        # First of all: a signal that came before would leave the registration behind.
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {each: signal.signal(each, self._on_signal) for each in SIGNALS}
        try:
            # First: who sees it alive may ask it to drain, and nobody repeats a command.
            self.subscribe()  # type: ignore[no-untyped-call]
            self.register_birth()  # type: ignore[no-untyped-call]
            _log.info("worker_started", worker=self.name, queues=self.queue_names(), **facts)
            yield
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)
            with contextlib.suppress(redis.RedisError):
                self.teardown()  # type: ignore[no-untyped-call]
            _log.info("worker_stopped", worker=self.name)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Only a flag is set here: a handler may not log, nor talk to the server."""
        if self.drain_asked:
            raise ForcedExit
        self.drain()

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """Keep the socket timeout: RQ would raise it to minutes, longer than a lease."""
        return connection

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Take a command of RQ's from the pubsub thread; anything malformed is ignored."""
        try:
            payload = json.loads(message["data"])
            command = payload["command"]
        except (ValueError, TypeError, KeyError):
            _log.warning("command_malformed")
            return
        if command == "shutdown":
            self.drain()
        elif command == "stop-job":
            self._stop_requests.put(str(payload.get("job_id")))
        elif command == "stop-execution":
            self._stop_requests.put(str(payload.get("execution_id")))
        else:
            _log.warning("command_unknown", command=str(command)[:40])

    def unsubscribe(self) -> None:
        """Receive no more commands.

        RQ unsubscribes before it stops its thread, which then sleeps for a minute.
        """
        if self.pubsub_thread is not None:
            self.pubsub_thread.stop()
            self.pubsub.unsubscribe()
            self.pubsub_thread.join(timeout=1)
            self.pubsub.close()

    def _pubsub_exception_handler(
        self, exc: Exception, pubsub: PubSub, pubsub_thread: threading.Thread
    ) -> None:
        """Wait and listen again; the main loop logs the outage."""
        del pubsub, pubsub_thread
        # ValueError: a forced exit closed the connection while this thread read from it.
        if not isinstance(exc, redis.RedisError | OSError | ValueError):
            _log.warning("command_failed", error=str(exc))
        time.sleep(PUBSUB_RETRY_S)
