"""Subsampling in MLX: eight mel frames become an encoder frame, in strided convolutions.

Shapes: B pieces of T encoder frames (8 T mel frames), M mel bins, D width of the encoder, C channels.
"""

import mlx.core as mx
from mlx import nn

from worker.models.parakeet.config import EncoderConfig
from worker.models.parakeet.layers import fused, is_within

KERNEL = 3  # each side
NEIGHBOURS = 4  # that the first convolution reads, each side; the last ones count for nothing


class Subsampling(nn.Module):
    """Strided convolutions, the later ones depthwise and pointwise, then a linear layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        channels = config.subsampling_channels
        self.first = nn.Linear(NEIGHBOURS * NEIGHBOURS, channels)
        later = range(config.num_strided - 1)
        self.depthwise = [
            nn.Conv2d(channels, channels, KERNEL, stride=2, padding=1, groups=channels)
            for _ in later
        ]
        self.pointwise = [nn.Linear(channels, channels) for _ in later]
        self.out = nn.Linear(channels * config.subsampled_bins, config.width)

    def num_frames(self, num_mels: mx.array) -> mx.array:
        """Return the encoder frames of so many mel frames."""
        for _ in range(1 + len(self.depthwise)):
            num_mels = (num_mels + 1) // 2
        return num_mels

    def __call__(self, mel: mx.array, num_frames: mx.array) -> mx.array:
        """Return (B, T, D) of features (B, 8 T, M) of pieces of so many mel frames (B,)."""
        num_frames = (num_frames + 1) // 2
        x = _masked(self.first(_neighbours(mel)), num_frames)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            num_frames = (num_frames + 1) // 2
            x = _masked(pointwise(depthwise(x)), num_frames)
        # The linear layer reads channels, and bins within each.
        x = x.swapaxes(2, 3).reshape(*x.shape[:2], -1)
        return self.out(x)


def _neighbours(mel: mx.array) -> mx.array:
    """Return the 4 x 4 neighbours of every other place of (B, T, M), (B, T / 2, M / 2, 16).

    One input channel makes no convolution that a GPU is fast at, but a good product; nine numbers
    do not lie as it reads them.
    """
    padded = mx.pad(mel, [(0, 0), (1, 2), (1, 2)])
    batch, length, width = padded.shape
    places = ((mel.shape[1] + 1) // 2, (mel.shape[2] + 1) // 2)
    shape = (batch, *places, NEIGHBOURS, NEIGHBOURS)
    strides = (length * width, 2 * width, 2, width, 1)
    return mx.as_strided(padded, shape, strides).reshape(*shape[:3], -1)


def _masked(x: mx.array, num_frames: mx.array) -> mx.array:
    """Return what is positive of x (B, T, M, C) within pieces of so many frames (B,)."""
    return _masked_relu(x, is_within(num_frames, x.shape[1])[..., None, None])


@fused
def _masked_relu(x: mx.array, mask: mx.array) -> mx.array:
    """Return what is positive of x where the mask holds."""
    return mx.where(mask, mx.maximum(x, 0), 0).astype(x.dtype)
