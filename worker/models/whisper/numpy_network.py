"""Whisper's network in NumPy, for x86 processors without a GPU that MLX knows.

MLX's CPU backend computes exp, erf and sums there one element at a time on one core, and its Linux
wheel brings the reference BLAS: a product of 1500 x 512 by 512 x 512 takes 401 ms with it and 5 ms
with NumPy's own OpenBLAS (2 cores). The decoder's rows, rules and sampling stay MLX's: arrays come
and go as MLX's, whose memory NumPy shares. Shapes are named as in `worker.models.whisper.network`.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.device.rules import State
from worker.models.busy_time import counted
from worker.models.numpy_layers import by_columns
from worker.models.numpy_math import (
    FEW_ROWS,
    FloatArray,
    attention,
    blocks,
    gather,
    gelu,
    log_sum_exp,
    processor_threads,
    product,
    shared,
)
from worker.models.numpy_top_tokens import top_tokens
from worker.models.whisper.network_base import Cache, NetworkBase
from worker.models.whisper.numpy_encoder import POSITIONS_PER_BLOCK, NumpyEncoder
from worker.models.whisper.numpy_layers import (
    Block,
    DecoderBlock,
    decoder_block,
    norm,
)
from worker.models.whisper.numpy_log_mel import log_mel_frames
from worker.models.whisper.weights.fuse import fuse_projections
from worker.models.whisper.weights.parameters import Weights

IntArray: TypeAlias = NDArray[np.integer[Any]]


class NumpyWhisper(NetworkBase):
    """A Whisper checkpoint in float32, with the methods of `worker.models.whisper.network.Whisper`.

    Everything is computed when it is asked for, by the calling thread and its helpers.

    Attributes:
        busy_s: Seconds spent here so far, also waiting for what MLX computes.
    """

    def __init__(self, weights: Weights) -> None:
        self.dims = dims = weights.dims
        self.busy_s = 0.0
        self._threads = processor_threads()
        self._alignment_heads: list[tuple[int, int]] = np.asarray(weights.alignment_heads).tolist()
        fused = fuse_projections(weights.arrays)
        floats = shared(*(array.astype(mx.float32) for array in fused.values()))
        arrays = dict(zip(fused, floats, strict=True))
        self._encoder = NumpyEncoder(arrays, dims, self._threads)
        self._token_embedding = arrays["decoder.token_embedding.weight"]
        self._positional_embedding = arrays["decoder.positional_embedding"]
        self._blocks = [
            decoder_block(arrays, f"decoder.blocks.{layer}", dims.n_text_head)
            for layer in range(dims.n_text_layer)
        ]
        self._ln = norm(arrays, "decoder.ln")
        # A second copy of the embedding, which is faster for a single row, and for many.
        self._projection = by_columns(self._token_embedding)

    @counted
    def log_mel_frames(self, samples: FloatArray) -> mx.array:
        """Return raw log10 mel energies; see `worker.models.whisper.log_mel.log_mel_frames`."""
        return mx.array(log_mel_frames(samples, self.dims.n_mels, self._threads))

    num_encoder_parts = 1

    def encode_in_parts(self, mel: mx.array) -> Iterator[tuple[mx.array, ...]]:
        """Yield the states: nothing is stepped here while windows are encoded."""
        yield (self.encode_audio(mel),)

    @counted
    def encode_audio(self, mel: mx.array) -> mx.array:
        """Return encoder states (B, S, D) of normalised log-mel windows (B, 3000, n_mels)."""
        [windows] = shared(mel)
        return mx.array(np.stack([self._encoder(window) for window in windows]))

    @counted
    def prefill(self, states: mx.array, prompts: mx.array, at: mx.array) -> tuple[mx.array, Cache]:
        """Read right-padded prompts and start a cache; see `Whisper.prefill`."""
        x, cache = self._read_prompts(states, prompts)
        x = np.take_along_axis(x, np.asarray(at)[:, :, None], axis=1)
        return mx.array(self._logits(x)), cache

    @counted
    def decode_step(
        self,
        tokens: mx.array,
        positions: mx.array,
        cache: Cache,
        ancestors: mx.array | None = None,
    ) -> tuple[mx.array, Cache]:
        """Advance every row by one token; see `Whisper.decode_step`. The cache is written to."""
        ancestry = () if ancestors is None else (ancestors,)
        mx.eval(tokens, positions, cache, ancestry)
        windows, _, length, _ = cache["self"][0][0].shape
        at = np.asarray(positions).reshape(windows, -1)
        num_beams = at.shape[1]
        x = self._embed(np.asarray(tokens).reshape(at.shape), at)
        window, here = np.arange(windows)[:, None], at * num_beams + np.arange(num_beams)
        if ancestors is None:
            places, unseen = None, _minus_infinity(np.arange(length) > at)[:, None, None]
        else:
            places, unseen = _seen(at, np.asarray(ancestors).reshape(*at.shape, -1))
        for block, own, cross in zip(self._blocks, cache["self"], cache["cross"], strict=True):
            keys, values = map(np.asarray, own)
            q, k, v = self._project(block, x)
            keys[window, :, here], values[window, :, here] = k.swapaxes(1, 2), v.swapaxes(1, 2)
            if places is not None:
                keys, values = gather((keys, values), places, self._threads)
            x = self._add_text(block, x, (q, keys, values), unseen)
            audio = np.asarray(cross[0]), np.asarray(cross[1])
            x = self._add_audio(block, x, self._ask_audio(block, x), audio)
        return mx.array(self._logits(x.reshape(-1, x.shape[-1]))), cache

    @counted
    def align(self, states: mx.array, tokens: mx.array, num_text: int) -> tuple[mx.array, mx.array]:
        """Return what word alignment needs of whole token rows; see `Whisper.align`."""
        scores: dict[tuple[int, int], FloatArray] = {}
        x, _ = self._read_prompts(states, tokens, scores)
        picked = np.stack([scores[layer, head] for layer, head in self._alignment_heads], axis=1)
        logits = self._logits(x[:, :-1])[..., :num_text]
        following = np.minimum(np.asarray(tokens)[:, 1:, None], num_text - 1)
        logprobs = np.take_along_axis(logits, following, axis=-1) - log_sum_exp(logits)
        return mx.array(picked), mx.array(logprobs[..., 0])

    @counted
    def log_normalizer(self, logits: mx.array) -> mx.array:
        """Return log(sum(exp(logits))) of (B, V), shape (B, 1)."""
        return mx.array(log_sum_exp(*shared(logits)))

    @counted
    def top_tokens(
        self, logits: mx.array, state: State, rules: State, count: int
    ) -> tuple[mx.array, mx.array]:
        """Return each row's likeliest tokens; see `worker.device.top_tokens.top_tokens`."""
        values, tokens = top_tokens(logits, state, rules, count)
        return mx.array(values), mx.array(tokens)

    def _read_prompts(
        self,
        states: mx.array,
        prompts: mx.array,
        scores: dict[tuple[int, int], FloatArray] | None = None,
    ) -> tuple[FloatArray, Cache]:
        """Return hidden states (B, T, D) of whole prompts, and the cache they start.

        Scores (B, T, S) of alignment heads are added by layer and head, where they are wanted.
        """
        mx.eval(states, prompts)
        audio, tokens = np.asarray(states), np.asarray(prompts)
        length = tokens.shape[1]
        x = self._embed(tokens, np.arange(length))
        unseen = _minus_infinity(np.triu(np.ones((length, length), np.bool_), 1))
        cache: Cache = {"self": [], "cross": []}
        for layer, block in enumerate(self._blocks):
            own = self._project(block, x)
            x = self._add_text(block, x, own, unseen)
            cross = self._project_audio(block, audio)
            keys, values = np.asarray(cross[0]), np.asarray(cross[1])
            query = self._ask_audio(block, x)
            if scores is not None:
                for head in (head for at, head in self._alignment_heads if at == layer):
                    scores[layer, head] = query[:, head] @ keys[:, head].swapaxes(-1, -2)
            x = self._add_audio(block, x, query, (keys, values))
            cache["self"].append((_to_mlx(own[1]), _to_mlx(own[2])))
            cache["cross"].append(cross)
        return x, cache

    def _embed(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Return the residual stream's start (B, T, D)."""
        return self._token_embedding[tokens] + self._positional_embedding[positions]

    def _split(self, x: FloatArray, parts: int) -> Sequence[FloatArray]:
        """Return the parts of a fused projection (B, T, parts D), each (B, H, T, K)."""
        heads = x.reshape(*x.shape[:2], parts, self.dims.n_text_head, -1)
        return list(heads.transpose(2, 0, 3, 1, 4))

    def _project(self, block: Block, x: FloatArray) -> Sequence[FloatArray]:
        """Return scaled queries, keys and values of x (B, T, D), each (B, H, T, K)."""
        return self._split(block.qkv(block.attn_ln(x), self._threads), 3)

    def _add_text(
        self, block: Block, x: FloatArray, own: Sequence[FloatArray], unseen: FloatArray
    ) -> FloatArray:
        """Return x (B, T, D) after self-attention: queries, keys and values, and what is unseen."""
        q, keys, values = own
        return x + block.out(attention(q, keys, values, unseen, self._threads), self._threads)

    def _project_audio(self, block: DecoderBlock, audio: FloatArray) -> tuple[mx.array, mx.array]:
        """Return keys and values of encoder states (B, S, D), each (B, H, S, K).

        Threads write blocks of positions to MLX's memory, so that nothing large is copied.
        """
        batch, length, width = audio.shape
        heads = self.dims.n_text_head
        shape = batch, heads, length, width // heads
        cross = mx.empty(shape), mx.empty(shape)
        keys, values = shared(*cross)

        def project(row: int, part: slice) -> None:
            both = block.key_value.alone(audio[row, part])
            k, v = both.reshape(len(both), 2, heads, -1).transpose(1, 2, 0, 3)
            keys[row, :, part], values[row, :, part] = k, v

        parts = blocks(length, POSITIONS_PER_BLOCK)
        self._threads.run(project, itertools.product(range(batch), parts))
        return cross

    def _ask_audio(self, block: DecoderBlock, x: FloatArray) -> FloatArray:
        """Return scaled queries (B, H, T, K) of x (B, T, D) after self-attention."""
        [query] = self._split(block.query(block.cross_attn_ln(x), self._threads), 1)
        return query

    def _add_audio(
        self,
        block: DecoderBlock,
        x: FloatArray,
        query: FloatArray,
        audio: tuple[FloatArray, FloatArray],
    ) -> FloatArray:
        """Return x (B, T, D) after cross-attention over audio's keys and values, and the MLP."""
        read = attention(query, *audio, None, self._threads)
        x = x + block.cross_out(read, self._threads)
        hidden = gelu(block.up(block.mlp_ln(x), self._threads))
        return x + block.down(hidden, self._threads)

    def _logits(self, x: FloatArray) -> FloatArray:
        """Return logits (..., V) of the residual stream (..., D)."""
        rows = self._ln(x).reshape(-1, x.shape[-1])
        weight = self._token_embedding if 1 < len(rows) <= FEW_ROWS else self._projection
        return product(rows, weight, self._threads).reshape(*x.shape[:-1], -1)


def _seen(at: IntArray, ancestors: IntArray) -> tuple[IntArray, FloatArray]:
    """Return which places of its window's cache any beam sees, and what each does not see of them.

    Most places are nobody's: a prompt is in the first beam's, and beams have most tokens in common.
    For G windows of K beams, (G, N) places and (G, 1, K, N); see `layers.own_and_ancestors`.
    """
    windows, num_beams, length = ancestors.shape
    is_own = ancestors[..., None] == np.arange(num_beams)
    is_read = np.arange(length) <= at[..., None]
    seen = (is_own & is_read[..., None]).reshape(windows, num_beams, -1)
    by_any = seen.any(axis=1)
    most = by_any.sum(axis=1).max()
    places = np.argsort(~by_any, axis=1, kind="stable")[:, :most]
    unseen = ~np.take_along_axis(seen, places[:, None], axis=2)
    return places, _minus_infinity(unseen)[:, None]


def _minus_infinity(where: NDArray[np.bool_]) -> FloatArray:
    """Return -inf where it is true, and 0 elsewhere."""
    return np.where(where, np.float32(-np.inf), np.float32(0))


def _to_mlx(heads: FloatArray) -> mx.array:
    """Return a copy (B, H, T, K) that lies as it is read."""
    return mx.array(np.ascontiguousarray(heads))
