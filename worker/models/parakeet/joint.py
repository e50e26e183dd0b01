"""The transducer's joint network in MLX: what encoder and predictor say together.

The encoder's share is projected once a piece, with the encoder; the rest is float32.
"""

import mlx.core as mx
from mlx import nn

from worker.models.parakeet.config import Config


class Joint(nn.Module):
    """Logits of tokens, the blank and durations.

    Attributes:
        enc: Projects encoder states, in the encoder's dtype.
        pred: Projects the predictor's output.
        out: Logits of both, tokens and blank first, durations last.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        head = config.transducer
        assert head is not None  # noqa: S101 for mypy; CTC models have no joint network
        self.enc = nn.Linear(config.encoder.width, head.joint_width)
        self.pred = nn.Linear(head.predictor_width, head.joint_width)
        self.out = nn.Linear(head.joint_width, config.num_labels + 1 + len(head.durations))

    def __call__(self, encoded: mx.array, predicted: mx.array) -> mx.array:
        """Return logits (R, V + 1 + durations) of projected states and outputs, each (R, J)."""
        return self.out(mx.maximum(encoded.astype(mx.float32) + predicted, 0))
