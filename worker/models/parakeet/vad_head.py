"""The voice activity head of Parakeet Ultra in MLX: three convolutions over the subsampled input."""

import mlx.core as mx
from mlx import nn

from worker.models.parakeet.config import VadConfig
from worker.models.parakeet.layers import silu


class VadHead(nn.Module):
    """Linear, SiLU, a convolution in time, SiLU, linear, sigmoid."""

    def __init__(self, config: VadConfig, encoder_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(encoder_width, config.width)
        self.ctx = nn.Conv1d(
            config.width, config.width, config.kernel_size, padding=config.kernel_size // 2
        )
        self.out = nn.Linear(config.width, 1)

    def __call__(self, subsampled: mx.array, is_frame: mx.array) -> mx.array:
        """Return how likely somebody speaks, float32 (B, T), of (B, T, D) and frames (B, T)."""
        x = mx.where(is_frame[..., None], silu(self.proj(subsampled)), 0).astype(subsampled.dtype)
        x = self.out(silu(self.ctx(x)))
        return mx.sigmoid(x.astype(mx.float32))[..., 0]
