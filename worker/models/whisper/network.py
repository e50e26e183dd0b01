"""Whisper's network in MLX: an audio encoder and a text decoder whose rows advance on their own.

Shapes: B rows, T tokens, S = 1500 audio positions, D width, H heads, K = D / H. Every array of a
decoder cache has rows on its first axis, so that rows can be inserted and dropped without knowing
the network.
"""

import re
from typing import TypeAlias

import mlx.core as mx
import numpy as np
from mlx import nn

from producer.job import Options
from worker.device import cpu_math
from worker.device.requests import RowRules
from worker.models.whisper.layers import (
    AnyArray,
    LayerNorm,
    Linear,
    Norm,
    attention,
    gelu,
    lay_out_for_numpy,
    merge_heads,
    project,
    put,
    split_heads,
    suits_numpy,
    up_to,
)
from worker.models.whisper.log_mel import MelConfig
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.weights.parameters import Dimensions, Weights, sinusoids

# Rows of the self-attention cache: prompt and sampled tokens of one window.
Cache: TypeAlias = dict[str, list[tuple[mx.array, mx.array]]]


class SelfAttention(nn.Module):
    """Multi-head attention over one sequence, with one fused projection for q, k and v."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def project(self, x: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return q, k, v of x (B, T, D), each (B, H, T, K)."""
        heads = split_heads(self.qkv(x), 3 * self.num_heads)
        return (
            heads[:, : self.num_heads],
            heads[:, self.num_heads : -self.num_heads],
            heads[:, -self.num_heads :],
        )

    def attend(
        self, q: AnyArray, k: mx.array, v: mx.array, mask: AnyArray | str | None
    ) -> AnyArray:
        """Return the attention's output (B, T, D)."""
        return self.out(merge_heads(attention(q, k, v, mask)))


class CrossAttention(nn.Module):
    """Attention of text over encoded audio; keys and values are made once a window."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)

    def project_audio(self, states: mx.array) -> tuple[mx.array, mx.array]:
        """Return keys and values of encoder states (B, S, D), each (B, H, S, K).

        They are laid out as attention reads them: it would copy them at every step otherwise.
        """
        k, v = mx.split(self.key_value(states), 2, axis=-1)
        heads = (split_heads(k, self.num_heads), split_heads(v, self.num_heads))
        return mx.contiguous(heads[0]), mx.contiguous(heads[1])

    def __call__(self, x: AnyArray, k: mx.array, v: mx.array) -> AnyArray:
        """Return what text x (B, T, D) reads from the audio, (B, T, D)."""
        q = split_heads(self.query(x), self.num_heads)
        return self.out(merge_heads(attention(q, k, v, None)))


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = Linear(width, 4 * width)
        self.down = Linear(4 * width, width)

    def __call__(self, x: AnyArray) -> AnyArray:
        """Return x (B, T, D) transformed."""
        return self.down(gelu(self.up(x)))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, num_heads)
        self.attn_ln = LayerNorm(width)
        self.mlp = MLP(width)
        self.mlp_ln = LayerNorm(width)

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (B, S, D) transformed."""
        x = x + self.attn.attend(*self.attn.project(self.attn_ln(x)), None)
        return x + self.mlp(self.mlp_ln(x))


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, num_heads)
        self.attn_ln = Norm(width)
        self.cross_attn = CrossAttention(width, num_heads)
        self.cross_attn_ln = Norm(width)
        self.mlp = MLP(width)
        self.mlp_ln = Norm(width)

    def finish(self, x: AnyArray, cross: tuple[mx.array, mx.array]) -> AnyArray:
        """Return x (B, T, D) after cross-attention and MLP."""
        x = x + self.cross_attn(self.cross_attn_ln(x), *cross)
        return x + self.mlp(self.mlp_ln(x))


class AudioEncoder(nn.Module):
    """Two convolutions (the second halves the frame rate), positions, transformer blocks."""

    def __init__(self, dims: Dimensions, dtype: mx.Dtype) -> None:
        super().__init__()
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        # OpenAI's checkpoints hold the positions in float16; the reference computes with these.
        positions = sinusoids(dims.n_audio_ctx, width).astype(np.float16)
        self._positions = mx.array(positions).astype(dtype)
        self.blocks = [EncoderBlock(width, dims.n_audio_head) for _ in range(dims.n_audio_layer)]
        self.ln_post = LayerNorm(width)

    def __call__(self, mel: mx.array) -> mx.array:
        """Return the states (B, S, D) of log-mel windows (B, 3000, n_mels)."""
        x = gelu(self.conv2(gelu(self.conv1(mel))))
        x = x + self._positions
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class TextDecoder(nn.Module):
    """Token and position embeddings, transformer blocks, and logits by the tied embedding."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        width = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, width)
        self.positional_embedding = mx.zeros((dims.n_text_ctx, width))
        self.blocks = [DecoderBlock(width, dims.n_text_head) for _ in range(dims.n_text_layer)]
        self.ln = LayerNorm(width)
        self._projection: mx.array | None = None
        self.steps_in_numpy = False

    def lay_out(self) -> None:
        """Lay the loaded weights out in memory as they are read; call it once.

        The embedding is kept in float32 for `logits`, too: rounded to half, close tokens would tie.
        """
        packed = (nn.QuantizedLinear, nn.QuantizedEmbedding)
        is_packed = any(isinstance(layer, packed) for layer in self.modules())
        self.steps_in_numpy = not is_packed and suits_numpy(self.positional_embedding)
        if self.steps_in_numpy:
            for layer in self.modules():
                if isinstance(layer, Linear):
                    lay_out_for_numpy(layer)
        if isinstance(self.token_embedding, nn.Embedding):
            projection = self.token_embedding.weight.astype(mx.float32).T
            # A CPU's BLAS is faster on a copy that lies as it is read.
            on_cpu = mx.default_device().type == mx.cpu
            self._projection = mx.contiguous(projection) if on_cpu else projection

    def embed(self, tokens: mx.array, positions: mx.array) -> mx.array:
        """Return the residual stream's start (..., D), in float32 whatever the dtype.

        Rounding it to half at every layer makes a fifth of the error between two likely tokens.
        """
        x = self.token_embedding(tokens) + self.positional_embedding[positions]
        return x.astype(mx.float32)

    def logits(self, x: AnyArray) -> mx.array:
        """Return float32 logits (..., V) of the residual stream (..., D)."""
        x = self.ln(x)
        if self._projection is None:
            x = x.astype(self.ln.weight.dtype)
            return self.token_embedding.as_linear(x).astype(mx.float32)
        return project(x, self.token_embedding.weight, self._projection)


class Whisper(nn.Module):
    """A Whisper checkpoint, ready to encode windows and decode rows: a `SpeechModel`."""

    def __init__(self, weights: Weights, dtype: mx.Dtype = mx.float32) -> None:
        super().__init__()
        self.dims = weights.dims
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

    @property
    def mel(self) -> MelConfig:
        """The features that `encode_audio` takes."""
        return MelConfig(n_mels=self.dims.n_mels)

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

    def encode_audio(self, mel: mx.array) -> mx.array:
        """Return encoder states (B, S, D) of normalised log-mel windows (B, 3000, n_mels)."""
        return self.encoder(mel.astype(self._dtype))

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

    @cpu_math.stopwatch.counts
    def decode_step(
        self, tokens: mx.array, positions: mx.array, cache: Cache
    ) -> tuple[mx.array, Cache]:
        """Advance every row by one token.

        Args:
            tokens: The rows' last tokens, (B,) int32.
            positions: Where each stands in its row, (B,) int32, below the cache's length.
            cache: From `prefill` or the last step; it is used up.

        Returns:
            Float32 logits (B, V) and the cache with the tokens' keys and values added.
        """
        decoder = self.decoder
        x: AnyArray = decoder.embed(tokens[:, None], positions[:, None])
        here: AnyArray = positions[:, None, None, None]
        if decoder.steps_in_numpy:
            x, here = cpu_math.shared(x, here)
        mask = up_to(here, cache["self"][0][0].shape[2])
        grown = []
        for block, cross in zip(decoder.blocks, cache["cross"], strict=True):
            # Nobody else holds these: then the new ones are written in their place.
            keys, values = cache["self"].pop(0)
            q, k, v = block.attn.project(block.attn_ln(x))
            keys, values = put(keys, here, k), put(values, here, v)
            grown.append((keys, values))
            x = block.finish(x + block.attn.attend(q, keys, values, mask), cross)
        return decoder.logits(x[:, 0]), {"self": grown, "cross": cache["cross"]}

    def log_normalizer(self, logits: mx.array) -> mx.array:
        """Return log(sum(exp(logits))) of (B, V), shape (B, 1)."""
        if cpu_math.is_useful():
            return mx.array(cpu_math.log_sum_exp(logits))
        return mx.logsumexp(logits, axis=-1, keepdims=True)

    @property
    def busy_s(self) -> float:
        """Seconds that the host has computed in the device's place so far."""
        return cpu_math.stopwatch.total_s

    def resize_cache(self, cache: Cache, length: int) -> Cache:
        """Return the cache with room for `length` tokens a row; what it drops must be unused."""

        def resized(rows: mx.array) -> mx.array:
            missing = length - rows.shape[2]
            if missing <= 0:
                return rows[:, :, :length]
            return mx.pad(rows, [(0, 0), (0, 0), (0, missing), (0, 0)])

        rows = [(resized(keys), resized(values)) for keys, values in cache["self"]]
        return {"self": rows, "cross": cache["cross"]}

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


_FUSED = {"attn": ("qkv", ("query", "key", "value")), "cross_attn": ("key_value", ("key", "value"))}
_PROJECTION = re.compile(
    r"(?P<path>.*\.(?P<kind>attn|cross_attn))\.(?P<part>query|key|value)\.weight$"
)


def fuse_projections(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    """Rename published parameters to this module's, with q, k and v of a layer in one array.

    Keys have no bias in Whisper; the fused bias has zeros there.
    """
    fused = {
        name.replace("mlp1", "mlp.up").replace("mlp2", "mlp.down"): array
        for name, array in arrays.items()
    }
    for name in arrays:
        match = _PROJECTION.match(name)
        if match is None or match["part"] != "value":
            continue
        path, (target, parts) = match["path"], _FUSED[match["kind"]]
        for suffix in ("weight", "scales", "biases"):
            if f"{path}.value.{suffix}" in fused:
                rows = [fused.pop(f"{path}.{part}.{suffix}") for part in parts]
                fused[f"{path}.{target}.{suffix}"] = mx.concatenate(rows)
        value_bias = fused.pop(f"{path}.value.bias")
        silent_key = mx.zeros_like(value_bias)
        before = [fused.pop(f"{path}.query.bias")] if "query" in parts else []
        fused[f"{path}.{target}.bias"] = mx.concatenate([*before, silent_key, value_bias])
    return fused


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    """Return floats as dtype; packed quantized weights stay as they are."""
    return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array
