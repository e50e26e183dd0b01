"""What a Whisper checkpoint says of itself, whichever network computes with it."""

from typing import TypeAlias

import mlx.core as mx

from producer.job import Options
from worker.device.decode_request import RowRules
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.weights.parameters import Dimensions

# By decoder layer, keys and values (G, H, T, K): `self` of a window's tokens, `cross` of its audio.
Cache: TypeAlias = dict[str, list[tuple[mx.array, mx.array]]]


class NetworkBase:
    """Sizes, tokens and rules of a checkpoint; both networks inherit it."""

    dims: Dimensions

    @property
    def n_mels(self) -> int:
        """Mel bins of the frames that `encode_audio` takes."""
        return self.dims.n_mels

    @property
    def num_vocab(self) -> int:
        """Width of the logits."""
        return self.dims.n_vocab

    @property
    def bos_token(self) -> int:
        """Start of transcript."""
        return Tokenizer(self.dims.n_vocab).sot

    @property
    def eos_token(self) -> int:
        """End of text."""
        return Tokenizer(self.dims.n_vocab).eot

    @property
    def default_prompt(self) -> tuple[int, ...]:
        """Start of transcript; English and `transcribe` for a multilingual model."""
        return Tokenizer(self.dims.n_vocab).sot_sequence

    @property
    def default_rules(self) -> RowRules:
        """The reference's rules, with timestamps."""
        return row_rules(Tokenizer(self.dims.n_vocab), Options())

    @property
    def context_length(self) -> int:
        """Most tokens in a row, prompt included."""
        return self.dims.n_text_ctx

    def fork_cache(self, cache: Cache, num_beams: int) -> Cache:
        """Return the cache of prompts for `num_beams` rows a window.

        The beams' tokens lie side by side by position, K of them at each, so that all beams can read
        what others have read before: what a beam has of which other is in its `ancestors`. Prompts
        are the first beam's. The audio's part is the window's own.
        """

        def forked(prompt: mx.array) -> mx.array:
            windows, heads, length, size = prompt.shape
            beside = [(0, 0), (0, 0), (0, 0), (0, num_beams - 1), (0, 0)]
            return mx.pad(prompt[:, :, :, None], beside).reshape(
                windows, heads, length * num_beams, size
            )

        rows = [(forked(keys), forked(values)) for keys, values in cache["self"]]
        return {"self": rows, "cross": cache["cross"]}

    def resize_cache(self, cache: Cache, length: int) -> Cache:
        """Return the cache with room for `length` tokens a window; what it drops must be unused."""

        def resized(rows: mx.array) -> mx.array:
            missing = length - rows.shape[2]
            if missing <= 0:
                # In one piece: a kernel may write to it where it is.
                return mx.contiguous(rows[:, :, :length])
            return mx.pad(rows, [(0, 0), (0, 0), (0, missing), (0, 0)])

        rows = [(resized(keys), resized(values)) for keys, values in cache["self"]]
        return {"self": rows, "cross": cache["cross"]}
