"""Whisper's audio encoder in NumPy: a window is shared out among threads."""

import itertools
from collections.abc import Callable

import numpy as np

from worker.models.numpy_layers import Linear
from worker.models.numpy_math import (
    QUERIES_PER_BLOCK,
    FloatArray,
    Threads,
    attend,
    blocks,
    gelu,
)
from worker.models.whisper.numpy_layers import (
    Arrays,
    Block,
    convolution,
    encoder_block,
    norm,
)
from worker.models.whisper.weights.parameters import Dimensions, sinusoids

# Most positions that a thread carries through a layer at once: the BLAS copies a layer's weight anew
# for each block.
POSITIONS_PER_BLOCK = 750


class NumpyEncoder:
    """Two convolutions (the second halves the frame rate), positions, transformer blocks.

    Threads share the positions of a window; each carries a block of them through a layer.
    """

    def __init__(self, arrays: Arrays, dims: Dimensions, threads: Threads) -> None:
        self._threads = threads
        self._width, self._num_heads = dims.n_audio_state, dims.n_audio_head
        self._convolutions = [convolution(arrays, f"encoder.conv{number}") for number in (1, 2)]
        # OpenAI's checkpoints hold the positions in float16; the reference computes with these.
        positions = sinusoids(dims.n_audio_ctx, dims.n_audio_state).astype(np.float16)
        self._positions = positions.astype(np.float32)
        self._blocks = [
            encoder_block(arrays, f"encoder.blocks.{layer}", dims.n_audio_head)
            for layer in range(dims.n_audio_layer)
        ]
        self._ln_post = norm(arrays, "encoder.ln_post")

    def __call__(self, mel: FloatArray) -> FloatArray:
        """Return the states (S, D) of a log-mel window (3000, n_mels)."""
        first, second = self._convolutions
        x = self._convolve(self._convolve(mel, first, stride=1), second, stride=2)
        x += self._positions
        for block in self._blocks:
            self._attend(block, x)
            self._transform(block, x)
        return self._ln_post(x)

    def _convolve(self, x: FloatArray, layer: Linear, stride: int) -> FloatArray:
        """Return the GELU of a convolution of x (T, C) by three neighbours, (T / stride, D)."""
        padded = np.pad(x, ((1, 1), (0, 0)))
        # Neighbours follow each other in memory: (T / stride, 3 C).
        shape, strides = (len(x) // stride, 3 * x.shape[1]), (stride * padded.strides[0], 4)
        neighbours = np.lib.stride_tricks.as_strided(padded, shape, strides, writeable=False)
        convolved = np.empty((len(neighbours), len(layer.bias)), np.float32)

        def compute(part: slice) -> None:
            convolved[part] = gelu(layer.alone(np.ascontiguousarray(neighbours[part])))

        self._in_blocks(compute, len(neighbours))
        return convolved

    def _attend(self, block: Block, x: FloatArray) -> None:
        """Add self-attention to x (S, D)."""
        width = self._width
        queries, values, read = (np.empty_like(x) for _ in range(3))
        # Keys are (D, S), as the product with queries reads them fastest.
        keys = np.empty((width, len(x)), np.float32)

        def project(part: slice) -> None:
            q, k, v = np.split(block.qkv.alone(block.attn_ln(x[part])), 3, axis=1)
            queries[part], keys[:, part], values[part] = q, k.T, v

        def read_head(head: slice, part: slice) -> None:
            attend(queries[part, head], keys[head], values[:, head], None, read[part, head])

        def add(part: slice) -> None:
            x[part] += block.out.alone(read[part])

        self._in_blocks(project, len(x))
        heads = blocks(width, width // self._num_heads)
        self._threads.run(read_head, itertools.product(heads, blocks(len(x), QUERIES_PER_BLOCK)))
        self._in_blocks(add, len(x))

    def _transform(self, block: Block, x: FloatArray) -> None:
        """Add the MLP to x (S, D)."""

        def add(part: slice) -> None:
            rows = x[part]
            rows += block.down.alone(gelu(block.up.alone(block.mlp_ln(rows))))

        self._in_blocks(add, len(x))

    def _in_blocks(self, compute: Callable[[slice], None], length: int) -> None:
        size = min(POSITIONS_PER_BLOCK, -(-length // self._threads.count))
        self._threads.run(compute, [(part,) for part in blocks(length, size)])
