"""The transducer's prediction network in MLX: an embedding and LSTM layers over found labels.

Shapes: R rows, L layers, H width. Everything is float32, whatever the encoder computes in: it is
small, and rounding here is what makes two close labels tie.
"""

import mlx.core as mx
from mlx import nn

from worker.models.parakeet.config import TransducerConfig


class LSTMCell(nn.Module):
    """One layer for one step; gates are input, forget, cell, output, as in PyTorch and MLX."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.Wx = mx.zeros((4 * width, width))
        self.Wh = mx.zeros((4 * width, width))
        self.bias = mx.zeros((4 * width,))

    def __call__(self, x: mx.array, hidden: mx.array, cell: mx.array) -> tuple[mx.array, mx.array]:
        """Return hidden and cell state (R, H) after input x (R, H)."""
        gates = x @ self.Wx.T + hidden @ self.Wh.T + self.bias
        taken, kept, new, shown = mx.split(gates, 4, axis=-1)
        cell = mx.sigmoid(kept) * cell + mx.sigmoid(taken) * mx.tanh(new)
        return mx.sigmoid(shown) * mx.tanh(cell), cell


class Predictor(nn.Module):
    """What the labels so far say of the next one."""

    def __init__(self, config: TransducerConfig, num_labels: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_labels + 1, config.predictor_width)
        self.lstm = [LSTMCell(config.predictor_width) for _ in range(config.predictor_layers)]

    def __call__(
        self, labels: mx.array, hidden: mx.array, cell: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return the output (R, H) and both states (R, L, H) after one more label a row (R,)."""
        x = self.embed(labels)
        states = []
        for layer, lstm in enumerate(self.lstm):
            x, after = lstm(x, hidden[:, layer], cell[:, layer])
            states.append((x, after))
        return x, mx.stack([each for each, _ in states], 1), mx.stack([c for _, c in states], 1)

    def start(self, blank: int) -> tuple[mx.array, mx.array, mx.array]:
        """Return output and states of one row that has found nothing: the blank, read from zero.

        Published models store zeros as the blank's embedding.
        """
        zeros = mx.zeros((1, len(self.lstm), self.embed.weight.shape[1]))
        return self(mx.array([blank]), zeros, zeros)
