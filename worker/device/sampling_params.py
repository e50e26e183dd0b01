"""The parameters by which one row's tokens are chosen, with their limits."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from producer.errors import LengthMismatch, OutOfRange
from worker.device.filters import Stage, union

# Within these magnitudes no chain of processors overflows float32: finite logits stay finite.
_SMALLEST = 1e-18
_LARGEST = 1e18
_INT32_MAX = 2**31 - 1


def _check_real(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # NaN fails every comparison
        raise OutOfRange(f"sampling: {name}", f"a number in [{low:g}, {high:g}]", value)
    if 0 < abs(value) < _SMALLEST:
        raise OutOfRange(f"sampling: {name}", f"zero or at least {_SMALLEST:g} in size", value)


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Check a parameter that must be an integer within inclusive limits.

    Raises:
        OutOfRange: it is not; names the parameter and the limits.
    """
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not low <= value <= high:
        raise OutOfRange(f"sampling: {name}", f"an integer in [{low}, {high}]", value)


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one row's tokens are chosen; the defaults are greedy and change nothing.

    A transcription sets `temperature` and `seed` alone. All other parameters serve the contract
    of one utterance (`worker.generate`).

    Attributes:
        temperature: 0 takes the most likely token and ignores the filters below.
        seed: The only source of randomness besides the step.
        top_p: Keep the most likely tokens whose mass reaches this; 0 and 1 are off.
        min_p: Drop tokens below this share of the top token's probability; 0 is off.
        min_tokens_to_keep: Most likely tokens that `min_p` may not drop.
        top_k: Keep this many tokens; 0 is off.
        xtc_probability: Probability with which XTC drops all but the least likely token above
            `xtc_threshold`; 0 is off.
        xtc_threshold: Probability from which XTC counts a token as likely.
        xtc_special_tokens: Token ids that XTC never drops.
        logit_bias: Token id -> number added to its logit.
        repetition_penalty: Divides positive and multiplies negative logits of recent tokens;
            None, 0 and 1 are off.
        presence_penalty: Subtracted from the logits of recent tokens.
        frequency_penalty: Subtracted once for each recent occurrence.
        repetition_context_size: Tokens of history that count as recent, prompt included; at
            least 1 (in mlx-lm 0 means the whole history; here a large number does).
        presence_context_size: The same for the presence penalty.
        frequency_context_size: The same for the frequency penalty.

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

    # Inclusive limits; mlx-lm's where it has one.
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
            check_integer(name, getattr(self, name), *limits)
        for token in self.xtc_special_tokens:
            check_integer("xtc_special_tokens", token, 0, _INT32_MAX)
        for token, bias in self.logit_bias.items():
            check_integer("logit_bias token", token, 0, _INT32_MAX)
            _check_real(f"logit_bias[{token}]", bias, -_LARGEST, _LARGEST)
        # Copies: what was checked must not change behind a frozen record.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        object.__setattr__(self, "xtc_special_tokens", tuple(self.xtc_special_tokens))

    @property
    def is_greedy(self) -> bool:
        """Return whether the most likely token is always taken."""
        return self.temperature == 0

    @functools.cached_property
    def stages(self) -> Stage:
        """Return the steps that change something for this row."""
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
        return union(stage for stage, is_wanted in wanted.items() if is_wanted)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check the parameters that depend on the size of a model's vocabulary.

        Raises:
            OutOfRange: a token id, `top_k` or `min_tokens_to_keep` beyond the vocabulary.
        """
        check_integer("top_k", self.top_k, 0, vocab_size - 1)
        check_integer("min_tokens_to_keep", self.min_tokens_to_keep, 1, vocab_size)
        for token in self.logit_bias:
            check_integer("logit_bias token", token, 0, vocab_size - 1)
        for token in self.xtc_special_tokens:
            check_integer("xtc_special_tokens", token, 0, vocab_size - 1)


GREEDY = SamplingParams()


def pair_logit_bias(tokens: Sequence[int], biases: Sequence[float]) -> dict[int, float]:
    """Return `SamplingParams.logit_bias` from two parallel lists; repeated tokens add up.

    Part of the contract of one utterance; a transcription sets no bias.

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
