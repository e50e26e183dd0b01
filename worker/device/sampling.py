"""Samplers and logits processors for rows that decode together, each by its own parameters.

The semantics are mlx-lm's (`mlx_lm.sample_utils`), and the tests compare with its functions. They
are not used directly, for three reasons:

- their randomness is MLX's global state, so a row's text would depend on its neighbours and on
  everything drawn before it; here a draw is a function of the row's seed and step alone;
- they take one parameter set for the whole batch, as Python scalars; here parameters are
  arrays, so a row joins or leaves by changing its entries, and shapes stay fixed;
- `import mlx_lm` brings transformers along: 580 modules and 60 MB for ten small functions.

Order, as in the field: logit bias, repetition, presence and frequency penalty on the raw logits;
then, on log-probabilities, top-p, min-p, XTC, top-k and the draw. Everything here is lazy: nothing
waits for the device, and all of it may run inside `mx.compile`.
"""

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from producer.errors import LengthMismatch, OutOfRange, RankMismatch
from worker.device.filters import Stage, process, sample

# With magnitudes in between, no chain of processors overflows float32: finite logits stay finite.
_SMALLEST = 1e-18
_LARGEST = 1e18
_INT32_MAX = 2**31 - 1


def _union(stages: Iterable[Stage]) -> Stage:
    return functools.reduce(operator.or_, stages, Stage.NONE)


def _check_real(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # NaN fails every comparison
        raise OutOfRange(f"sampling: {name}", f"a number in [{low:g}, {high:g}]", value)
    if 0 < abs(value) < _SMALLEST:
        raise OutOfRange(f"sampling: {name}", f"zero or at least {_SMALLEST:g} in size", value)


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not low <= value <= high:
        raise OutOfRange(f"sampling: {name}", f"an integer in [{low}, {high}]", value)


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one row's tokens are chosen; the defaults are greedy and change nothing.

    Attributes:
        temperature: 0 takes the most likely token and ignores the filters below.
        top_p: Keep the most likely tokens whose mass reaches this; 0 and 1 are off.
        min_p: Drop tokens below this share of the top token's probability; 0 is off.
        min_tokens_to_keep: Most likely tokens that `min_p` may not drop.
        top_k: Keep this many tokens; 0 is off.
        xtc_probability: How often XTC drops all but the least likely token above
            `xtc_threshold`; 0 is off.
        xtc_threshold: Probability from which XTC counts a token as likely.
        xtc_special_tokens: Token ids that XTC never drops.
        seed: The only source of randomness besides the step.
        logit_bias: Token id -> number added to its logit.
        repetition_penalty: Divides positive and multiplies negative logits of recent tokens;
            None, 0 and 1 are off.
        presence_penalty: Subtracted from the logits of recent tokens.
        frequency_penalty: Subtracted once for each recent occurrence.
        repetition_context_size: Tokens of history that count as recent, prompt included; at
            least 1 (mlx-lm reads 0 as the whole history, which is better said by a large number).

    Raises:
        OutOfRange: a value is outside its limits; names the field and the limit.
    """

    temperature: float = 0.0
    top_p: float = 0.0
    min_p: float = 0.0
    min_tokens_to_keep: int = 1
    top_k: int = 0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    xtc_special_tokens: tuple[int, ...] = ()
    seed: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    repetition_penalty: float | None = None
    repetition_context_size: int = 20
    presence_penalty: float | None = None
    presence_context_size: int = 20
    frequency_penalty: float | None = None
    frequency_context_size: int = 20

    # Inclusive limits; mlx-lm's, as far as it has some.
    _REALS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "temperature": (0.0, _LARGEST),
        "top_p": (0.0, 1.0),
        "min_p": (0.0, 1.0),
        "xtc_probability": (0.0, 1.0),
        "xtc_threshold": (0.0, 0.5),
        "repetition_penalty": (0.0, _LARGEST),
        "presence_penalty": (-_LARGEST, _LARGEST),
        "frequency_penalty": (-_LARGEST, _LARGEST),
    }
    _INTEGERS: ClassVar[Mapping[str, tuple[int, int]]] = {
        "min_tokens_to_keep": (1, _INT32_MAX),
        "top_k": (0, _INT32_MAX),
        "seed": (0, 2**64 - 1),
        "repetition_context_size": (1, _INT32_MAX),
        "presence_context_size": (1, _INT32_MAX),
        "frequency_context_size": (1, _INT32_MAX),
    }

    def __post_init__(self) -> None:
        for name, (low, high) in self._REALS.items():
            if (value := getattr(self, name)) is not None or not name.endswith("_penalty"):
                _check_real(name, value, low, high)
        for name, limits in self._INTEGERS.items():
            _check_integer(name, getattr(self, name), *limits)
        for token in self.xtc_special_tokens:
            _check_integer("xtc_special_tokens", token, 0, _INT32_MAX)
        for token, bias in self.logit_bias.items():
            _check_integer("logit_bias token", token, 0, _INT32_MAX)
            _check_real(f"logit_bias[{token}]", bias, -_LARGEST, _LARGEST)
        # Copies: what was checked must not change behind a frozen record.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        object.__setattr__(self, "xtc_special_tokens", tuple(self.xtc_special_tokens))

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0

    @property
    def needs_history(self) -> bool:
        """Whether `process` reads this row's earlier tokens."""
        return bool(self.stages & Stage.PENALTIES)

    @property
    def needs_filters(self) -> bool:
        """Whether any step but the draw itself changes this row's logits."""
        return bool(self.stages & ~Stage.DRAW)

    @functools.cached_property
    def stages(self) -> Stage:
        """The steps that are not neutral for this row."""
        drawn = not self.is_greedy
        wanted = {
            Stage.LOGIT_BIAS: bool(self.logit_bias),
            Stage.REPETITION: self.repetition_penalty not in (None, 0, 1),
            Stage.PRESENCE: bool(self.presence_penalty),
            Stage.FREQUENCY: bool(self.frequency_penalty),
            Stage.TOP_P: drawn and 0 < self.top_p < 1,
            Stage.MIN_P: drawn and self.min_p > 0,
            Stage.MIN_KEEP: drawn and self.min_p > 0 and self.min_tokens_to_keep > 1,
            Stage.XTC: drawn and self.xtc_probability > 0,
            Stage.TOP_K: drawn and self.top_k > 0,
            Stage.DRAW: drawn,
        }
        return _union(stage for stage, is_wanted in wanted.items() if is_wanted)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check what only a model's vocabulary can tell.

        Raises:
            OutOfRange: a token id, `top_k` or `min_tokens_to_keep` that the vocabulary lacks.
        """
        _check_integer("top_k", self.top_k, 0, vocab_size - 1)
        _check_integer("min_tokens_to_keep", self.min_tokens_to_keep, 1, vocab_size)
        for token in self.logit_bias:
            _check_integer("logit_bias token", token, 0, vocab_size - 1)
        for token in self.xtc_special_tokens:
            _check_integer("xtc_special_tokens", token, 0, vocab_size - 1)


GREEDY = SamplingParams()


def pair_logit_bias(tokens: Sequence[int], biases: Sequence[float]) -> dict[int, float]:
    """Return `SamplingParams.logit_bias` of two parallel lists; repeated tokens add up.

    Raises:
        LengthMismatch: the lists are of different lengths.
    """
    if len(tokens) != len(biases):
        constraint = f"one bias for each of {len(tokens)} tokens"
        raise LengthMismatch("sampling: logit_bias", constraint, len(biases))
    paired: dict[int, float] = {}
    for token, bias in zip(tokens, biases, strict=True):
        paired[token] = paired.get(token, 0.0) + bias
    return paired


class BatchedSampling:
    """The parameters of `num_rows` decoding rows as arrays, and the two steps that use them.

    `arrays` is an argument of the compiled step: it is empty until a row is not greedy; from then
    on rows that come and go change its entries, never their number. What is computed depends on `stages`, the union over
    rows, so keep one compiled step per value of `stages`.

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
        """Give a row other parameters, from the next step on; see `set_rows`."""
        self.set_rows({row: params})

    def set_rows(self, rows: Mapping[int, SamplingParams]) -> None:
        """Give rows other parameters, from the next step on; all of them or, on an error, none.

        Raises:
            OutOfRange: a row does not exist, or the vocabulary is too small for its parameters.
        """
        for row, params in rows.items():
            _check_integer("row", row, 0, self.num_rows - 1)
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
            self.stages = _union({params.stages for params in self._rows})
        if changed and self.stages:
            self._upload()
            self._set_streams({row: params.seed for row, params in changed.items()})

    def _start_arrays(self) -> None:
        """Make what only rows that are not greedy read: an upload costs a device its while."""
        self.arrays["stream_keys"] = mx.zeros((self.num_rows, 2, 2), mx.uint32)
        self.arrays["logit_bias"] = mx.zeros((self.num_rows, 1), mx.float32)
        self.arrays["xtc_special"] = mx.zeros((self.num_rows, 1), mx.bool_)

    def clear_row(self, row: int) -> None:
        """Make a row greedy, so that an empty slot costs nothing."""
        self.set_row(row, GREEDY)

    def process(
        self, logits: mx.array, history: mx.array | None = None, lengths: mx.array | None = None
    ) -> mx.array:
        """Apply bias and penalties to raw float32 logits.

        Args:
            logits: Raw model output (num_rows, vocab_size).
            history: Tokens so far (num_rows, any length), prompt included, padded at the end with
                anything; needed if a row has a penalty.
            lengths: How many tokens of each row's history are real (num_rows,).

        Raises:
            RankMismatch: logits that are not two-dimensional.
            LengthMismatch: logits of other rows or another vocabulary; a penalty without history.
        """
        self._check_shape("logits", logits)
        if not self.stages & Stage.PROCESSORS:
            return logits
        if history is None or lengths is None:
            if self.stages & Stage.PENALTIES:
                raise LengthMismatch("sampling: history", "penalties need it, with its lengths")
            history = mx.zeros((self.num_rows, 1), mx.int32)
            lengths = mx.zeros(self.num_rows, mx.int32)
        return process(logits, history, lengths, self.arrays, self.stages)

    def sample(self, logprobs: mx.array, step: mx.array) -> mx.array:
        """Choose a token for each row.

        Args:
            logprobs: Normalised float32 log-probabilities (num_rows, vocab_size).
            step: Index of the token to draw in its row (num_rows,), so that a row's randomness
                does not depend on when it joined.

        Returns:
            Token ids (num_rows,) as uint32.

        Raises:
            RankMismatch: log-probabilities that are not two-dimensional.
            LengthMismatch: log-probabilities of other rows or another vocabulary.
        """
        self._check_shape("logprobs", logprobs)
        return sample(logprobs, step, self.arrays, self.stages)

    def _upload(self) -> None:
        for name, column in self._table.items():
            self.arrays[name] = mx.array(column[:, None])

    def _set_streams(self, seeds: Mapping[int, int]) -> None:
        """Hash each row's seed into two keys: one for the draw, one for XTC's coin."""
        keys = np.array([(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds.values()], np.uint32)
        streams = mx.vmap(lambda key: mx.random.split(key, 2))(mx.array(keys))
        self.arrays["stream_keys"][mx.array(list(seeds))] = streams

    def _set_vector(self, name: str, row: int, entries: Mapping[int, float]) -> None:
        """Write a row that is as wide as the vocabulary; widen the array when first needed."""
        vectors = self.arrays[name]
        if vectors.shape[1] == 1:
            if not entries:
                return
            vectors = mx.zeros((self.num_rows, self.vocab_size), vectors.dtype)
            self.arrays[name] = vectors
        vector = np.zeros(self.vocab_size, np.float32)
        vector[list(entries)] = list(entries.values())
        vectors[row] = mx.array(vector).astype(vectors.dtype)

    def _check_shape(self, name: str, array: mx.array) -> None:
        if array.ndim != 2:  # noqa: PLR2004 - rows and vocabulary
            raise RankMismatch(f"sampling: {name}", "(rows, vocabulary)", tuple(array.shape))
        if array.shape != (self.num_rows, self.vocab_size):
            expected = f"shape ({self.num_rows}, {self.vocab_size})"
            raise LengthMismatch(f"sampling: {name}", expected, tuple(array.shape))


def _columns(params: SamplingParams, vocab_size: int) -> dict[str, np.generic]:
    """Return a row's scalars, each replaced by a value that changes nothing if it is off."""
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
        # More than all the mass: rounding in the sums cannot drop anything.
        "top_p": np.float32(params.top_p if Stage.TOP_P in stages else 2.0),
        "log_min_p": np.float32(math.log(params.min_p) if Stage.MIN_P in stages else -math.inf),
        "min_tokens_to_keep": np.int32(params.min_tokens_to_keep),
        "top_k": np.int32(params.top_k if Stage.TOP_K in stages else vocab_size),
        "xtc_probability": np.float32(params.xtc_probability if Stage.XTC in stages else -1.0),
        "xtc_threshold": np.float32(params.xtc_threshold),
    }
