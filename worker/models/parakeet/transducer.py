"""The transducer in MLX: a prediction network over found labels, and the joint network.

Everything is float32, whatever the encoder computes in: it is small, and rounding here is what makes
two close labels tie. A step is a few dozen small kernels, whose number is its cost: what can be
computed once is, and what follows a product is one kernel.

Shapes: R rows, H width of the predictor, J of the joint network, V tokens.
"""

import mlx.core as mx
from mlx import nn

from worker.models.parakeet.config import Config, TransducerConfig
from worker.models.parakeet.greedy import PredictorState
from worker.models.parakeet.layers import fused


class LSTMLayer(nn.Module):
    """One layer; gates are input, forget, cell, output, as in PyTorch and MLX."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.Wx = mx.zeros((4 * width, width))
        self.Wh = mx.zeros((4 * width, width))
        self.bias = mx.zeros((4 * width,))


class Transducer(nn.Module):
    """Predictor and joint network: a `greedy.Transducer`.

    Attributes:
        embed: Embedding of labels and the blank.
        lstm: Layers of the predictor.
        enc: Projects encoder states, in the encoder's dtype; once a piece.
        pred: Projects the predictor's output.
        tokens, durations: Logits of both.
    """

    def __init__(self, config: Config, head: TransducerConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(config.num_labels + 1, head.predictor_width)
        self.lstm = [LSTMLayer(head.predictor_width) for _ in range(head.predictor_layers)]
        self.enc = nn.Linear(config.encoder.width, head.joint_width)
        self.pred = nn.Linear(head.predictor_width, head.joint_width)
        self.tokens = nn.Linear(head.joint_width, config.num_labels + 1)
        self.durations = nn.Linear(head.joint_width, len(head.durations))

    def lay_out(self, blank: int) -> None:
        """Compute from the loaded weights what every step would compute anew; call it once."""
        first = self.lstm[0]
        # What the first layer's gates read of each label.
        self._read = self.embed.weight @ first.Wx.T + first.bias
        zeros = mx.zeros((1, self.embed.weight.shape[1]))
        nothing = dict.fromkeys(self._state_names(), zeros)
        # Published models store zeros as the blank's embedding.
        self._start = self.read(mx.array([blank]), mx.array([True]), nothing)
        # Else a compiled step would compute them anew each time.
        mx.eval(self._read, self._start)

    def _state_names(self) -> list[str]:
        return [f"{kind}.{at}" for at in range(len(self.lstm)) for kind in ("hidden", "cell")]

    @property
    def start(self) -> PredictorState:
        """State of one row that has found nothing: the blank, read from zero."""
        return self._start

    def logits(self, encoded: mx.array, state: PredictorState) -> tuple[mx.array, mx.array]:
        """Return logits of tokens and blank (R, V + 1), and of durations, for states (R, J)."""
        predicted = self.pred(state[f"hidden.{len(self.lstm) - 1}"])
        joined = _joined(encoded, predicted)
        return self.tokens(joined), self.durations(joined)

    def read(self, labels: mx.array, found: mx.array, state: PredictorState) -> PredictorState:
        """Return the state after labels (R,) of the rows that have found one (R,)."""
        after: PredictorState = {}
        read = self._read[labels]
        for at, layer in enumerate(self.lstm):
            if at:
                read = after[f"hidden.{at - 1}"] @ layer.Wx.T + layer.bias
            hidden, cell = state[f"hidden.{at}"], state[f"cell.{at}"]
            kept = hidden @ layer.Wh.T
            after[f"hidden.{at}"], after[f"cell.{at}"] = _cell(
                kept, read, hidden, cell, found[:, None]
            )
        return after


@fused
def _joined(encoded: mx.array, predicted: mx.array) -> mx.array:
    """Return the joint network's hidden layer (R, J)."""
    return mx.maximum(encoded.astype(mx.float32) + predicted, 0)


@fused
def _cell(
    kept: mx.array, read: mx.array, hidden: mx.array, cell: mx.array, found: mx.array
) -> tuple[mx.array, mx.array]:
    """Return hidden and cell state (R, H): new ones from gates (R, 4 H) where a label was found.

    Args:
        kept: What the gates read of the hidden state.
        read: What they read of the input.
        hidden: State before.
        cell: State before.
        found: (R, 1).
    """
    taken, forgotten, new, shown = mx.split(kept + read, 4, axis=-1)
    after = mx.sigmoid(forgotten) * cell + mx.sigmoid(taken) * mx.tanh(new)
    seen = mx.sigmoid(shown) * mx.tanh(after)
    return mx.where(found, seen, hidden), mx.where(found, after, cell)
