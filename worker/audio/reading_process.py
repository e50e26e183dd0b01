"""A process that reads recordings for a reading thread, which passes on what it delivers.

Reading gives Python's lock back and takes it again several hundred times for 30 s of sound. Beside a
GPU whose engine thread computes all the time that is the limit of what threads read; processes have a
lock each. A child has one recording at a time, and is one block ahead at most: a pipe holds no more.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from producer import log
from producer.errors import ScribefarmError, WorkerLost
from producer.job import AudioOptions
from producer.settings import AudioSettings, LogSettings
from worker.audio.blas import keep_blas_to_its_caller
from worker.audio.read_ahead import Alive, End, Piece, Reading, Stopped

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# A child that has nothing to deliver says so often that its file's disk lives.
BEAT_S = 1.0
STOP_S = 5.0


@dataclass(frozen=True)
class _Asked:
    """What a child is to read; see `Reading`."""

    path: str
    settings: AudioSettings
    sha256: str | None
    asked: AudioOptions


class ReadingProcess:
    """Reads one recording after another in a child, which is started when it is first needed.

    Args:
        log_settings: How the child writes its log lines.
    """

    def __init__(self, log_settings: LogSettings) -> None:
        self._log_settings = log_settings
        self._child: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None

    def run(self, reading: Reading) -> None:
        """Read a whole recording, as `Reading.run` does; what is fetched is read here instead.

        A child that dies ends its recording as `WorkerLost`; the next recording gets another one.
        """
        if reading.fetch is not None:
            reading.run()
            return
        reading.run(self._read)

    def stop(self) -> None:
        """End the child, if there is one."""
        child, connection = self._child, self._connection
        self._child = self._connection = None
        if connection is not None:
            connection.close()
        if child is not None:
            child.kill()
            child.join(STOP_S)

    def _read(self, reading: Reading) -> End:
        """Pass on what the child delivers, and return its ending."""
        asked = _Asked(reading.path, reading.settings, reading.sha256, reading.asked)
        try:
            connection = self._connected()
            connection.send(asked)
            while not isinstance(piece := _received(connection), End):
                reading.pass_on(piece)
        except (EOFError, OSError) as error:
            code = self._exit_code()
            self.stop()
            limit = "the process that reads it must live"
            raise WorkerLost(reading.path, limit, f"exit code {code}") from error
        except ScribefarmError:
            raise  # the ending of this recording: the child waits for the next one
        except BaseException:
            # It reads on, for nobody.
            self.stop()
            raise
        return piece

    def _connected(self) -> "Connection[Any, Any]":
        if self._child is not None and not self._child.is_alive():
            self.stop()
        if self._connection is None:
            # Nothing that other threads hold is copied into a process that is started anew.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._child = context.Process(
                target=serve, args=(theirs, self._log_settings), name="audio", daemon=True
            )
            self._child.start()
            theirs.close()
        return self._connection

    def _exit_code(self) -> int | None:
        if self._child is None:
            return None
        self._child.join(STOP_S)
        return self._child.exitcode


class _ChildReading(Reading):
    """A reading whose blocks nobody counts: sending one waits until it is taken."""

    say: Callable[[Alive], None]
    said_at = 0.0

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self.said_at > BEAT_S:
            self.said_at = now
            self.say(Alive())

    def _wait_for_room(self) -> None:
        pass


def _received(connection: "Connection[Any, Any]") -> Piece | Alive:
    """Return the next piece; raises it if it is an error, and EOFError if nobody sends any more."""
    piece = connection.recv()
    if isinstance(piece, ScribefarmError):
        raise piece
    if isinstance(piece, tuple):
        samples = np.empty(piece, np.float32)
        _read_into(connection.fileno(), samples.data.cast("B"))
        return samples
    known: Piece | Alive = piece
    return known


def _read_into(descriptor: int, memory: memoryview) -> None:
    """Fill memory with what comes; raises EOFError if nobody sends any more.

    A connection's own way would copy it twice, holding Python's lock.
    """
    while memory:
        num_read = os.readv(descriptor, [memory])
        if not num_read:
            raise EOFError
        memory = memory[num_read:]


def _write(descriptor: int, memory: memoryview) -> None:
    while memory:
        memory = memory[os.write(descriptor, memory) :]


def serve(connection: "Connection[Any, Any]", log_settings: LogSettings) -> None:
    """Read what is asked for, one recording after another, until nobody is there; in a child."""
    log.configure(log_settings)
    keep_blas_to_its_caller()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent ends this process

    def send(piece: Piece | Alive) -> None:
        try:
            if isinstance(piece, np.ndarray):
                connection.send(piece.shape)
                _write(connection.fileno(), np.ascontiguousarray(piece, np.float32).data.cast("B"))
            else:
                connection.send(piece)
        except OSError as error:  # whoever asked is gone
            raise Stopped from error

    with contextlib.suppress(EOFError, OSError):
        while True:
            asked: _Asked = connection.recv()
            reading = _ChildReading(asked.path, asked.settings, send, asked.sha256, asked.asked)
            reading.say = send
            reading.run()
    os._exit(0)
