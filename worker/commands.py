"""RQ's side of the worker that is not about jobs: its commands, its connection."""

import json
import queue
import threading
import time
from typing import Any

import redis
import structlog
from redis.client import PubSub
from rq.worker import BaseWorker

PUBSUB_RETRY_S = 2.0

_log = structlog.get_logger()


class CommandedWorker(BaseWorker):
    """A worker that only notes RQ's commands, which come in a thread of their own."""

    drain_asked: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what RQ's worker takes."""
        self._stop_requests: queue.SimpleQueue[str] = queue.SimpleQueue()
        super().__init__(*args, **kwargs)

    def drain(self) -> None:
        """Ask the loop to claim no more, finish what fits in the grace period, and end."""
        self.drain_asked = True

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """Keep the socket timeout: RQ would raise it to minutes, beyond any lease."""
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
        """Hear no more commands. RQ stops its thread last, which then sleeps on for a minute."""
        if self.pubsub_thread is not None:
            self.pubsub_thread.stop()
            self.pubsub.unsubscribe()
            self.pubsub_thread.join(timeout=1)
            self.pubsub.close()

    def _pubsub_exception_handler(
        self, exc: Exception, pubsub: PubSub, pubsub_thread: threading.Thread
    ) -> None:
        """Wait and listen again; the main loop says that the server is away."""
        del pubsub, pubsub_thread
        if not isinstance(exc, redis.RedisError | OSError):
            _log.warning("command_failed", error=str(exc))
        time.sleep(PUBSUB_RETRY_S)
