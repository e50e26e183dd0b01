"""FastConformer in NumPy: pieces go through it layer by layer, shared out among threads.

Every piece is computed at its own length and in blocks of its own, so that none needs a mask and none
depends on the others. Shapes: T encoder frames, M mel bins, D width, C channels of the subsampling.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from worker.models.numpy_layers import Linear, by_columns
from worker.models.numpy_math import FloatArray, Threads, blocks
from worker.models.parakeet.buckets import BUCKETS, bucket_of
from worker.models.parakeet.config import EncoderConfig
from worker.models.parakeet.encoder import relative_positions
from worker.models.parakeet.numpy_layers import Arrays, Block, block, linear, sigmoid, silu
from worker.models.parakeet.subsampling import KERNEL, NEIGHBOURS

# Frames that a thread carries through a feed-forward layer at once: the widest activation, 4 D, is
# 3 MB for the 0.6b.
FRAMES_PER_BLOCK = 192
# Frames of a strided convolution at once: 64 bins and 256 channels are 1 MB.
STRIDED_PER_BLOCK = 16


class NumpySubsampling:
    """Strided convolutions, the later ones depthwise and pointwise, then a linear layer."""

    def __init__(self, arrays: Arrays, config: EncoderConfig, threads: Threads) -> None:
        self._threads = threads
        path = "encoder.pre_encode"
        # As a linear layer of nine neighbours, and as a factor for each of them.
        first = linear(arrays, f"{path}.first")
        square = first.weight.reshape(-1, NEIGHBOURS, NEIGHBOURS)[:, :KERNEL, :KERNEL]
        self._first = Linear(by_columns(square.reshape(len(square), -1)), first.bias)
        self._depthwise = [
            (
                np.ascontiguousarray(
                    arrays[f"{path}.depthwise.{stage}.weight"][..., 0].transpose(1, 2, 0)
                ),
                arrays[f"{path}.depthwise.{stage}.bias"],
                linear(arrays, f"{path}.pointwise.{stage}"),
            )
            for stage in range(config.num_strided - 1)
        ]
        self._out = linear(arrays, f"{path}.out")

    def __call__(self, mels: list[FloatArray]) -> list[FloatArray]:
        """Return (T, D) of the features (8 T, M) of each piece."""
        layers = [self._convolve, *(self._depth_layer(*each) for each in self._depthwise)]
        x = [mel[..., None] for mel in mels]
        for layer in layers:
            x = self._in_blocks(layer, x)
        return self._in_blocks(self._flatten, x, stride=1)

    def _convolve(self, windows: FloatArray) -> FloatArray:
        """Return a first convolution of the neighbours of places (T, M, 3, 3, 1)."""
        places = windows.shape[:2]
        neighbours = np.ascontiguousarray(windows).reshape(-1, KERNEL * KERNEL)
        return _positive(self._first.alone(neighbours)).reshape(*places, -1)

    def _depth_layer(
        self, weight: FloatArray, bias: FloatArray, pointwise: Linear
    ) -> Callable[[FloatArray], FloatArray]:
        def convolve(windows: FloatArray) -> FloatArray:
            total = windows[:, :, 0, 0] * weight[0, 0]
            for row, column in itertools.islice(np.ndindex(KERNEL, KERNEL), 1, None):
                total += windows[:, :, row, column] * weight[row, column]
            total += bias
            flat = total.reshape(-1, total.shape[-1])
            return _positive(pointwise.alone(flat)).reshape(total.shape)

        return convolve

    def _flatten(self, x: FloatArray) -> FloatArray:
        """Return the linear layer's output of x (T, M, C): it reads bins within channels."""
        return self._out.alone(x.swapaxes(1, 2).reshape(len(x), -1))

    def _in_blocks(
        self, compute: Callable[[FloatArray], FloatArray], pieces: list[FloatArray], stride: int = 2
    ) -> list[FloatArray]:
        """Return what `compute` makes of the pieces, or of the 3 x 3 neighbours of every other place."""
        inputs = pieces if stride == 1 else [_neighbours(piece) for piece in pieces]
        parts = [
            (index, number, part)
            for index, piece in enumerate(inputs)
            for number, part in enumerate(blocks(len(piece), STRIDED_PER_BLOCK))
        ]
        made: dict[tuple[int, int], FloatArray] = {}

        def run(index: int, number: int, part: slice) -> None:
            made[index, number] = compute(inputs[index][part])

        self._threads.run(run, parts)
        return [
            np.concatenate([made[index, number] for at, number, _ in parts if at == index])
            for index in range(len(pieces))
        ]


class NumpyEncoder:
    """Conformer blocks over subsampled features."""

    def __init__(self, arrays: Arrays, config: EncoderConfig, threads: Threads) -> None:
        self._threads = threads
        self._config = config
        self._blocks = [block(arrays, f"encoder.layers.{at}") for at in range(config.num_layers)]
        self._distances: dict[tuple[int, int], FloatArray] = {}

    def __call__(self, subsampled: list[FloatArray]) -> list[FloatArray]:
        """Return the states (T, D) of each piece."""
        scale = math.sqrt(self._config.width) if self._config.scales_input else 1.0
        states = [x * np.float32(scale) for x in subsampled]
        for number, layer in enumerate(self._blocks):
            self._transform(states, layer.first)
            self._attend(states, layer, number)
            self._convolve(states, layer)
            self._finish(states, layer)
        return states

    def _transform(
        self, states: list[FloatArray], layer: Callable[[FloatArray], FloatArray]
    ) -> None:
        """Add half of what a feed-forward layer returns."""

        def add(index: int, part: slice) -> None:
            x = states[index][part]
            x += np.float32(0.5) * layer(x)

        self._threads.run(add, _parts(states))

    def _finish(self, states: list[FloatArray], layer: Block) -> None:
        def finish(index: int, part: slice) -> None:
            x = states[index][part]
            x += np.float32(0.5) * layer.second(x)
            x[:] = layer.norm(x)

        self._threads.run(finish, _parts(states))

    def _attend(self, states: list[FloatArray], layer: Block, number: int) -> None:
        """Add what frames read of each other."""
        width, size = self._config.width, self._config.head_width
        projected = [np.empty((len(x), 3 * width), np.float32) for x in states]
        read = [np.empty_like(x) for x in states]
        distances = [self._distances_of(len(x), layer, number) for x in states]

        def project(index: int, part: slice) -> None:
            projected[index][part] = layer.qkv.alone(layer.attention_norm(states[index][part]))

        def read_head(index: int, head: slice) -> None:
            q, k, v = (each[:, head] for each in np.split(projected[index], 3, axis=1))
            at: Any = (q + layer.position_bias[head]) @ distances[index][:, head].T
            scores: Any = shifted(at) + (q + layer.content_bias[head]) @ k.T
            scores *= np.float32(size**-0.5)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1, keepdims=True)
            read[index][:, head] = (scores @ v) / total

        def add(index: int, part: slice) -> None:
            states[index][part] += layer.out.alone(read[index][part])

        parts = _parts(states)
        self._threads.run(project, parts)
        heads = itertools.product(range(len(states)), blocks(width, size))
        self._threads.run(read_head, [each for each in heads if len(states[each[0]])])
        self._threads.run(add, parts)

    def _convolve(self, states: list[FloatArray], layer: Block) -> None:
        """Add the convolution module's output."""
        around = len(layer.depthwise) // 2
        gated = [np.zeros((len(x) + 2 * around, x.shape[1]), np.float32) for x in states]

        def gate(index: int, part: slice) -> None:
            x, by = np.split(layer.gated.alone(layer.convolution_norm(states[index][part])), 2, 1)
            np.multiply(x, sigmoid(by), out=gated[index][part.start + around : part.stop + around])

        def convolve(index: int, part: slice) -> None:
            count = part.stop - part.start
            total = np.repeat(layer.depthwise_bias[None], count, axis=0)
            for at, weight in enumerate(layer.depthwise):
                total += gated[index][part.start + at : part.start + at + count] * weight
            states[index][part] += layer.pointwise.alone(silu(total))

        parts = _parts(states)
        self._threads.run(gate, parts)
        self._threads.run(convolve, parts)

    def _distances_of(self, length: int, layer: Block, number: int) -> FloatArray:
        """Return a layer's projected distances length - 1 .. 1 - length, (2 length - 1, D)."""
        longest = max(BUCKETS[-1], bucket_of(length))
        table = self._distances.get((number, longest))
        if table is None:
            positions = relative_positions(longest, self._config.width)[:-1]
            table = np.empty_like(positions)

            def project(part: slice) -> None:
                table[part] = layer.positions.alone(positions[part])

            parts = [(part,) for part in blocks(len(positions), FRAMES_PER_BLOCK)]
            self._threads.run(project, parts)
            if longest == BUCKETS[-1]:
                # Of pieces up to 30 s: 74 MB for the 0.6b, and a tenth of a piece's time.
                self._distances[number, longest] = table
        return table[longest - length : longest + length - 1]


def shifted(scores: FloatArray) -> FloatArray:
    """Return scores by distance (T, 2 T - 1) as a view by key (T, T); see `encoder.shifted`."""
    length, step = len(scores), scores.itemsize
    start = scores[:, length - 1 :]
    strides = (scores.strides[0] - step, step)
    return np.lib.stride_tricks.as_strided(start, (length, length), strides, writeable=False)


def _parts(states: list[FloatArray]) -> list[tuple[int, slice]]:
    """Return the blocks of every piece."""
    return [
        (index, part) for index, x in enumerate(states) for part in blocks(len(x), FRAMES_PER_BLOCK)
    ]


def _neighbours(x: FloatArray) -> FloatArray:
    """Return the 3 x 3 neighbours of every other place of x (T, M, C): (T / 2, M / 2, 3, 3, C)."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(0, 1))
    return windows[::2, ::2].transpose(0, 1, 3, 4, 2)


def _positive(x: FloatArray) -> FloatArray:
    """Return what is positive of x, which is overwritten."""
    return np.maximum(x, 0, out=x)
