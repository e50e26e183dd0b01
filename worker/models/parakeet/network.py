"""Parakeet's network in MLX: a `network_base.Network`."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from worker.device.backend import on_gpu, translated_errors, with_translated_errors
from worker.device.sending import send_written
from worker.engine.parts import run_through
from worker.models.parakeet import greedy
from worker.models.parakeet.buckets import grouped, padded_shape, write_padded
from worker.models.parakeet.ctc import collapsed
from worker.models.parakeet.encoder import Encoder
from worker.models.parakeet.features import log_mel
from worker.models.parakeet.layers import is_within
from worker.models.parakeet.network_base import Found, RowState, Samples
from worker.models.parakeet.requests import Encoded, Label
from worker.models.parakeet.transducer import Transducer
from worker.models.parakeet.vad_head import VadHead
from worker.models.parakeet.weights.fuse import fused_arrays
from worker.models.parakeet.weights.parameters import Weights

# Steps of a call of `advance`: a piece of 30 s takes 100 to 250. On a GPU the host's share of a call
# hides behind this many; on a CPU a row that has ended costs as much as one that has not.
STEPS_ON_GPU = 16
STEPS_ON_CPU = 4


class Parakeet(nn.Module):
    """A Parakeet checkpoint, ready to encode pieces and decode rows: a `Network`.

    Args:
        weights: Loaded and checked.
        dtype: What the encoder computes in; the heads compute in float32.

    Attributes:
        busy_s: Seconds that were spent here computing: none, MLX computes in threads of its own.
    """

    def __init__(self, weights: Weights, dtype: mx.Dtype = mx.float32) -> None:
        super().__init__()
        config = weights.config
        self.config = config
        self.busy_s = 0.0
        self._dtype = dtype
        self.encoder = Encoder(config.encoder)
        if config.vad is not None:
            self.vad_head = VadHead(config.vad, config.encoder.width)
        if config.transducer is None:
            self.ctc = nn.Linear(config.encoder.width, config.num_labels + 1)
        else:
            self.transducer = Transducer(config, config.transducer)
        self._load(fused_arrays(weights, dtype), weights.quantization)
        self._num_steps = STEPS_ON_GPU if on_gpu() else STEPS_ON_CPU
        self._step = mx.compile(self._take_step) if on_gpu() else self._take_step

    def _load(self, arrays: dict[str, mx.array], quantization: dict[str, int] | None) -> None:
        if quantization is not None:
            nn.quantize(
                self, **quantization, class_predicate=lambda path, _: f"{path}.scales" in arrays
            )
        self.load_weights(list(arrays.items()))
        if self.config.transducer is not None:
            self.transducer.lay_out(self.config.blank)

    def states(self, pieces: Sequence[Samples]) -> list[mx.array]:
        """Start features and encoder alone; (frames, D) of each piece, with its padding."""
        return self._by_piece(pieces, self.encoder)

    @property
    def num_encoder_parts(self) -> int:
        """In how many parts `encode_in_parts` starts pieces of one bucket."""
        return self.encoder.num_parts

    def encode_in_parts(self, pieces: Sequence[Samples]) -> Generator[None, None, list[Encoded]]:
        """Start `encode` part by part, one each time it is resumed."""
        states: list[Any] = [None] * len(pieces)
        for bucket, indices in grouped(pieces, self.config).items():
            subsampled, num_frames = self._subsampled(pieces, indices, bucket)
            x = subsampled
            for x in self.encoder.in_parts(subsampled, num_frames):
                mx.async_eval(x)
                yield
            projected = self.transducer.enc(x)
            mx.async_eval(projected)
            for index, row in zip(indices, projected, strict=True):
                states[index] = row
        lengths = [self.config.num_frames(samples.size) for samples in pieces]
        return [Encoded(*each) for each in zip(states, lengths, strict=True)]

    def encode(self, pieces: Sequence[Samples]) -> list[Encoded]:
        """Start features and encoder, and the joint network's share of it; waits for nothing."""
        return run_through(with_translated_errors(self.encode_in_parts(pieces)))

    def label_ctc(self, pieces: Sequence[Samples]) -> Callable[[], list[tuple[Label, ...]]]:
        """Start everything up to CTC's labels; what is returned waits for them."""

        def compute(subsampled: mx.array, num_frames: mx.array) -> tuple[mx.array, mx.array]:
            states = self.encoder(subsampled, num_frames).astype(mx.float32)
            return greedy.most_likely(mx, self.ctc(states))

        found = self._by_piece(pieces, compute)

        def read() -> list[tuple[Label, ...]]:
            with translated_errors():
                arrays = [(np.array(tokens), np.array(logprobs)) for tokens, logprobs in found]
            lengths = [self.config.num_frames(samples.size) for samples in pieces]
            return [
                collapsed(tokens[:length], logprobs[:length], self.config.blank)
                for (tokens, logprobs), length in zip(arrays, lengths, strict=True)
            ]

        return read

    def hear_speech(self, pieces: Sequence[Samples]) -> Callable[[], list[NDArray[np.float32]]]:
        """Start the voice activity head; what is returned waits for probabilities a frame."""

        def compute(subsampled: mx.array, num_frames: mx.array) -> mx.array:
            return self.vad_head(subsampled, is_within(num_frames, subsampled.shape[1]))

        found = self._by_piece(pieces, compute)

        def read() -> list[NDArray[np.float32]]:
            with translated_errors():
                return [
                    np.array(each)[: self.config.num_frames(samples.size)]
                    for samples, each in zip(pieces, found, strict=True)
                ]

        return read

    def _by_piece(self, pieces: Sequence[Samples], compute: Callable[..., Any]) -> list[Any]:
        """Start computing from the subsampled input on, and return what each piece gets of it."""
        found: list[Any] = [None] * len(pieces)
        with translated_errors():
            for bucket, indices in grouped(pieces, self.config).items():
                rows = compute(*self._subsampled(pieces, indices, bucket))
                mx.async_eval(rows)
                rows = list(zip(*rows, strict=True)) if isinstance(rows, tuple) else list(rows)
                for index, row in zip(indices, rows, strict=True):
                    found[index] = row
        return found

    def _subsampled(
        self, pieces: Sequence[Samples], indices: Sequence[int], bucket: int
    ) -> tuple[mx.array, mx.array]:
        """Return the encoder's input (B, T, D) of pieces of one bucket, and their frames (B,)."""
        mel, num_mels = self.features([pieces[index] for index in indices], bucket)
        subsampled = self.encoder.pre_encode(mel.astype(self._dtype), num_mels)
        return subsampled, self.encoder.pre_encode.num_frames(num_mels)

    def features(self, pieces: Sequence[Samples], bucket: int) -> tuple[mx.array, mx.array]:
        """Return features (B, 8 bucket, M) of pieces of one bucket, and their mel frames (B,)."""
        shape = padded_shape(len(pieces), bucket, self.config)
        rows = send_written(shape, partial(write_padded, pieces=pieces, config=self.config))
        num_samples = mx.array([samples.size for samples in pieces], mx.int32)
        # Uploads first, and apart from what is computed: hardly two batches are cut alike.
        mx.async_eval(rows, num_samples)
        mel = log_mel(self.config.features, rows, num_samples)
        return mel, num_samples // self.config.features.hop_length

    def start_rows(self, encoded: Sequence[Encoded]) -> RowState:
        """Return the state of rows at the start of their pieces."""
        num_frames = [each.num_frames for each in encoded]
        states = [each.states for each in encoded]
        return greedy.start_rows(mx, states, num_frames, self.transducer)

    def move_rows(self, states: Sequence[RowState], places: Sequence[int]) -> RowState:
        """Return the rows of some states, put together and taken in the order of `places`."""
        moved = greedy.move_rows(mx, states, places)
        mx.async_eval(moved)
        return moved

    def advance(self, state: RowState) -> tuple[RowState, Callable[[], Found]]:
        """Start some steps of all rows; what is returned second waits for what they found."""
        found = []
        for _ in range(self._num_steps):
            state, each = self._step(state)
            found.append(each)
        whole, logprobs = (mx.stack(list(each)) for each in zip(*found, strict=True))
        has_ended = state["time"] >= state["num_frames"]
        mx.async_eval(state, whole, logprobs, has_ended)

        def read() -> Found:
            tokens, frames, durations = np.array(whole).transpose(1, 0, 2)
            return Found(tokens, frames, durations, np.array(logprobs), np.array(has_ended))

        return state, read

    def _take_step(self, state: RowState) -> tuple[RowState, tuple[mx.array, mx.array]]:
        """Return the next state, and labels, frames and durations (3, R), and log-probabilities."""
        head, blank = self.config.transducer, self.config.blank
        assert head is not None  # noqa: S101 for mypy; CTC models take no steps
        state, found = greedy.step(mx, state, head, blank, self.transducer)
        return state, (mx.stack(list(found[:3])), found[3])
