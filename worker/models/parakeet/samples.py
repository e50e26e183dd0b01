"""The samples of one recording: each piece's features are made of its own samples alone."""

import os
import tempfile
import weakref
from typing import IO

import numpy as np
from numpy.typing import NDArray

from producer.errors import DiskFull
from worker.models.parakeet.cut import RATE_HZ


class Samples:
    """Keeps a recording's samples: a `worker.engine.family.Features`.

    The first ten minutes stay in memory (38 MB); later ones go to an unlinked temporary file, so
    that a recording of any length holds a bounded amount of memory (12 h are 2.8 GB).
    """

    SPOOL_AFTER = 600 * RATE_HZ

    def __init__(self) -> None:
        self.num_samples = 0
        self._blocks: list[NDArray[np.float32]] = []
        self._in_memory: NDArray[np.float32] = np.empty(0, np.float32)
        self._num_in_blocks = 0
        self._spool: IO[bytes] | None = None

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (n,), mono float32 at 16 kHz.

        Raises:
            DiskFull: the temporary folder has no room for a long recording.
        """
        self.num_samples += samples.size
        kept = samples[: max(0, self.SPOOL_AFTER - self._num_in_blocks)]
        if kept.size:
            self._blocks.append(np.ascontiguousarray(kept, np.float32))
            self._num_in_blocks += kept.size
        if kept.size < samples.size:
            later = np.ascontiguousarray(samples[kept.size :], np.float32)
            self._write(later.data.cast("B"))

    def finish(self) -> None:
        """Take note that the recording has ended; samples can be cut from now on."""
        if self._blocks:
            self._in_memory = np.concatenate(self._blocks)
            self._blocks = []

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        """Return samples start .. end, as far as there are any; may be called from any thread."""
        held = self._in_memory[start:end]
        first = max(start, self._in_memory.size)
        if self._spool is None or end <= first:
            return held
        offset = 4 * (first - self._in_memory.size)
        # Read, not mapped: mapped pages would count as the process's own for good.
        data = os.pread(self._spool.fileno(), 4 * (end - first), offset)
        return np.concatenate([held, np.frombuffer(data, np.float32)])

    def _write(self, data: memoryview) -> None:
        limit = f"must have room for {len(data)} bytes more"
        try:
            if self._spool is None:
                # Unbuffered: a buffer that found no room would be written again when it is closed.
                self._spool = tempfile.TemporaryFile(  # noqa: SIM115
                    prefix="scribefarm-samples-", buffering=0
                )
                weakref.finalize(self, self._spool.close)
            num_written = os.write(self._spool.fileno(), data)
        except OSError as error:
            raise DiskFull("temporary folder", limit, error.strerror or str(error)) from error
        if num_written < len(data):
            raise DiskFull("temporary folder", limit, f"{num_written} bytes")
