"""Which network computes with a checkpoint: MLX's, or NumPy's on x86 processors."""

import mlx.core as mx

from worker.device.backend import on_gpu
from worker.models.backend import Backend, computes_in_numpy
from worker.models.parakeet.network import Parakeet
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.weights.parameters import Weights, dequantized


def make_network(
    weights: Weights, dtype: mx.Dtype, backend: Backend = "auto"
) -> Parakeet | NumpyParakeet:
    """Return the network of a checkpoint with all its weights in place.

    Args:
        weights: A loaded checkpoint; packed weights are unpacked on a CPU.
        dtype: What the encoder computes in.
        backend: `auto` is NumPy's on an x86-64 processor in float32, and MLX's elsewhere.

    Raises:
        InvalidSettings: NumPy's is asked for on a GPU, or in half precision.
    """
    if not on_gpu():
        # MLX's CPU backend multiplies packed weights 40 times slower than float32.
        weights = dequantized(weights)
    if computes_in_numpy(dtype, backend, is_packed=weights.quantization is not None):
        return NumpyParakeet(weights)
    network = Parakeet(weights, dtype)
    mx.eval(network.parameters())
    return network
