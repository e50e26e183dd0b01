"""Whisper's network in MLX: an audio encoder and a text decoder whose rows advance on their own.

Shapes: B rows, T tokens, S = 1500 audio positions, D width, H heads, K = D / H; in a step G windows
of K beams each. Every array of a decoder cache has windows on its first axis, so that they can be
inserted and dropped without knowing the network.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from mlx import nn

from worker.device.backend import on_cuda
from worker.device.rules import State
from worker.models.whisper.encoder import AudioEncoder
from worker.models.whisper.layers import (
    DecoderBlock,
    own_and_ancestors,
    split_heads,
    up_to,
)
from worker.models.whisper.log_mel import log_mel_frames
from worker.models.whisper.network_base import Cache, NetworkBase
from worker.models.whisper.step_kernels import Places, log_normalizer, step_kernels
from worker.models.whisper.weights.fuse import fuse_projections
from worker.models.whisper.weights.parameters import Dimensions, Weights

# Rows of logits start at multiples of 256 bytes then.
VOCABULARY_STEP = 64


class TextDecoder(nn.Module):
    """Token and position embeddings, transformer blocks, and logits by the tied embedding."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        width = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, width)
        self.positional_embedding = mx.zeros((dims.n_text_ctx, width))
        self.blocks = [DecoderBlock(width, dims.n_text_head) for _ in range(dims.n_text_layer)]
        self.ln = nn.LayerNorm(width)
        self._projection: mx.array | None = None

    def lay_out(self) -> None:
        """Keep the loaded embedding in float32 for `logits`, too; call it once.

        Rounded to half, close tokens would tie.
        """
        if isinstance(self.token_embedding, nn.Embedding):
            projection = self.token_embedding.weight.astype(mx.float32).T
            # A CPU's BLAS is faster on a copy that lies as it is read.
            if mx.default_device().type == mx.cpu:
                projection = mx.contiguous(projection)
            elif on_cuda():
                projection = _padded(projection)
            self._projection = projection

    def embed(self, tokens: mx.array, positions: mx.array) -> mx.array:
        """Return the residual stream's start (..., D), in float32 whatever the dtype.

        Rounding it to half at every layer makes a fifth of the error between two likely tokens.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[positions]
        return x.astype(mx.float32)

    def logits(self, x: mx.array) -> mx.array:
        """Return float32 logits (..., V) of the residual stream (..., D)."""
        return self.project(self.ln(x))

    def project(self, x: mx.array) -> mx.array:
        """Return float32 logits (..., V) of the normalised residual stream (..., D)."""
        num_vocab = self.token_embedding.weight.shape[0]
        if self._projection is None:
            x = x.astype(self.ln.weight.dtype)
            return self.token_embedding.as_linear(x).astype(mx.float32)
        rows = x.reshape(-1, x.shape[-1]).astype(mx.float32)
        logits = (rows @ self._projection).reshape(*x.shape[:-1], -1)
        return logits[..., :num_vocab]


class Whisper(NetworkBase, nn.Module):
    """A Whisper checkpoint, ready to encode windows and decode rows: a `SpeechModel`.

    Attributes:
        busy_s: Seconds that were spent here computing: none, MLX computes in threads of its own.
    """

    def __init__(self, weights: Weights, dtype: mx.Dtype = mx.float32) -> None:
        super().__init__()
        self.dims = weights.dims
        self.busy_s = 0.0
        self.encoder = AudioEncoder(weights.dims, dtype)
        self.decoder = TextDecoder(weights.dims)
        self._alignment_heads = np.asarray(weights.alignment_heads)
        arrays = fuse_projections(weights.arrays)
        if weights.quantization is not None:
            nn.quantize(
                self,
                **weights.quantization,
                class_predicate=lambda path, _: f"{path}.scales" in arrays,
            )
        self.load_weights([(name, _cast(array, dtype)) for name, array in arrays.items()])
        self.decoder.lay_out()
        self._dtype = dtype
        self._kernels = step_kernels(dtype, weights.dims.n_text_state, weights.dims.n_text_head)

    def log_mel_frames(self, samples: np.ndarray) -> mx.array:
        """Return raw log10 mel energies; see `worker.models.whisper.log_mel.log_mel_frames`."""
        return log_mel_frames(samples, self.dims.n_mels)

    @property
    def num_encoder_parts(self) -> int:
        """How much `encode_in_parts` yields."""
        return self.encoder.num_parts

    def encode_in_parts(self, mel: mx.array) -> Iterator[tuple[mx.array, ...]]:
        """Yield what is to be computed, part by part; the last array of all is what encoding gives."""
        yield from self.encoder.in_parts(mel.astype(self._dtype), self._kernels)

    def encode_audio(self, mel: mx.array) -> mx.array:
        """Return encoder states (B, S, D) of normalised log-mel windows (B, 3000, n_mels)."""
        *_, (_, states) = self.encode_in_parts(mel)
        return states

    def prefill(self, states: mx.array, prompts: mx.array, at: mx.array) -> tuple[mx.array, Cache]:
        """Read right-padded prompts and start a cache, as long as they are.

        Args:
            states: Encoder states, (B, S, D).
            prompts: Token ids, (B, T) int32.
            at: Positions whose logits are wanted, (B, N) int32; padding does not reach them.

        Returns:
            Float32 logits (B, N, V) and the cache, whose rows are good up to each prompt's end.
        """
        x, cache = self._prompt(states, prompts)
        x = mx.take_along_axis(x, at[:, :, None], axis=1)
        return self.decoder.logits(x), cache

    def decode_step(
        self,
        tokens: mx.array,
        positions: mx.array,
        cache: Cache,
        ancestors: mx.array | None = None,
    ) -> tuple[mx.array, Cache]:
        """Advance every row by one token.

        A window's K beams are the queries of one attention: they read its keys and values once.

        Args:
            tokens: The rows' last tokens, (B,) int32, B = G K.
            positions: Where each stands in its row, (B,) int32, below the cache's length.
            cache: From `prefill`, `fork_cache` or the last step; it is used up.
            ancestors: Whose token a beam has at each position, (B, T) int32; None where K is 1.

        Returns:
            Float32 logits (B, V) and the cache with the tokens' keys and values added.
        """
        decoder, kernels = self.decoder, self._kernels
        num_beams = tokens.size // cache["self"][0][0].shape[0]
        tokens, positions = tokens.reshape(-1, num_beams), positions.reshape(-1, num_beams)
        x = decoder.embed(tokens, positions)
        if ancestors is None:
            here = positions[:, :, None, None]
            mask = up_to(here, cache["self"][0][0].shape[2])
        else:
            here = (positions * num_beams + mx.arange(num_beams))[:, None, :, None]
            mask = own_and_ancestors(
                positions, ancestors.reshape(-1, num_beams, ancestors.shape[1])
            )
        places, grown = Places(positions, here, mask), []
        normed = decoder.blocks[0].attn_ln(x)
        following = [*(block.attn_ln for block in decoder.blocks[1:]), decoder.ln]
        of_layers = zip(decoder.blocks, following, cache["cross"], strict=True)
        for block, next_norm, (audio_keys, audio_values) in of_layers:
            # Nobody else holds these: then the new ones are written in their place.
            keys, values = cache["self"].pop(0)
            qkv = block.attn.qkv(normed)
            read, keys, values = kernels.read_text(qkv, keys, values, places)
            grown.append((keys, values))
            x, normed = kernels.add_and_norm(x, block.attn.out(read), block.cross_attn_ln)
            read = kernels.read_audio(block.cross_attn.query(normed), audio_keys, audio_values)
            x, normed = kernels.add_and_norm(x, block.cross_attn.out(read), block.mlp_ln)
            x, normed = kernels.add_and_norm(x, block.mlp(normed), next_norm)
        logits = decoder.project(normed.reshape(-1, normed.shape[-1]))
        return logits, {"self": grown, "cross": cache["cross"]}

    def top_tokens(
        self, logits: mx.array, state: State, rules: State, count: int
    ) -> tuple[mx.array, mx.array]:
        """Return each row's likeliest tokens; see `worker.device.top_tokens.top_tokens`."""
        return self._kernels.top_tokens(logits, state, rules, count)

    def log_normalizer(self, logits: mx.array) -> mx.array:
        """Return log(sum(exp(logits))) of (B, V), shape (B, 1)."""
        return log_normalizer(logits)

    def align(self, states: mx.array, tokens: mx.array, num_text: int) -> tuple[mx.array, mx.array]:
        """Return what word alignment needs of whole token rows.

        Args:
            states: Encoder states, (B, S, D).
            tokens: Token ids, (B, T) int32, right-padded.
            num_text: Lower ids are text.

        Returns:
            Cross-attention scores before softmax on the alignment heads, float32 (B, heads, T, S),
            and log-probabilities of each next token among text tokens, float32 (B, T - 1).
        """
        scores: dict[tuple[int, int], mx.array] = {}
        x, _ = self._prompt(states, tokens, scores)
        picked = mx.stack(
            [scores[layer, head] for layer, head in self._alignment_heads.tolist()], axis=1
        )
        logits = self.decoder.logits(x[:, :-1])[..., :num_text]
        following = mx.minimum(tokens[:, 1:, None], num_text - 1)
        chosen = mx.take_along_axis(logits, following, axis=-1)[..., 0]
        return picked.astype(mx.float32), chosen - mx.logsumexp(logits, axis=-1)

    def _prompt(
        self,
        states: mx.array,
        prompts: mx.array,
        scores: dict[tuple[int, int], mx.array] | None = None,
    ) -> tuple[mx.array, Cache]:
        """Return hidden states (B, T, D) of whole prompts, and the cache they start."""
        decoder = self.decoder
        x = decoder.embed(prompts, mx.arange(prompts.shape[1]))
        cache: Cache = {"self": [], "cross": []}
        for layer, block in enumerate(decoder.blocks):
            q, k, v = block.attn.project(block.attn_ln(x))
            x = x + block.attn.attend(q, k, v, "causal")
            cross = block.cross_attn.project_audio(states)
            if scores is not None:
                self._score_audio(layer, block, x, cross[0], scores)
            x = block.finish(x, cross)
            cache["self"].append((k, v))
            cache["cross"].append(cross)
        return x, cache

    def _score_audio(
        self,
        layer: int,
        block: DecoderBlock,
        x: mx.array,
        keys: mx.array,
        scores: dict[tuple[int, int], mx.array],
    ) -> None:
        """Add the scores (B, T, S) of the layer's alignment heads."""
        heads = [head for at, head in self._alignment_heads.tolist() if at == layer]
        if not heads:
            return
        cross = block.cross_attn
        q = split_heads(cross.query(block.cross_attn_ln(x)), cross.num_heads)
        for head in heads:
            scaled = q[:, head] * (q.shape[-1] ** -0.5)
            scores[layer, head] = scaled.astype(mx.float32) @ keys[:, head].astype(
                mx.float32
            ).swapaxes(-1, -2)


def _padded(projection: mx.array) -> mx.array:
    """Return a vocabulary's product (D, V) with V rounded up: cuBLAS has faster kernels for it."""
    missing = -projection.shape[1] % VOCABULARY_STEP
    return mx.contiguous(mx.pad(projection.T, [(0, missing), (0, 0)])).T


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    """Return floats as dtype; packed quantized weights stay as they are."""
    return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array
