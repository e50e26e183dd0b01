"""Log-mel spectrograms on the device, equal to openai-whisper's within float rounding.

A recording's frames are computed once, block by block, as raw log10 mel energies. Whisper
normalises by the loudest bin of the *whole* recording, so `normalize` is applied when a window is
cut, with the maximum that was known only at the end.
"""

import functools
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import IO, TypeAlias

import mlx.core as mx
import numpy as np

from producer.errors import DiskFull
from worker.device.backend import translated_errors, uploaded
from worker.device.sending import send
from worker.models.mel import mel_filterbank

N_FFT = 400  # 25 ms
HOP_LENGTH = 160  # 10 ms
WINDOW_FRAMES = 3000  # 30 s
SILENCE = -10.0  # log10 of the floor, 1e-10
# Frames past the last whole hop whose 25 ms still overlap the audio.
TAIL_FRAMES = 3
# A recording's last frames are computed in steps of 5 s: uploading 30 s takes a GPU's host 1 ms.
TAIL_STEP = 500

_scratch = threading.local()

# What a network offers: see `log_mel_frames`, whose mels it knows.
ComputeFrames: TypeAlias = Callable[[np.ndarray], mx.array]


def num_frames(num_samples: int) -> int:
    """Return the whole hops in a recording: the frames that the reference calls content."""
    return num_samples // HOP_LENGTH


@functools.cache
def hann_window() -> np.ndarray:
    """Return the periodic Hann window of an analysis window, (400,), float32."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def log_mel_frames(samples: np.ndarray, n_mels: int) -> mx.array:
    """Return raw log10 mel energies of whole analysis windows, computed by MLX.

    Args:
        samples: Mono float32 at 16 kHz, shape (n,); frame t covers samples 160 t to 160 t + 400.
        n_mels: 80, or 128 for large-v3 and turbo.

    Returns:
        Shape (1 + (n - 400) // 160, n_mels), float32, at least -10.
    """
    count = 1 + (samples.shape[0] - N_FFT) // HOP_LENGTH
    frames = mx.as_strided(send(samples), (count, N_FFT), (HOP_LENGTH, 1))
    spectrum = mx.fft.rfft(frames * uploaded(hann_window))
    power = mx.square(mx.abs(spectrum))
    return mx.log10(mx.maximum(power @ uploaded(mel_filterbank, N_FFT, n_mels), 1e-10))


class LogMelStream:
    """Raw log-mel frames of a recording that arrives in pieces, 30 s of frames at a time.

    Few input shapes only (the last block is cut to steps of 5 s), so that the device's buffer cache
    stays flat; memory is one block. The result does not depend on how the samples were cut into
    pieces.

    Args:
        compute_frames: Of the network that is to read them.
    """

    _ADVANCE = WINDOW_FRAMES * HOP_LENGTH
    _OVERLAP = N_FFT - HOP_LENGTH  # samples that a block shares with the next one
    _REFLECTED = N_FFT // 2

    def __init__(self, compute_frames: ComputeFrames) -> None:
        self._compute_frames = compute_frames
        self.num_samples = 0
        self._frames_done = 0
        # What is not framed yet, as it came, and how many samples that is.
        self._pieces: list[np.ndarray] = []
        self._num_waiting = 0
        self._start: np.ndarray | None = np.zeros(0, dtype=np.float32)

    def push(self, samples: np.ndarray) -> list[mx.array]:
        """Take samples (n,), which stay as they are, and return the blocks that they complete.

        A block is 3000 frames.
        """
        self.num_samples += samples.size
        return self._advance(samples)

    def finish(self) -> list[mx.array]:
        """Return the last frames, up to those that still overlap the recording's end."""
        missing = num_frames(self.num_samples) + TAIL_FRAMES - self._frames_done
        if self._start is not None:
            self._advance(np.zeros(self._REFLECTED + 1, dtype=np.float32))
        blocks = []
        while missing > 0:
            # The few frames behind a last whole block are computed with it.
            taken = missing if missing <= WINDOW_FRAMES + TAIL_STEP else WINDOW_FRAMES
            frames = self._frame_block(-(-taken // TAIL_STEP) * TAIL_STEP)
            blocks.append(frames[: min(taken, WINDOW_FRAMES)])
            if taken > WINDOW_FRAMES:
                blocks.append(frames[WINDOW_FRAMES:taken])
            missing -= taken
        return blocks

    def _advance(self, samples: np.ndarray) -> list[mx.array]:
        if self._start is None:
            return self._take(samples)
        # Frame 0 is centred on sample 0; the reference reflects what lies before it.
        missing = self._REFLECTED + 1 - self._start.size
        start = np.concatenate([self._start, samples[:missing]])
        if start.size <= self._REFLECTED:
            self._start = start
            return []
        self._start, mirrored = None, start[:0:-1]
        return [
            block for part in (mirrored, start, samples[missing:]) for block in self._take(part)
        ]

    def _take(self, samples: np.ndarray) -> list[mx.array]:
        """Let samples wait, and return the blocks that are complete."""
        self._pieces.append(samples)
        self._num_waiting += samples.size
        blocks = []
        while self._num_waiting >= self._ADVANCE + self._OVERLAP:
            blocks.append(self._frame_block())
        return blocks

    def _frame_block(self, count: int = WINDOW_FRAMES) -> mx.array:
        """Start computing a block's first frames, of what waits and silence behind it."""
        block = self._compute_frames(self._joined(count * HOP_LENGTH + self._OVERLAP))
        self._forget(self._ADVANCE)
        self._frames_done += WINDOW_FRAMES
        return block

    def _joined(self, size: int) -> np.ndarray:
        """Return the next samples in one piece, good until the next call in this thread.

        All recordings share that memory, which the processor has near: a block is copied twice on its
        way to the device.
        """
        if not hasattr(_scratch, "samples"):
            most = (WINDOW_FRAMES + TAIL_STEP) * HOP_LENGTH + self._OVERLAP
            _scratch.samples = np.empty(most, dtype=np.float32)
        joined: np.ndarray = _scratch.samples[:size]
        filled = 0
        for piece in self._pieces:
            taken = min(piece.size, size - filled)
            joined[filled : filled + taken] = piece[:taken]
            filled += taken
        joined[filled:] = 0.0
        return joined

    def _forget(self, count: int) -> None:
        """Drop the next samples."""
        self._num_waiting = max(0, self._num_waiting - count)
        while self._pieces and count >= self._pieces[0].size:
            count -= self._pieces.pop(0).size
        if self._pieces:
            self._pieces[0] = self._pieces[0][count:]


class LogMel:
    """The log-mel spectrogram of one recording, from which windows are cut on the device.

    Blocks are raw log10 energies, computed without waiting for them. The first ten minutes and the
    last two stay on the device; blocks between go to an unlinked temporary file, so that a
    recording of any length holds a bounded amount of memory (12 h at 128 mels would be 2.2 GB).

    Args:
        compute_frames: Of the network that is to read them.
        n_mels: What it reads, 80 or 128.
    """

    SPOOL_AFTER_BLOCKS = 20  # ten minutes: 19 MB at 80 mels, 31 MB at 128
    # A block is written once this many later ones were begun: by then it is computed, and so are the
    # steps that the device was handed before it, so the write waits for nothing.
    COMPUTING_BLOCKS = 4

    def __init__(self, compute_frames: ComputeFrames, n_mels: int) -> None:
        self._n_mels = n_mels
        self._stream = LogMelStream(compute_frames)
        self._blocks: list[mx.array] = []
        self._computing: deque[mx.array] = deque()
        self._spool: IO[bytes] | None = None
        self._spooled: list[tuple[int, tuple[int, ...]]] = []  # offset in bytes, shape
        self._loudest = mx.array(SILENCE)

    @property
    def content_frames(self) -> int:
        """Whole 10 ms hops so far."""
        return num_frames(self._stream.num_samples)

    def push(self, samples: np.ndarray) -> None:
        """Take the next samples (n,), mono float32 at 16 kHz.

        Raises:
            DiskFull: the temporary folder has no room for a long recording's frames.
        """
        with translated_errors():
            self._keep(self._stream.push(samples))

    def finish(self) -> None:
        """Say that the recording has ended; windows can be cut from now on."""
        with translated_errors():
            self._keep(self._stream.finish())

    def window(self, seek: int, size: int = WINDOW_FRAMES) -> mx.array:
        """Return frames seek .. seek + size, normalised, shape (3000, n_mels).

        What the recording does not fill is 0.0 in *normalised* units, as the reference pads.
        """
        return _pad(self._normalized(self._cut(seek, min(seek + size, self.content_frames))), 0.0)

    def language_window(self, seek: int = 0) -> mx.array:
        """Return 3000 frames from `seek` with silence after the recording's end, (3000, n_mels)."""
        return self._normalized(_pad(self._cut(seek, seek + WINDOW_FRAMES), SILENCE))

    def _normalized(self, frames: mx.array) -> mx.array:
        return (mx.maximum(frames, self._loudest - 8.0) + 4.0) / 4.0

    def _keep(self, blocks: list[mx.array]) -> None:
        for block in blocks:
            self._loudest = mx.maximum(self._loudest, block.max())
            if len(self._blocks) < self.SPOOL_AFTER_BLOCKS:
                self._blocks.append(block)
            else:
                self._computing.append(block)
        mx.async_eval(self._loudest, blocks)
        while len(self._computing) > self.COMPUTING_BLOCKS:
            self._spooled.append(self._write(np.array(self._computing.popleft())))

    def _write(self, block: np.ndarray) -> tuple[int, tuple[int, ...]]:
        """Move a block to the temporary file, and return where it lies and its shape.

        Raises:
            DiskFull: there is no room for it.
        """
        data = block.tobytes()
        limit = f"must have room for {len(data)} bytes more"
        try:
            fd = self._spool_fd()
            offset = os.lseek(fd, 0, os.SEEK_END)
            num_written = os.write(fd, data)
        except OSError as error:
            raise DiskFull("temporary folder", limit, error.strerror or str(error)) from error
        if num_written < len(data):
            raise DiskFull("temporary folder", limit, f"{num_written} bytes")
        return offset, block.shape

    def _spool_fd(self) -> int:
        if self._spool is None:
            # Unbuffered: a buffer that found no room would be written again when it is closed.
            self._spool = tempfile.TemporaryFile(prefix="scribefarm-mel-", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._spool.close)
        return self._spool.fileno()

    def _cut(self, start: int, end: int) -> mx.array:
        """Return raw frames start .. end, (n, n_mels), as far as there are any."""
        first, last = start // WINDOW_FRAMES, max(start, end - 1) // WINDOW_FRAMES
        touched = [self._block(index) for index in range(first, last + 1)]
        offset = first * WINDOW_FRAMES
        frames = touched[0] if len(touched) == 1 else mx.concatenate(touched)
        return frames[start - offset : end - offset]

    def _block(self, index: int) -> mx.array:
        """Return block `index`, (up to 3000, n_mels), empty past the end."""
        if index < len(self._blocks):
            return self._blocks[index]
        index -= self.SPOOL_AFTER_BLOCKS
        if self._spool is not None and 0 <= index < len(self._spooled):
            offset, shape = self._spooled[index]
            # Read, not mapped: mapped pages would count as the process's own for good.
            data = os.pread(self._spool.fileno(), 4 * shape[0] * shape[1], offset)
            return mx.array(np.frombuffer(data, np.float32).reshape(shape))
        index -= len(self._spooled)
        if 0 <= index < len(self._computing):
            return self._computing[index]
        return mx.zeros((0, self._n_mels))


def _pad(frames: mx.array, fill: float) -> mx.array:
    """Return frames (n, n_mels) filled up to 3000."""
    missing = WINDOW_FRAMES - frames.shape[0]
    return mx.pad(frames, [(0, missing), (0, 0)], constant_values=fill) if missing else frames
