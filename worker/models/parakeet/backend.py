"""Which network computes with a checkpoint."""

import mlx.core as mx

from worker.device.backend import on_gpu
from worker.models.parakeet.network import Parakeet
from worker.models.parakeet.weights.parameters import Weights, dequantized


def make_network(weights: Weights, dtype: mx.Dtype, backend: str = "auto") -> Parakeet:
    """Return the network of a checkpoint with all its weights in place.

    Args:
        weights: A loaded checkpoint.
        dtype: What the encoder computes in.
        backend: `auto`, `mlx` or `numpy`.
    """
    if not on_gpu():
        # MLX's CPU backend multiplies packed weights 40 times slower than float32.
        weights = dequantized(weights)
    network = Parakeet(weights, dtype)
    mx.eval(network.parameters())
    return network
