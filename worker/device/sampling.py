"""The sampling parameters of rows that decode together, as arrays.

The semantics are mlx-lm's (`mlx_lm.sample_utils`), and the tests compare with its functions. They
are not used directly, for three reasons:

- they draw from MLX's global random state, so a row's text would depend on its neighbours and on
  all earlier draws; here a draw is a function of the row's seed and step;
- they take one parameter set for the whole batch, as Python scalars; here parameters are arrays,
  so a row joins or leaves by changing its entries, and shapes stay fixed;
- `import mlx_lm` also imports transformers: 580 modules and 60 MB for ten small functions.

Order, as in mlx-lm: logit bias, repetition, presence and frequency penalty on the raw logits; then,
on log-probabilities, top-p, min-p, XTC, top-k and the draw (`worker.device.filters`).
"""

import math
from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np

from producer.errors import LengthMismatch
from worker.device.filters import Stage, union
from worker.device.sampling_params import GREEDY, SamplingParams, check_integer


class BatchedSampling:
    """The parameters of `num_rows` decoding rows, as arguments of a compiled decode step.

    Attributes:
        arrays: Arguments of `process_logits` and `sample_tokens`, each with a first axis of
            `num_rows`. Empty until a row is not greedy; from then on rows that join and leave
            change its entries, never their number.
        stages: Union of the rows' stages. It decides what is computed, so a compiled step is
            kept for each value.
        vocab_size: Of the model.
        num_rows: Rows of the batch, empty ones included; these are greedy.

    Raises:
        OutOfRange: parameters that do not fit the vocabulary.
        LengthMismatch: more parameter sets than rows.
    """

    def __init__(
        self, params: Sequence[SamplingParams], vocab_size: int, num_rows: int | None = None
    ) -> None:
        num_rows = len(params) if num_rows is None else num_rows
        if len(params) > num_rows:
            raise LengthMismatch("sampling: params", f"at most {num_rows} rows", len(params))
        self.vocab_size = vocab_size
        self.num_rows = num_rows
        self.stages = Stage.NONE
        self.arrays: dict[str, mx.array] = {}
        self._rows = [GREEDY] * num_rows
        self._table = {
            name: np.array([value] * num_rows)
            for name, value in _columns(GREEDY, vocab_size).items()
        }
        self.set_rows(dict(enumerate(params)))

    def set_row(self, row: int, params: SamplingParams) -> None:
        """Replace a row's parameters from the next step on; see `set_rows`."""
        self.set_rows({row: params})

    def set_rows(self, rows: Mapping[int, SamplingParams]) -> None:
        """Replace rows' parameters from the next step on; on an error, none of them.

        Raises:
            OutOfRange: a row does not exist, or the vocabulary is too small for its parameters.
        """
        for row, params in rows.items():
            check_integer("row", row, 0, self.num_rows - 1)
            params.check_vocabulary(self.vocab_size)
        changed = {row: params for row, params in rows.items() if self._rows[row] != params}
        if not self.arrays and any(params.stages for params in changed.values()):
            self._start_arrays()
        for row, params in changed.items():
            self._rows[row] = params
            for name, value in _columns(params, self.vocab_size).items():
                self._table[name][row] = value
            if self.arrays:
                self._set_vector("logit_bias", row, params.logit_bias)
                self._set_vector("xtc_special", row, dict.fromkeys(params.xtc_special_tokens, True))
        if changed:
            self.stages = union({params.stages for params in self._rows})
        if changed and self.stages:
            self._upload()
            self._set_streams({row: params.seed for row, params in changed.items()})

    def _start_arrays(self) -> None:
        """Allocate the arrays that only non-greedy rows need; each upload has a fixed cost."""
        self.arrays["stream_keys"] = mx.zeros((self.num_rows, 2, 2), mx.uint32)
        self.arrays["logit_bias"] = mx.zeros((self.num_rows, 1), mx.float32)
        self.arrays["xtc_special"] = mx.zeros((self.num_rows, 1), mx.bool_)

    def clear_row(self, row: int) -> None:
        """Make a row greedy, so that an empty one adds no stage."""
        self.set_row(row, GREEDY)

    def _upload(self) -> None:
        for name, column in self._table.items():
            self.arrays[name] = mx.array(column[:, None])

    def _set_streams(self, seeds: Mapping[int, int]) -> None:
        """Hash each row's seed into two keys: one for the draw, one for XTC's chance."""
        keys = np.array([(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds.values()], np.uint32)
        streams = mx.vmap(lambda key: mx.random.split(key, 2))(mx.array(keys))
        self.arrays["stream_keys"][mx.array(list(seeds))] = streams

    def _set_vector(self, name: str, row: int, entries: Mapping[int, float]) -> None:
        """Write a row as wide as the vocabulary; an array is widened when first needed."""
        vectors = self.arrays[name]
        if vectors.shape[1] == 1:
            if not entries:
                return
            vectors = mx.zeros((self.num_rows, self.vocab_size), vectors.dtype)
            self.arrays[name] = vectors
        vector = np.zeros(self.vocab_size, np.float32)
        vector[list(entries)] = list(entries.values())
        vectors[row] = mx.array(vector).astype(vectors.dtype)


def _columns(params: SamplingParams, vocab_size: int) -> dict[str, np.generic]:
    """Return a row's scalars; those that are off get a value that changes nothing."""
    stages = params.stages
    penalty = {
        name: np.float32(getattr(params, name) if stage in stages else neutral)
        for name, stage, neutral in (
            ("repetition_penalty", Stage.REPETITION, 1.0),
            ("presence_penalty", Stage.PRESENCE, 0.0),
            ("frequency_penalty", Stage.FREQUENCY, 0.0),
        )
    }
    return {
        **penalty,
        "repetition_context_size": np.int32(params.repetition_context_size),
        "presence_context_size": np.int32(params.presence_context_size),
        "frequency_context_size": np.int32(params.frequency_context_size),
        "temperature": np.float32(params.temperature),
        # Above 1, so that rounding in the sums drops nothing.
        "top_p": np.float32(params.top_p if Stage.TOP_P in stages else 2.0),
        "log_min_p": np.float32(math.log(params.min_p) if Stage.MIN_P in stages else -math.inf),
        "min_tokens_to_keep": np.int32(params.min_tokens_to_keep),
        "top_k": np.int32(params.top_k if Stage.TOP_K in stages else vocab_size),
        "xtc_probability": np.float32(params.xtc_probability if Stage.XTC in stages else -1.0),
        "xtc_threshold": np.float32(params.xtc_threshold),
    }
