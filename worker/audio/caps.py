"""What a recording may not exceed: the caps, and the errors that name value and limit."""

import math

import numpy as np
from numpy.typing import NDArray

from producer.errors import CorruptAudio, EmptyInput, NonFinite, OutOfRange, ScribefarmError
from worker.audio.reader import AudioHeader, Block, Reader

# Limit of `load_audio` under any `max_seconds`: 256 MiB of float32, 70 min at 16 kHz.
MAX_DECODED_SAMPLES = 64 * 1024 * 1024
# Float files hold values of about 1, at worst unscaled int32 values. The power of a 400-sample
# mel frame overflows float32 above an amplitude of 4e16.
MAX_AMPLITUDE = 2.0**32


def validate_max_seconds(value: float) -> None:
    """Check the cap itself, before any file is opened.

    Raises:
        OutOfRange: NaN, infinite, zero or negative.
    """
    if not (math.isfinite(value) and value > 0):
        raise OutOfRange("max_seconds", "must be a finite number above 0", value)


def check_duration(header: AudioHeader, max_seconds: float, context: str) -> None:
    """Refuse a recording whose exact header declares more than `max_seconds`.

    The comparison is in float64, at the source rate; a duration equal to the cap passes. An
    estimated length is not checked here: the running count decides.

    Raises:
        OutOfRange: the recording is too long.
    """
    if header.exact and header.num_frames is not None:
        check_frames(header.num_frames, header.sample_rate_hz, max_seconds, context)


def check_frames(num_frames: int, rate_hz: int, max_seconds: float, context: str) -> None:
    """Refuse more frames than `max_seconds` at their own rate."""
    duration_s = num_frames / rate_hz
    if duration_s > max_seconds:
        raise OutOfRange(context, f"duration must be at most {max_seconds:g} s", duration_s)


def not_sane(
    block: Block, is_sane: NDArray[np.bool_], first_frame: int, context: str
) -> ScribefarmError:
    """Return the error that names the first absurd sample and its frame."""
    frame = int(np.argmin(is_sane.all(axis=1)))
    value = float(block.samples[frame][~is_sane[frame]][0])
    where = f"{context}: frame {first_frame + frame}"
    if math.isfinite(value):
        return OutOfRange(where, f"amplitude must be at most {MAX_AMPLITUDE:g}", value)
    return NonFinite(where, "must be a finite sample", value)


def check_ceiling(num_samples: int, context: str) -> None:
    """Refuse more than `MAX_DECODED_SAMPLES` for one load."""
    if num_samples > MAX_DECODED_SAMPLES:
        limit = f"must have at most {MAX_DECODED_SAMPLES} samples for one load"
        raise OutOfRange(context, limit, num_samples)


def check_rate(header: AudioHeader, target_rate_hz: int, *, auto_resample: bool) -> None:
    """Refuse another rate than the target where nothing may be resampled."""
    if header.sample_rate_hz != target_rate_hz and not auto_resample:
        limit = f"sampling rate must be {target_rate_hz} Hz while auto_resample is off"
        raise OutOfRange(header.path, limit, header.sample_rate_hz)


def check_content(reader: Reader) -> None:
    """Refuse a file that is shorter than its header declares, or declares no samples."""
    data = reader.data
    if data is not None and data.is_cut_off:
        limit = f"must hold the {data.declared_bytes} bytes of samples that its header declares"
        raise CorruptAudio(reader.header.path, limit, data.available_bytes)
    if reader.header.exact and reader.header.num_frames == 0:
        raise EmptyInput(reader.header.path, "must have at least one sample after decoding", 0)
