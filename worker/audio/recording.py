"""The capped pipeline: a recording becomes 16 kHz mono float32 samples, or a typed error.

The order of refusal: the cap itself, before the file is opened; the header, before any sample is
decoded; a running count while decoding, for headers that lie or do not declare a length.
Memory stays at a few blocks of `BLOCK_FRAMES` frames whatever the length of the recording.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

import numpy as np

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    InvalidOptions,
    OutOfRange,
)
from producer.result import Lost
from worker.audio.caps import (
    MAX_AMPLITUDE,
    check_ceiling,
    check_content,
    check_duration,
    check_frames,
    check_rate,
    not_sane,
    validate_max_seconds,
)
from worker.audio.containers import MAX_RATE_HZ, MIN_RATE_HZ, open_reader
from worker.audio.errors import translated
from worker.audio.lanes import Channels, Lane, Selection, SideBySide, Split, select
from worker.audio.losses import Losses
from worker.audio.reader import AudioHeader, Block, PathLike, Reader, Samples
from worker.audio.resample import RESAMPLERS, ToMono, decodes_with_ffmpeg, make_converter
from worker.audio.source_file import SourceFile

SAMPLE_RATE_HZ = 16_000


def probe(path: PathLike) -> AudioHeader:
    """Read a recording's header and nothing else.

    Raises:
        ScribefarmError: as `open_reader` raises.
    """
    reader = open_reader(path)
    reader.close()
    return reader.header


def open_recording(
    source: PathLike | SourceFile,
    *,
    max_seconds: float,
    target_rate_hz: int = SAMPLE_RATE_HZ,
    auto_resample: bool = True,
    resampler: str = "ffmpeg",
    is_salvaged: bool = False,
    channels: Channels = "mix",
    track: int | None = None,
    watch: Callable[[Block], None] | None = None,
) -> "Recording":
    """Open a recording and check its header; nothing is decoded yet.

    Args:
        source: A regular file, or one that is open, which is closed with the recording.
        max_seconds: Longest duration that is accepted, measured at the source rate.
        target_rate_hz: Sampling rate of the blocks.
        auto_resample: Resample other rates; if False, they are refused.
        resampler: "ffmpeg" (as openai-whisper hears it through FFmpeg up to 5.1), "ffmpeg6" (from
            6 on), "soxr_hq" (python-soxr, high quality) or "linear" (mlx-audio's interpolation).
        is_salvaged: Read around damage, and note it in `Recording.losses`.
        channels: Which are read; see `worker.audio.lanes`.
        track: Which of several sounds is read, from 1; None takes the one that FFmpeg would.
        watch: Is shown each block as it lies in the file, before it is mixed.

    Raises:
        OutOfRange: the cap, the rate, the recording's duration, a channel or track that it has not.
        InvalidOptions: no such resampler.
        EmptyInput: the header declares no samples.
        CorruptAudio: the file is shorter than its header says.
        ScribefarmError: as `open_reader` raises.
    """
    try:
        _check_request(max_seconds, target_rate_hz, resampler)
    except BaseException:
        if isinstance(source, SourceFile):
            source.close()
        raise
    losses = Losses() if is_salvaged else None
    # libsndfile gives nothing of a block with damage in it.
    by_ffmpeg = is_salvaged or decodes_with_ffmpeg(resampler)
    reader = open_reader(source, by_ffmpeg=by_ffmpeg, losses=losses, track=track)
    try:
        check_duration(reader.header, max_seconds, reader.header.path)
        check_rate(reader.header, target_rate_hz, auto_resample=auto_resample)
        if losses is None:
            check_content(reader)
        return Recording(
            reader,
            max_seconds=max_seconds,
            target_rate_hz=target_rate_hz,
            resampler=resampler,
            selection=select(reader.header, channels),
            watch=watch,
        )
    except BaseException:
        reader.close()
        raise


def _check_request(max_seconds: float, target_rate_hz: int, resampler: str) -> None:
    """Refuse what no file could satisfy, before one is opened."""
    validate_max_seconds(max_seconds)
    if not MIN_RATE_HZ <= target_rate_hz <= MAX_RATE_HZ:
        limit = f"must be in {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
        raise OutOfRange("target_rate_hz", limit, target_rate_hz)
    if resampler not in RESAMPLERS:
        raise InvalidOptions("resampler", f"must be one of {', '.join(RESAMPLERS)}", resampler)


class Recording:
    """One recording as blocks of float32 samples at the target rate, read once.

    A block has the shape (samples,), or (samples, lanes) where channels are split, the mix in the
    last lane. Channels are mixed as the resampler's library does, unless they cancel each other out;
    see `worker.audio.mix`. Iterating closes the file at its end and on every error;
    `num_source_frames`, `duration_s` and `losses` are then final.

    Iterating raises:
        OutOfRange: more samples than the cap allows, or an absurd amplitude.
        NonFinite: NaN or infinity in a float file, with its frame.
        CorruptAudio: undecodable, or fewer frames than the file declares; where damage is read
            around, only if nothing could be read.
        EmptyInput: no samples after decoding, or after resampling.
        SourceUnreachable: the disk or share stopped answering.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        max_seconds: float,
        target_rate_hz: int,
        resampler: str,
        selection: Selection,
        watch: Callable[[Block], None] | None = None,
    ) -> None:
        self.header = reader.header
        self.num_source_frames = 0
        self._reader = reader
        self._max_seconds = max_seconds
        self._target_rate_hz = target_rate_hz
        self._resampler = resampler
        self._watch = watch
        self._selection = selection

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far, at the source rate."""
        return self.num_source_frames / self.header.sample_rate_hz

    @property
    def has_cancelling_channels(self) -> bool:
        """Return whether the channels cancelled each other out anywhere so far."""
        return self._selection.mixer.has_cancelled

    @property
    def is_one_sound(self) -> bool:
        """Return whether split channels were all the same, so that their mix is transcribed."""
        return isinstance(self._selection, Split) and self._selection.is_one_sound

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Return what is transcribed apart, once all was read; empty for a mixed recording."""
        return self._selection.lanes if isinstance(self._selection, Split) else ()

    @property
    def losses(self) -> list[Lost]:
        """Return what damage took so far; empty where damage is refused."""
        return self._reader.losses.found if self._reader.losses is not None else []

    def __iter__(self) -> Iterator[Samples]:
        with self:
            num_samples = 0
            for samples in self._converted():
                if len(samples):
                    num_samples += len(samples)
                    yield samples
            self._check_end(num_samples)

    def _converted(self) -> Iterator[Samples]:
        """Yield the target's samples.

        Where the rate, the channels or the sample type change a new converter begins; what the
        old one's filter held back, a millisecond, is dropped, as the ffmpeg command does.
        """
        converters: list[ToMono] = []
        kind: tuple[object, ...] = ()
        lanes: SideBySide | None = None
        for block in self._reader.blocks():
            accepted = self._accept(block)
            found = (block.rate_hz, block.layout, block.samples.dtype)
            with translated(self.header.path):
                apart = self._selection.lanes_of(accepted)
                if found != kind:
                    converters = [self._converter(first) for first in apart]
                    kind = found
                pieces = [each.convert(lane) for each, lane in zip(converters, apart, strict=True)]
            if lanes is None and len(pieces) > 1:
                lanes = SideBySide(len(pieces))
            yield _joined(lanes, pieces)
        if converters:
            yield _joined(lanes, [each.finish() for each in converters])
        if lanes is not None:
            yield lanes.finish()

    def _converter(self, first: Block) -> ToMono:
        return make_converter(self._resampler, first, self._target_rate_hz)

    def _accept(self, block: Block) -> Block:
        """Count a block, check it and show it."""
        header = self.header
        first_frame = self.num_source_frames
        self.num_source_frames += round(len(block.samples) * header.sample_rate_hz / block.rate_hz)
        check_frames(self.num_source_frames, header.sample_rate_hz, self._max_seconds, header.path)
        if block.is_float:
            block = self._finite(block, first_frame)
        if self._watch is not None:
            self._watch(block)
        return block

    def _finite(self, block: Block, first_frame: int) -> Block:
        """Refuse absurd samples; where damage is read around they are noted and become silence."""
        is_sane = np.abs(block.samples) <= MAX_AMPLITUDE  # False for NaN
        if is_sane.all():
            return block
        losses = self._reader.losses
        if losses is None:
            raise not_sane(block, is_sane, first_frame, self.header.path)
        frame = first_frame + int(np.argmin(is_sane.all(axis=1)))
        duration_s = int((~is_sane).any(axis=1).sum()) / block.rate_hz
        losses.add(
            frame / self.header.sample_rate_hz, duration_s, "no finite samples", is_kept=True
        )
        return replace(block, samples=np.where(is_sane, block.samples, 0))

    def _check_end(self, num_samples: int) -> None:
        """Refuse a recording that ended too early or without a sample."""
        path, losses = self.header.path, self._reader.losses
        if losses is not None:
            self._note_end(losses)
        else:
            least = self._reader.least_frames
            if least is not None and self.num_source_frames < least:
                limit = f"must hold the {self.header.num_frames} frames that it declares"
                raise CorruptAudio(path, limit, self.num_source_frames)
        if self.num_source_frames == 0:
            if losses is not None and losses.found:
                raise CorruptAudio(path, "must hold audio that decodes", losses.found[0].reason)
            raise EmptyInput(path, "must have at least one sample after decoding", 0)
        if num_samples == 0:
            limit = f"must have at least one sample after resampling to {self._target_rate_hz} Hz"
            raise EmptyInput(path, limit, 0)

    def _note_end(self, losses: Losses) -> None:
        """Note what is missing at the end, as far as the file declares its length."""
        rate_hz, data, reason = self.header.sample_rate_hz, self._reader.data, "the file ends early"
        least = self._reader.least_frames
        if least is not None and self.num_source_frames < least:
            declared_s = (self.header.num_frames or least) / rate_hz
            missing_s = declared_s - self.duration_s - losses.missing_s
            if missing_s * rate_hz >= 1:
                losses.add(self.duration_s, missing_s, reason)
        elif data is not None and data.is_cut_off:
            losses.add(self.duration_s, None, reason)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def load_audio(
    path: PathLike,
    *,
    max_seconds: float = 30.0,
    target_rate_hz: int = SAMPLE_RATE_HZ,
    auto_resample: bool = True,
    resampler: str = "ffmpeg",
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
            check_ceiling(header.num_frames, header.path)
        blocks: list[Samples] = []
        num_samples = 0
        for samples in recording:
            blocks.append(samples)
            num_samples += len(samples)
            check_ceiling(max(num_samples, recording.num_source_frames), header.path)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), header


def _joined(lanes: SideBySide | None, pieces: list[Samples]) -> Samples:
    """Return the next samples of all lanes."""
    if lanes is None:
        return pieces[0]
    for lane, samples in enumerate(pieces):
        lanes.push(lane, samples)
    return lanes.take()
