"""The transducer in NumPy; see `transducer.py`.

Rows go through it eight at a time, so that a row gives the same numbers alone and among others: a
BLAS sums in another order for another number of rows. Only rows that have found a label are read.
"""

from typing import Any

import numpy as np

from worker.models.numpy_layers import Linear, for_few_rows
from worker.models.numpy_math import FEW_ROWS, FloatArray, processor_threads, product
from worker.models.parakeet.greedy import PredictorState
from worker.models.parakeet.numpy_layers import Arrays, sigmoid


class NumpyTransducer:
    """Predictor and joint network: a `greedy.Transducer`.

    Attributes:
        start: State of one row that has found nothing: the blank, read from zero.
    """

    start: PredictorState

    def __init__(self, arrays: Arrays, num_layers: int, blank: int) -> None:
        self._threads = processor_threads()
        self._embedding = arrays["transducer.embed.weight"]
        self._lstm = [_lstm_layer(arrays, f"transducer.lstm.{at}") for at in range(num_layers)]
        self._pred, self._tokens, self._durations = (
            Linear(for_few_rows(arrays[f"{name}.weight"]), arrays[f"{name}.bias"])
            for name in ("transducer.pred", "transducer.tokens", "transducer.durations")
        )
        zeros = np.zeros((1, self._embedding.shape[1]), np.float32)
        nothing = {f"{kind}.{at}": zeros for at in range(num_layers) for kind in ("hidden", "cell")}
        self.start = self.read(np.array([blank]), np.array([True]), nothing)

    def logits(self, encoded: FloatArray, state: PredictorState) -> tuple[FloatArray, FloatArray]:
        """Return logits of tokens and blank (R, V + 1), and of durations, for states (R, J)."""
        predicted = self._linear(state[f"hidden.{len(self._lstm) - 1}"], self._pred)
        joined = np.maximum(encoded + predicted, 0)
        return self._linear(joined, self._tokens), self._linear(joined, self._durations)

    def read(self, labels: Any, found: Any, state: PredictorState) -> PredictorState:
        """Return the state after labels (R,) of the rows that have found one (R,)."""
        rows = np.flatnonzero(found)
        if not rows.size:
            return {}
        after: PredictorState = {}
        x = self._embedding[labels[rows]]
        for at, layer in enumerate(self._lstm):
            hidden, cell = state[f"hidden.{at}"].copy(), state[f"cell.{at}"].copy()
            gates = self._linear(np.concatenate([x, hidden[rows]], axis=1), layer)
            taken, forgotten, new, shown = np.split(gates, 4, axis=1)
            kept = sigmoid(forgotten) * cell[rows] + sigmoid(taken) * np.tanh(new)
            x = sigmoid(shown) * np.tanh(kept)
            hidden[rows], cell[rows] = x, kept
            after[f"hidden.{at}"], after[f"cell.{at}"] = hidden, cell
        return after

    def _linear(self, x: FloatArray, layer: Linear) -> FloatArray:
        """Return a layer's output of x (R, D)."""
        parts = []
        for first in range(0, len(x), FEW_ROWS):
            part = x[first : first + FEW_ROWS]
            missing = FEW_ROWS - len(part)
            whole = np.pad(part, ((0, missing), (0, 0))) if missing else part
            parts.append(product(whole, layer.weight, self._threads)[: len(part)])
        result: FloatArray = np.concatenate(parts) + layer.bias
        return result


def _lstm_layer(arrays: Arrays, name: str) -> Linear:
    """Return a layer's gates as a linear layer of input and hidden state."""
    weight = np.concatenate([arrays[f"{name}.Wx"], arrays[f"{name}.Wh"]], axis=1)
    return Linear(for_few_rows(weight), arrays[f"{name}.bias"])
