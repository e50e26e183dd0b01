"""Parakeet's network in NumPy, for x86 processors: a `network_base.Network`.

MLX's Linux wheel brings the reference BLAS, fifty times slower than NumPy's own; see
`worker/models/whisper/numpy_network.py`. Everything is computed when it is asked for, by the calling
thread and its helpers.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.models.busy_time import counted
from worker.models.numpy_layers import Linear
from worker.models.numpy_math import FloatArray, processor_threads, shared
from worker.models.parakeet import greedy
from worker.models.parakeet.buckets import grouped
from worker.models.parakeet.ctc import collapsed
from worker.models.parakeet.network_base import Found, RowState, Samples
from worker.models.parakeet.numpy_encoder import NumpyEncoder, NumpySubsampling
from worker.models.parakeet.numpy_features import log_mel
from worker.models.parakeet.numpy_layers import Arrays, linear, sigmoid, silu
from worker.models.parakeet.numpy_transducer import NumpyTransducer
from worker.models.parakeet.requests import Encoded, Label
from worker.models.parakeet.weights.fuse import fused_arrays
from worker.models.parakeet.weights.parameters import Weights

# Steps of a call of `advance`; rows that have ended are computed no further.
STEPS = 8


class NumpyParakeet:
    """A Parakeet checkpoint in float32, with the methods of `network.Parakeet`.

    Attributes:
        busy_s: Seconds spent here so far.
    """

    def __init__(self, weights: Weights) -> None:
        self.config = config = weights.config
        self.busy_s = 0.0
        self._threads = processor_threads()
        fused = fused_arrays(weights, mx.float32)
        arrays: Arrays = dict(zip(fused, shared(*fused.values()), strict=True))
        self._subsampling = NumpySubsampling(arrays, config.encoder, self._threads)
        self._encoder = NumpyEncoder(arrays, config.encoder, self._threads)
        if config.vad is not None:
            self._vad_head = [linear(arrays, f"vad_head.{name}") for name in ("proj", "out")]
            context = arrays["vad_head.ctx.weight"]
            flat = np.asfortranarray(context.reshape(len(context), -1))
            self._vad_context = Linear(flat, arrays["vad_head.ctx.bias"])
        if config.transducer is None:
            self._ctc = linear(arrays, "ctc")
        else:
            layers = config.transducer.predictor_layers
            self._transducer = NumpyTransducer(arrays, layers, config.blank)
            self._projection = linear(arrays, "transducer.enc")

    @counted
    def features(self, pieces: Sequence[Samples]) -> list[FloatArray]:
        """Return the features (frames, M) of each piece."""
        grouped(pieces, self.config)  # refuses those that are too long
        return log_mel(self.config.features, list(pieces), self._threads)

    def states(self, pieces: Sequence[Samples]) -> list[FloatArray]:
        """Return the encoder's states (frames, D) of each piece."""
        return self._states(self.features(pieces))

    @counted
    def _states(self, mels: list[FloatArray]) -> list[FloatArray]:
        return self._encoder(self._subsampled(mels))

    def _subsampled(self, mels: list[FloatArray]) -> list[FloatArray]:
        """Return the subsampled features of each piece; none of a piece without frames."""
        made = iter(self._subsampling([mel for mel in mels if len(mel)]))
        nothing = np.zeros((0, self.config.encoder.width), np.float32)
        return [next(made) if len(mel) else nothing for mel in mels]

    num_encoder_parts = 1

    def encode_in_parts(self, pieces: Sequence[Samples]) -> Generator[None, None, list[Encoded]]:
        """Compute all of it: nothing is stepped here while pieces are encoded."""
        encoded = self.encode(pieces)
        yield
        return encoded

    def encode(self, pieces: Sequence[Samples]) -> list[Encoded]:
        """Return the encoder's output, and the joint network's share of it."""
        states = self.states(pieces)
        projected = [self._projected(each) for each in states]
        return [Encoded(each, len(each)) for each in projected]

    @counted
    def _projected(self, states: FloatArray) -> FloatArray:
        return self._projection.alone(states)

    def label_ctc(self, pieces: Sequence[Samples]) -> Callable[[], list[tuple[Label, ...]]]:
        """Return what returns CTC's labels."""
        found = [self._most_likely(states) for states in self.states(pieces)]
        return lambda: [collapsed(*each, self.config.blank) for each in found]

    @counted
    def _most_likely(self, states: FloatArray) -> tuple[Any, Any]:
        return greedy.most_likely(np, self._ctc.alone(states))

    def hear_speech(self, pieces: Sequence[Samples]) -> Callable[[], list[NDArray[np.float32]]]:
        """Return what returns how likely somebody speaks in each frame."""
        found = self._heard(self.features(pieces))
        return lambda: found

    @counted
    def _heard(self, mels: list[FloatArray]) -> list[FloatArray]:
        return [self._vad(each) for each in self._subsampled(mels)]

    def _vad(self, subsampled: FloatArray) -> FloatArray:
        if not len(subsampled):
            return np.zeros(0, np.float32)
        proj, out = self._vad_head
        width = self.config.vad.kernel_size if self.config.vad is not None else 1
        x = np.pad(silu(proj.alone(subsampled)), ((width // 2, width // 2), (0, 0)))
        near = np.lib.stride_tricks.sliding_window_view(x, width, axis=0).swapaxes(1, 2)
        heard = silu(self._vad_context.alone(near.reshape(len(subsampled), -1)))
        return sigmoid(out.alone(heard))[:, 0]

    def start_rows(self, encoded: Sequence[Encoded]) -> RowState:
        """Return the state of rows at the start of their pieces."""
        # A piece of no frames stands on one that it never reads.
        states = [
            each.states if each.num_frames else np.zeros((1, each.states.shape[1]), np.float32)
            for each in encoded
        ]
        num_frames = [each.num_frames for each in encoded]
        return greedy.start_rows(np, states, num_frames, self._transducer)

    def move_rows(self, states: Sequence[RowState], places: Sequence[int]) -> RowState:
        """Return the rows of some states, put together and taken in the order of `places`."""
        return greedy.move_rows(np, states, places)

    @counted
    def advance(self, state: RowState) -> tuple[RowState, Callable[[], Found]]:
        """Take some steps of all rows; what is returned second returns what they found."""
        head, blank = self.config.transducer, self.config.blank
        assert head is not None  # noqa: S101 for mypy; CTC models take no steps
        nothing = np.zeros((0, len(state["time"])), np.int32)
        found: list[tuple[Any, ...]] = []
        while len(found) < STEPS and (state["time"] < state["num_frames"]).any():
            state, each = greedy.step(np, state, head, blank, self._transducer)
            found.append(each)
        columns = [np.array(each) for each in zip(*found, strict=True)] or [nothing] * 4
        tokens, frames, durations, logprobs = columns
        has_ended = state["time"] >= state["num_frames"]
        return state, lambda: Found(tokens, frames, durations, logprobs, has_ended)
