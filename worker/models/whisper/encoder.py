"""Whisper's audio encoder in MLX: log-mel windows to states, a few layers at a time.

Shapes: B windows, S = 1500 audio positions, D width.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from mlx import nn

from worker.models.whisper.layers import EncoderBlock, Norm, gelu
from worker.models.whisper.step_kernels import PlainKernels
from worker.models.whisper.weights.parameters import Dimensions, sinusoids

# That are handed over between two steps: turbo's 32 layers in eight parts, of 9 ms each for 16 windows
# (H200), beside steps of 2.7 ms.
LAYERS_PER_PART = 4


class AudioEncoder(nn.Module):
    """Two convolutions (the second halves the frame rate), positions, transformer blocks."""

    def __init__(self, dims: Dimensions, dtype: mx.Dtype) -> None:
        super().__init__()
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        # OpenAI's checkpoints hold the positions in float16; the reference computes with these.
        positions = sinusoids(dims.n_audio_ctx, width).astype(np.float16)
        self._positions = mx.array(positions).astype(dtype)
        self.blocks = [EncoderBlock(width, dims.n_audio_head) for _ in range(dims.n_audio_layer)]
        self.ln_post = Norm(width)

    @property
    def num_parts(self) -> int:
        """How much `in_parts` yields."""
        return -(-len(self.blocks) // LAYERS_PER_PART)

    def in_parts(self, mel: mx.array, kernels: PlainKernels) -> Iterator[tuple[mx.array, mx.array]]:
        """Yield the residual stream after some layers, and it normalised; at last, the states.

        Args:
            mel: Log-mel windows (B, 3000, n_mels).
            kernels: Between the products.
        """
        x = gelu(self.conv2(gelu(self.conv1(mel))))
        x = (x + self._positions).astype(mx.float32)
        normed = self.blocks[0].attn_ln(x)
        following = [*(block.attn_ln for block in self.blocks[1:]), self.ln_post]
        layers = list(zip(self.blocks, following, strict=True))
        for first in range(0, len(layers), LAYERS_PER_PART):
            for block, next_norm in layers[first : first + LAYERS_PER_PART]:
                x, normed = kernels.add_and_norm(x, block.attend(normed), block.mlp_ln)
                x, normed = kernels.add_and_norm(x, block.mlp(normed), next_norm)
            yield x, normed
