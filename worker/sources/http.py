"""Download a recording from a web server: resumed after a cut, within bounds of size and time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from producer.errors import DiskFull, OutOfRange, SourceChanged, SourceUnreachable
from producer.remote import ask
from producer.remote_answer import Answer, BrokenOff
from producer.remote_hosts import Access
from producer.source import SourceVersion

# A server that breaks off more often than that is left alone until the farm's next try.
MAX_RESUMES = 5
# Before a broken answer is asked for again; it doubles.
FIRST_PAUSE_S = 0.1

# Slower than the slowest line: a server that keeps a reading thread busy for nothing.
MIN_BYTES_PER_S = 1000

Beat = Callable[[], None]


@dataclass(frozen=True)
class Bounds:
    """How much a download may take.

    Attributes:
        max_bytes: Of the recording.
        timeout_s: Of the whole download, all resumptions together.
    """

    max_bytes: int
    timeout_s: float


@dataclass
class Download:
    """One recording on its way into a file.

    Attributes:
        name: The source, as messages name it.
        address: Returns the URL to ask; a signed one is made anew for each request.
        access: Which servers may be asked.
        bounds: How much it may take.
        expected: The version that was submitted; None takes any.
        beat: Called whenever the server has given something.
    """

    name: str
    address: Callable[[], str]
    access: Access
    bounds: Bounds
    expected: SourceVersion | None
    beat: Beat
    _num_bytes: int = 0
    _version: SourceVersion | None = None

    def run(self, into: BinaryIO) -> None:
        """Write the whole recording.

        Raises:
            SourceChanged: the server has another version now than was submitted.
            OutOfRange: more than the bounds allow.
            SourceUnreachable: silence, or the server keeps breaking off, or it takes too long.
            DiskFull: no room for it.
            ScribefarmError: as `ask` and `Answer.check_is_audio` raise.
        """
        deadline, pause_s = time.monotonic() + self.bounds.timeout_s, FIRST_PAUSE_S
        for _ in range(1 + MAX_RESUMES):
            with self._request() as answer:
                self._prepare(answer, into)
                try:
                    self._take(answer, into, deadline)
                except BrokenOff:
                    self.beat()
                else:
                    return
            time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s *= 2
        limit = f"must come whole; the server broke off {1 + MAX_RESUMES} times"
        raise SourceUnreachable(self.name, limit, f"{self._num_bytes} bytes")

    def _request(self) -> Answer:
        headers = {}
        validator = self._version.validator if self._version else None
        if self._num_bytes and validator:
            headers = {"range": f"bytes={self._num_bytes}-", "if-range": validator}
        return ask(self.address(), self.access, name=self.name, headers=headers, beat=self.beat)

    def _prepare(self, answer: Answer, into: BinaryIO) -> None:
        """Check what the answer says of itself; begin anew unless it goes on where we stood."""
        answer.check_is_audio()
        found, part = answer.version, answer.part
        if self.expected is not None and self.expected.is_other_than(found):
            limit = "the server must have the version that was submitted"
            raise SourceChanged(self.name, limit, found.etag or found.modified)
        goes_on = part is not None and part[0] == self._num_bytes and self._version is not None
        if goes_on and self._version is not None and not self._version.is_other_than(found):
            return
        if part is not None and part[0] != 0:
            raise SourceUnreachable(self.name, "the server must send the part that was asked for")
        self._num_bytes, self._version = 0, found
        into.seek(0)
        into.truncate()
        self._check_size(found.size_bytes)

    def _take(self, answer: Answer, into: BinaryIO, deadline: float) -> None:
        """Write what comes, to the answer's end."""
        promised = answer.length
        end = None if promised is None else self._num_bytes + promised
        pace = _Pace(self.access.timeout_s, self._num_bytes)
        while piece := answer.read_some():
            self._num_bytes += len(piece)
            self._check_size(self._num_bytes)
            limit = ""
            if time.monotonic() > deadline:
                limit = f"must come within {self.bounds.timeout_s:g} s (audio.download_timeout_s)"
            elif pace.is_too_slow(self._num_bytes):
                limit = f"must come with at least {MIN_BYTES_PER_S} bytes a second"
            if limit:
                raise SourceUnreachable(self.name, limit, f"{self._num_bytes} bytes so far")
            write(into, piece, self.name)
            self.beat()
        # Headers that were cut off say no length either.
        says_its_end = end is not None or "transfer-encoding" in answer.headers
        if (end is not None and self._num_bytes < end) or not (says_its_end or self._num_bytes):
            raise BrokenOff

    def _check_size(self, num_bytes: int | None) -> None:
        if num_bytes is not None and num_bytes > self.bounds.max_bytes:
            limit = f"must have at most {self.bounds.max_bytes} bytes (audio.max_download_bytes)"
            raise OutOfRange(self.name, limit, num_bytes)


class _Pace:
    """Measures a server in stretches of its timeout: who drips is as good as silent."""

    def __init__(self, stretch_s: float, num_bytes: int) -> None:
        self._stretch_s, self._since, self._num_bytes = stretch_s, time.monotonic(), num_bytes

    def is_too_slow(self, num_bytes: int) -> bool:
        """Return whether too little has come in the stretch that ends now, if one does."""
        took_s = time.monotonic() - self._since
        if took_s < self._stretch_s:
            return False
        is_slow = num_bytes - self._num_bytes < MIN_BYTES_PER_S * took_s
        self._since, self._num_bytes = time.monotonic(), num_bytes
        return is_slow


def write(into: BinaryIO, piece: bytes, name: str) -> None:
    """Write to a file of ours, which has no buffer.

    Raises:
        DiskFull: it does not take more.
    """
    left = memoryview(piece)
    try:
        while left:
            left = left[into.write(left) :]
    except OSError as error:
        raise DiskFull(name, "must fit into audio.spool_dir", error.strerror) from error
