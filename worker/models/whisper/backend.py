"""Which network computes with a checkpoint: MLX's, or NumPy's on x86 processors."""

import mlx.core as mx

from worker.models.backend import Backend, computes_in_numpy
from worker.models.whisper.network import Whisper
from worker.models.whisper.numpy_network import NumpyWhisper
from worker.models.whisper.weights.parameters import Weights


def make_network(
    weights: Weights, dtype: mx.Dtype, backend: Backend = "auto"
) -> Whisper | NumpyWhisper:
    """Return the network of a checkpoint with all its weights in place.

    Args:
        weights: A loaded checkpoint.
        dtype: What is computed in.
        backend: `auto` is NumPy's on an x86-64 processor in float32, and MLX's elsewhere.

    Raises:
        InvalidSettings: NumPy's is asked for on a GPU, or in half precision, or of packed weights.
    """
    if computes_in_numpy(dtype, backend, is_packed=weights.quantization is not None):
        return NumpyWhisper(weights)
    network = Whisper(weights, dtype)
    mx.eval(network.parameters())
    return network
