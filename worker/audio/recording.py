"""The capped pipeline: a recording becomes 16 kHz mono float32 samples, or a typed error.

The order of refusal: the cap's own value, before any file is touched; the header, before
any sample is decoded; a running count while decoding, for headers that lie or do not count.
Memory stays at a few blocks of `BLOCK_FRAMES` frames whatever the length of the recording.
"""

import math
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soxr
from numpy.typing import NDArray

from producer.errors import CorruptAudio, EmptyInput, InvalidOptions, NonFinite, OutOfRange
from worker.audio.containers import MAX_RATE_HZ, MIN_RATE_HZ, open_reader
from worker.audio.reader import AudioHeader, Frames, PathLike, Reader

__all__ = [
    "MAX_DECODED_SAMPLES",
    "SAMPLE_RATE_HZ",
    "AudioHeader",
    "Recording",
    "Samples",
    "check_duration",
    "load_audio",
    "open_recording",
    "probe",
    "validate_max_seconds",
]

Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
# One load never holds more, whatever cap is asked: 256 MiB of float32, 70 min at 16 kHz.
MAX_DECODED_SAMPLES = 64 * 1024 * 1024
# Float files count in units of full scale, at worst in those of int32. The power of a
# 400-sample mel frame overflows float32 above 4e16.
MAX_AMPLITUDE = 2.0**32


def validate_max_seconds(value: float) -> None:
    """Check the cap itself, before any file is opened.

    Raises:
        OutOfRange: NaN, infinite, zero or negative.
    """
    if not (math.isfinite(value) and value > 0):
        raise OutOfRange("max_seconds", "must be a finite number above 0", value)


def probe(path: PathLike) -> AudioHeader:
    """Read a recording's header and nothing else.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        UnsupportedFormat: not a regular file, not audio, or a video without sound.
        EmptyInput: the file has no bytes.
        CorruptAudio: the header contradicts itself.
        OutOfRange: the sampling rate or the number of channels.
    """
    reader = open_reader(path)
    reader.close()
    return reader.header


def check_duration(header: AudioHeader, max_seconds: float, context: str) -> None:
    """Refuse a recording that its own exact header calls longer than `max_seconds`.

    The comparison is in float64, at the source rate; a duration equal to the cap passes. An
    estimated length refuses nothing: the running count does that.

    Raises:
        OutOfRange: the recording is too long.
    """
    if header.exact and header.num_frames is not None:
        _check_frames(header.num_frames, header.sample_rate_hz, max_seconds, context)


def open_recording(
    path: PathLike,
    *,
    max_seconds: float,
    target_rate_hz: int = SAMPLE_RATE_HZ,
    auto_resample: bool = True,
    resampler: str = "soxr_hq",
) -> "Recording":
    """Open a recording and check all that its header tells; nothing is decoded yet.

    Args:
        path: A regular file.
        max_seconds: Longest duration that is accepted, measured at the source rate.
        target_rate_hz: Sampling rate of the blocks.
        auto_resample: Off, a recording of another rate is refused.
        resampler: "soxr_hq" (python-soxr, high quality) or "linear" (mlx-audio's interpolation).

    Raises:
        OutOfRange: the cap, the rate or the recording's duration.
        InvalidOptions: no such resampler.
        EmptyInput: the header declares no samples.
        CorruptAudio: the file is shorter than its header says.
        ScribefarmError: as `probe` raises.
    """
    validate_max_seconds(max_seconds)
    if not MIN_RATE_HZ <= target_rate_hz <= MAX_RATE_HZ:
        limit = f"must be in {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
        raise OutOfRange("target_rate_hz", limit, target_rate_hz)
    if resampler not in _RESAMPLERS:
        raise InvalidOptions("resampler", f"must be one of {', '.join(_RESAMPLERS)}", resampler)
    reader = open_reader(path)
    try:
        check_duration(reader.header, max_seconds, reader.header.path)
        _check_rate(reader.header, target_rate_hz, auto_resample=auto_resample)
        _check_content(reader)
        return Recording(
            reader, max_seconds=max_seconds, target_rate_hz=target_rate_hz, resampler=resampler
        )
    except BaseException:
        reader.close()
        raise


class Recording:
    """One recording as blocks of float32 mono samples at the target rate, read once.

    Channels are averaged with equal weights, as FFmpeg does for stereo. Iterating closes the file
    at its end and on every error; `num_source_frames` and `duration_s` are then final.

    Iterating raises:
        OutOfRange: more samples than the cap allows, or an absurd amplitude.
        NonFinite: NaN or infinity in a float file, with its frame.
        CorruptAudio: undecodable, or fewer frames than the file declares.
        EmptyInput: no samples after decoding, or after resampling.
        SourceUnreachable: the disk or share stopped answering.
    """

    def __init__(
        self, reader: Reader, *, max_seconds: float, target_rate_hz: int, resampler: str
    ) -> None:
        self.header = reader.header
        self.num_source_frames = 0
        self._reader = reader
        self._max_seconds = max_seconds
        self._target_rate_hz = target_rate_hz
        self._resampler = _make_resampler(resampler, self.header.sample_rate_hz, target_rate_hz)

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far, at the source rate."""
        return self.num_source_frames / self.header.sample_rate_hz

    def __iter__(self) -> Iterator[Samples]:
        with self:
            num_samples = 0
            for samples in self._resampled():
                if len(samples):
                    num_samples += len(samples)
                    yield samples
            self._check_end(num_samples)

    def _resampled(self) -> Iterator[Samples]:
        for frames in self._reader.blocks():
            yield self._resampler.resample_chunk(self._accept(frames))
        yield self._resampler.resample_chunk(np.empty(0, np.float32), last=True)

    def _accept(self, frames: Frames) -> Samples:
        """Count a block, check it and mix it to mono."""
        path = self.header.path
        first_frame = self.num_source_frames
        self.num_source_frames += len(frames)
        _check_frames(self.num_source_frames, self.header.sample_rate_hz, self._max_seconds, path)
        is_sane = np.abs(frames) <= MAX_AMPLITUDE  # False for NaN
        if not is_sane.all():
            frame = int(np.argmin(is_sane.all(axis=1)))
            value = float(frames[frame][~is_sane[frame]][0])
            where = f"{path}: frame {first_frame + frame}"
            if math.isfinite(value):
                raise OutOfRange(where, f"amplitude must be at most {MAX_AMPLITUDE:g}", value)
            raise NonFinite(where, "must be a finite sample", value)
        return mix_to_mono(frames)

    def _check_end(self, num_samples: int) -> None:
        path, least = self.header.path, self._reader.least_frames
        if least is not None and self.num_source_frames < least:
            limit = f"must hold the {self.header.num_frames} frames that it declares"
            raise CorruptAudio(path, limit, self.num_source_frames)
        if self.num_source_frames == 0:
            raise EmptyInput(path, "must have at least one sample after decoding", 0)
        if num_samples == 0:
            limit = f"must have at least one sample after resampling to {self._target_rate_hz} Hz"
            raise EmptyInput(path, limit, 0)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def load_audio(
    path: PathLike,
    *,
    max_seconds: float = 30.0,
    target_rate_hz: int = SAMPLE_RATE_HZ,
    auto_resample: bool = True,
    resampler: str = "soxr_hq",
) -> tuple[Samples, AudioHeader]:
    """Return a whole recording, shape (samples,), and its header.

    `MAX_DECODED_SAMPLES` bounds the source frames and the returned samples on top of
    `max_seconds`.

    Raises:
        ScribefarmError: as `open_recording` and iterating a `Recording` raise.
    """
    recording = open_recording(
        path,
        max_seconds=max_seconds,
        target_rate_hz=target_rate_hz,
        auto_resample=auto_resample,
        resampler=resampler,
    )
    header = recording.header
    with recording:
        if header.exact and header.num_frames is not None:
            _check_ceiling(header.num_frames, header.path)
        blocks: list[Samples] = []
        num_samples = 0
        for samples in recording:
            blocks.append(samples)
            num_samples += len(samples)
            _check_ceiling(max(num_samples, recording.num_source_frames), header.path)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), header


def mix_to_mono(frames: Frames) -> Samples:
    """Average the channels of (frames, channels) with equal weights, in float32.

    For stereo that is FFmpeg's own mix. For more channels FFmpeg weighs by speaker position and
    drops the subwoofer; archives' multi-channel files are microphones, so all count the same.
    """
    if frames.shape[1] == 1:
        return frames[:, 0]
    mono: Samples = frames.mean(axis=1, dtype=np.float32)
    return mono


class _Resampler(Protocol):
    def resample_chunk(self, x: Samples, last: bool = False) -> Samples: ...


class _SameRate:
    """Equal rates: the samples themselves, bit for bit."""

    def resample_chunk(self, x: Samples, last: bool = False) -> Samples:  # noqa: ARG002
        return x


class LinearResampler:
    """Linear interpolation as mlx-audio defines it: floor(n * to / from) samples.

    Output sample i lies at source position i * from / to; behind the last source sample its value
    is held. Positions are exact integers, so blocks of any size give the same samples.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._from, self._to = from_hz // divisor, to_hz // divisor
        self._kept = np.empty(0, np.float32)
        self._kept_start = 0  # source index of the first kept sample
        self._next = 0  # index of the next output sample

    def resample_chunk(self, x: Samples, last: bool = False) -> Samples:
        """Return the samples that the source up to here determines; with `last`, all."""
        source = np.concatenate((self._kept, x))
        num_source = self._kept_start + len(source)
        stop = num_source * self._to // self._from
        if not last:  # an interval needs both its ends
            stop = min(stop, -(-max(0, num_source - 1) * self._to // self._from))
        output = self._interpolate(source, max(self._next, stop))
        keep_from = min(max(0, self._next * self._from // self._to - self._kept_start), len(source))
        self._kept = source[keep_from:]
        self._kept_start += keep_from
        return output

    def _interpolate(self, source: Samples, stop: int) -> Samples:
        position = np.arange(self._next, stop, dtype=np.int64) * self._from
        self._next = stop
        left, rest = np.divmod(position, self._to)
        left -= self._kept_start
        right = np.minimum(left + 1, len(source) - 1)
        weight = (rest / self._to).astype(np.float32)
        output: Samples = source[left] * (np.float32(1) - weight) + source[right] * weight
        return output


def _soxr_hq(from_hz: int, to_hz: int) -> _Resampler:
    """Return python-soxr's stream: equal to its one-shot result, sample for sample."""
    stream: _Resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    return stream


_RESAMPLERS = {"soxr_hq": _soxr_hq, "linear": LinearResampler}


def _make_resampler(name: str, from_hz: int, to_hz: int) -> _Resampler:
    return _SameRate() if from_hz == to_hz else _RESAMPLERS[name](from_hz, to_hz)


def _check_frames(num_frames: int, rate_hz: int, max_seconds: float, context: str) -> None:
    duration_s = num_frames / rate_hz
    if duration_s > max_seconds:
        raise OutOfRange(context, f"duration must be at most {max_seconds:g} s", duration_s)


def _check_ceiling(num_samples: int, context: str) -> None:
    if num_samples > MAX_DECODED_SAMPLES:
        limit = f"must have at most {MAX_DECODED_SAMPLES} samples for one load"
        raise OutOfRange(context, limit, num_samples)


def _check_rate(header: AudioHeader, target_rate_hz: int, *, auto_resample: bool) -> None:
    if header.sample_rate_hz != target_rate_hz and not auto_resample:
        limit = f"sampling rate must be {target_rate_hz} Hz while auto_resample is off"
        raise OutOfRange(header.path, limit, header.sample_rate_hz)


def _check_content(reader: Reader) -> None:
    """Refuse what the header and the size of the file already tell."""
    data = reader.data
    if data is not None and data.is_cut_off:
        limit = f"must hold the {data.declared_bytes} bytes of samples that its header declares"
        raise CorruptAudio(reader.header.path, limit, data.available_bytes)
    if reader.header.exact and reader.header.num_frames == 0:
        raise EmptyInput(reader.header.path, "must have at least one sample after decoding", 0)
