"""The threads that read recordings. One that a dead share holds is given up and replaced.

A thread inside a system call cannot be ended. So it is left behind, a daemon that nobody joins, and
another takes its place; when its call returns after all, it ends or takes up work again.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from producer.settings import LogSettings
from worker.audio.read_ahead import Reading
from worker.audio.reading_process import ReadingProcess

# Threads that may hang at once; each holds a stack, a descriptor and a few megabytes. With two
# threads and 60 s each, a share with nothing but hanging files takes 4 min to get there.
MOST_LOST = 8
# A share is called slow once a recording had nothing from it for this long.
SLOW_S = 10.0

_log = structlog.get_logger()


@dataclass(eq=False)
class _Seat:
    """One thread and what it reads; `is_lost` once it was given up."""

    reading: Reading | None = None
    is_lost: bool = False


@dataclass
class ReadingThreads:
    """Reads recordings in `num_threads` threads, oldest first.

    Attributes:
        num_threads: Recordings read at once.
        timeout_s: Silence after which a reading is given up as `source_unreachable`.
        in_processes: Each thread reads in a process of its own.
        log_settings: How those processes write their log lines.
    """

    num_threads: int
    timeout_s: float
    in_processes: bool = False
    log_settings: LogSettings = field(default_factory=LogSettings)
    _line: "queue.SimpleQueue[Reading | None]" = field(default_factory=queue.SimpleQueue)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _seats: list[_Seat] = field(default_factory=list)
    _is_stopped: bool = False

    def __post_init__(self) -> None:
        with self._lock:
            self._fill()

    @property
    def num_lost(self) -> int:
        """Return how many threads hang in a disk or share at the moment."""
        with self._lock:
            return sum(seat.is_lost for seat in self._seats)

    @property
    def is_able(self) -> bool:
        """Return whether more recordings should come: fewer than `MOST_LOST` threads are lost."""
        return self.num_lost < MOST_LOST

    def submit(self, reading: Reading) -> None:
        """Let a recording be read as soon as a thread is free."""
        self._line.put(reading)

    def look_after(self) -> None:
        """Give up readings that had nothing for `timeout_s`, and replace their threads.

        A reading that is given up delivers `SourceUnreachable`.
        """
        for seat, reading in self._busy():
            silent_s = reading.silent_s
            if silent_s > self.timeout_s:
                self._give_up(seat, reading, silent_s)
            elif silent_s > SLOW_S and not reading.is_called_slow:
                reading.is_called_slow = True
                _log.warning("share_is_slow", source=reading.path, silent_s=round(silent_s, 1))

    def stop(self) -> None:
        """Let every thread end after its recording; none is waited for."""
        with self._lock:
            self._is_stopped = True
            for _ in self._seats:
                self._line.put(None)

    def _busy(self) -> Iterator[tuple[_Seat, Reading]]:
        with self._lock:
            seats = [(seat, seat.reading) for seat in self._seats if not seat.is_lost]
        return ((seat, reading) for seat, reading in seats if reading is not None)

    def _give_up(self, seat: _Seat, reading: Reading, silent_s: float) -> None:
        with self._lock:
            if seat.reading is not reading:
                return
            seat.is_lost = True
            self._fill()
        _log.warning(
            "reading_thread_lost",
            source=reading.path,
            silent_s=round(silent_s, 1),
            lost_threads=self.num_lost,
        )
        reading.give_up(silent_s)

    def _fill(self) -> None:
        """Start threads up to `num_threads`, as long as not too many are lost; the lock is held."""
        num_lost = sum(seat.is_lost for seat in self._seats)
        while num_lost < MOST_LOST and len(self._seats) - num_lost < self.num_threads:
            seat = _Seat()
            self._seats.append(seat)
            threading.Thread(target=self._work, args=(seat,), name="audio", daemon=True).start()

    def _work(self, seat: _Seat) -> None:
        process = ReadingProcess(self.log_settings) if self.in_processes else None
        while (reading := self._line.get()) is not None:
            reading.begin()
            seat.reading = reading
            if process is None:
                reading.run()
            else:
                process.run(reading)
            if not self._may_go_on(seat):
                break
        if process is not None:
            process.stop()

    def _may_go_on(self, seat: _Seat) -> bool:
        """Take a seat back that was lost, if one is free; runs in the reading thread."""
        with self._lock:
            seat.reading = None
            if not seat.is_lost:
                return True
            seat.is_lost = False
            num_here = sum(not each.is_lost for each in self._seats)
            goes_on = num_here <= self.num_threads and not self._is_stopped
            if not goes_on:
                self._seats.remove(seat)
        _log.info("reading_thread_back", lost_threads=self.num_lost)
        return goes_on
