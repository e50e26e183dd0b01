"""A worker process for one command: started when no worker is alive, stopped with the command."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import redis

from producer.console import format_bytes
from producer.errors import InvalidSettings, NoWorker
from producer.model_names import KNOWN_MODELS, is_path, short_names
from producer.pending import PendingJobs
from producer.settings import Settings
from producer.settings_sources import variable_of
from producer.worker_watch import WorkerWatch

# A worker drains on SIGTERM; a second one ends it at once. It is idle when we are done, so only
# an interrupted command comes to the second.
DRAIN_TIMEOUT_S = 5.0
# A worker that ended well while our jobs wait (another one's lease runs) is started again then.
RESTART_DELAY_S = 5.0
# A model that takes longer than this to load is most likely being downloaded.
SLOW_LOAD_S = 10.0

# What `worker.__main__` logs before and after, within the first lines.
_LOADING, _LOADED = b'"model_loading"', b'"model_pinned"'
_LOG_HEAD_BYTES = 100_000


class LocalWorker:
    """`scribefarm-worker run --burst` as a child process with these very settings.

    Its log goes to a file that is read if it dies. With `--burst` it ends when the queue is empty,
    so a worker whose command was killed finishes what is queued and ends.
    """

    def __init__(self, settings: Settings) -> None:
        """Start it.

        Raises:
            InvalidSettings: the model is a path, and nothing is there.
        """
        check_folder(settings.model.name)
        self._environment = {
            **os.environ,
            **settings.to_environment(),
            # For `waits_for`, whatever the user's own logs look like.
            variable_of("log.level"): "info",
            variable_of("log.format"): "json",
        }
        self._model = settings.model.name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._restart_at = 0.0
        self._started_at = 0.0
        self._log_start = 0
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def check(self, pending: PendingJobs) -> None:
        """Make sure that somebody works on the pending jobs.

        Raises:
            NoWorker: the worker died; the message has the last line of its log.
        """
        code = self._process.poll()
        if code is None:
            self._restart_at = time.monotonic() + RESTART_DELAY_S
        elif code != 0:
            raise NoWorker(
                "worker",
                f"must stay alive while jobs wait ({len(pending)}), but ended with code {code}",
                self._last_words(),
            )
        elif time.monotonic() > self._restart_at:
            self._process = self._start()

    def waits_for(self) -> str | None:
        """Return what the worker does before it can take a job; None once it can."""
        # Not by seek: the worker writes at the place where the file stands for both of us.
        log = os.pread(self._log.fileno(), _LOG_HEAD_BYTES, self._log_start)
        if _LOADED in log:
            return None
        if _LOADING not in log:
            return "starting a worker"
        loading = f"loading model {next(iter(short_names(self._model)), self._model)}"
        is_slow = time.monotonic() - self._started_at > SLOW_LOAD_S
        if is_slow and (size := _download_bytes(self._model)):
            loading += f" (the first time {format_bytes(size)} are downloaded)"
        return loading

    def stop(self) -> None:
        """End the worker: drained if it can be in a few seconds, killed at last."""
        for end in (self._process.terminate, self._process.terminate, self._process.kill):
            if self._process.poll() is not None:
                break
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DRAIN_TIMEOUT_S)
        self._log.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        self._log_start = os.fstat(self._log.fileno()).st_size
        return subprocess.Popen(
            # Safe path: the folder we are in may have a worker.py of its own.
            [sys.executable, "-P", "-m", "worker", "run", "--burst"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # Ctrl-C reaches us alone; we end the worker in order.
            start_new_session=True,
        )

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        # Of an error that it printed, what it says: ours has a code of its own.
        return re.sub(r"^error \[\w+\] ", "", lines[-1]) if lines else "no log"


def check_folder(model: str) -> None:
    """Make sure that a model that is written as a path is here.

    Raises:
        InvalidSettings: it is not.
    """
    if is_path(model) and not Path(model).expanduser().exists():
        raise InvalidSettings("model.name", "must be an existing folder", model)


class FarmWorkers:
    """Workers of the farm that were alive; once none is left, one of ours takes their place.

    A worker that was killed looks alive until its registration ends, a lease later.
    """

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self._settings = settings
        self._watch = WorkerWatch(connection, settings)
        self._own: LocalWorker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._own is not None:
            self._own.stop()

    def check(self, pending: PendingJobs) -> None:
        """Make sure that somebody works on the pending jobs.

        Raises:
            NoWorker: ours died.
        """
        if self._own is not None:
            self._own.check(pending)
            return
        try:
            self._watch(pending)
        except NoWorker:
            self._own = LocalWorker(self._settings)

    def waits_for(self) -> str | None:
        """Return what our worker does before it can take a job; None without one."""
        return None if self._own is None else self._own.waits_for()


def _download_bytes(model: str) -> int | None:
    """Return about how much the hub gives for a model that we know; None for any other."""
    known = (each for each in KNOWN_MODELS.values() if each.name == model and "/" in model)
    return next((each.num_bytes for each in known), None)
