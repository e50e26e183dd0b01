"""What a decoder needs of a speech model, and how it looks at what comes back."""

from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from producer.errors import EmptyInput, LengthMismatch, RankMismatch
from worker.device.decode_request import RowRules
from worker.device.rules import State

LOGITS_RANK = 2
PREFILL_POSITIONS = 2  # where no-speech is weighed, and where the first token is sampled


class SpeechModel(Protocol):
    """What the decoder needs of a speech model; `worker.models.whisper.network.Whisper` is one.

    A cache is any tree of arrays with windows on their first axis.
    """

    @property
    def n_mels(self) -> int:
        """Mel bins of the frames that `encode_audio` takes, 80 or 128."""

    @property
    def num_vocab(self) -> int:
        """Width of the logits."""

    @property
    def context_length(self) -> int:
        """Most tokens in a row, prompt included."""

    @property
    def bos_token(self) -> int:
        """What a row starts with when nothing else is asked."""

    @property
    def eos_token(self) -> int:
        """What ends a row, whatever else does."""

    @property
    def default_prompt(self) -> tuple[int, ...]:
        """What an utterance starts with when nothing else is asked; `(bos_token,)` at least."""

    @property
    def default_rules(self) -> RowRules:
        """What may be sampled when nothing else is asked."""

    @property
    def busy_s(self) -> float:
        """Seconds that the host has computed in the device's place so far; 0 where it never does."""

    def log_mel_frames(self, samples: np.ndarray) -> mx.array:
        """Return raw log10 mel energies (frames, n_mels) of samples (n,) at 16 kHz."""

    def encode_audio(self, mel: mx.array) -> mx.array:
        """Return encoder states, rows first, of log-mel windows (B, frames, n_mels)."""

    def prefill(self, states: mx.array, prompts: mx.array, at: mx.array) -> tuple[mx.array, Any]:
        """Return logits (B, N, V) at positions `at` (B, N) of prompts (B, T), and a cache."""

    def decode_step(
        self, tokens: mx.array, positions: mx.array, cache: Any, ancestors: mx.array | None = None
    ) -> tuple[mx.array, Any]:
        """Return logits (B, V) after one more token a row, and the grown cache.

        A window's rows, its K beams, lie side by side. Without `ancestors` it has one. Else they
        are (B, T), of which of its window's beams a row has each token; its latest is its own.

        The cache that was given is used up.
        """

    def fork_cache(self, cache: Any, num_beams: int) -> Any:
        """Return the cache of prompts for `num_beams` rows a window, which share them."""

    def log_normalizer(self, logits: mx.array) -> mx.array:
        """Return log(sum(exp(logits))) of (B, V), shape (B, 1)."""

    def top_tokens(
        self, logits: mx.array, state: State, rules: State, count: int
    ) -> tuple[mx.array, mx.array]:
        """Return each row's likeliest tokens; see `worker.device.top_tokens.top_tokens`."""

    def resize_cache(self, cache: Any, length: int) -> Any:
        """Return the cache with room for `length` tokens a window, those of all its beams."""


def check_logits(logits: mx.array, num_rows: int, num_vocab: int) -> None:
    """Refuse logits that are not (num_rows, num_vocab); looks at the shape only.

    Raises:
        RankMismatch: other than two axes.
        LengthMismatch: other rows than asked, or another vocabulary than the model's.
        EmptyInput: no vocabulary.
    """
    shape = tuple(logits.shape)
    if len(shape) != LOGITS_RANK:
        raise RankMismatch("decode: logits", f"must be rank 2, ({num_rows}, {num_vocab})", shape)
    if shape[0] != num_rows:
        raise LengthMismatch("decode: logits", f"must have {num_rows} rows", shape)
    if shape[1] == 0:
        raise EmptyInput("decode: logits", "must have a vocabulary", shape)
    if shape[1] != num_vocab:
        raise LengthMismatch("decode: logits", f"must be {num_vocab} wide", shape)


def check_prefill_logits(logits: mx.array, num_rows: int, num_vocab: int) -> None:
    """Refuse prefill logits that are not (num_rows, 2 positions, num_vocab).

    Raises:
        RankMismatch, LengthMismatch, EmptyInput: as `check_logits`, and for other positions.
    """
    shape = tuple(logits.shape)
    if len(shape) != LOGITS_RANK + 1:
        wanted = f"must be rank 3, ({num_rows}, {PREFILL_POSITIONS}, {num_vocab})"
        raise RankMismatch("decode: prefill logits", wanted, shape)
    if shape[1] != PREFILL_POSITIONS:
        wanted = f"must have {PREFILL_POSITIONS} positions"
        raise LengthMismatch("decode: prefill logits", wanted, shape)
    check_logits(logits[:, 0], num_rows, num_vocab)
