"""Hugging Face's names for Whisper: config keys and tensors, as openai and distil-whisper publish.

Convolutions are `(out, in, width)` there, and `proj_out` repeats the token embedding.
"""

import re
from typing import Any

import mlx.core as mx
import numpy as np

from producer.errors import InvalidModel
from worker.models.whisper.weights.parameters import Dimensions, check_sinusoids

_SIZES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
# Values of every published config, which the network assumes.
_FIXED = {"model_type": "whisper", "activation_function": "gelu", "scale_embedding": False}

_POSITIONS = "encoder.positional_embedding"
_WHOLE = {
    "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "encoder.embed_positions.weight": _POSITIONS,
}
_LAYER_PARTS = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp1",
    "fc2": "mlp2",
    "final_layer_norm": "mlp_ln",
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.([\w.]+)\.(weight|bias|scales|biases)")
_NORM = re.compile(r"(encoder|decoder)\.layer_norm\.(weight|bias)")
_TIED = "proj_out."  # a second copy of the token embedding


def dimensions(config: dict[str, Any], source: str) -> Dimensions:
    """Return the sizes in a `config.json`, by MLX's or by Hugging Face's keys.

    Raises:
        InvalidModel: a size is missing or wrong, or the architecture is not Whisper's.
    """
    if "n_mels" in config:
        return Dimensions.checked(config, source)
    for key, expected in _FIXED.items():
        if config.get(key, expected) != expected:
            raise InvalidModel(f"{source}: {key}", f"must be {expected}", config[key])
    for side in ("encoder", "decoder"):
        _check_width(config, f"{side}_ffn_dim", source)
    return Dimensions.checked({name: config.get(key) for name, key in _SIZES.items()}, source)


def is_huggingface(arrays: dict[str, mx.array]) -> bool:
    """Return whether the tensors have the names that transformers writes."""
    return any(".layers." in name for name in arrays)


def renamed(arrays: dict[str, mx.array], dims: Dimensions, source: str) -> dict[str, mx.array]:
    """Return the tensors under our names and in our layouts.

    Raises:
        InvalidModel: the encoder's positions are not Whisper's.
    """
    found = {
        _renamed(name.removeprefix("model.")): array
        for name, array in arrays.items()
        if not name.startswith(_TIED)
    }
    positions = found.pop(_POSITIONS, None)
    if positions is not None:
        check_sinusoids(np.array(positions.astype(mx.float32)), dims, source)
    for conv in ("encoder.conv1.weight", "encoder.conv2.weight"):
        # Folders that MLX wrote with these names have the axes swapped already.
        if conv in found and found[conv].ndim == 3 and found[conv].shape[2] == 3:  # noqa: PLR2004 - three axes, three wide
            found[conv] = mx.contiguous(found[conv].swapaxes(1, 2))
    return found


def _renamed(name: str) -> str:
    """Return our name; an unknown one is unchanged, and refused by `checked_arrays`."""
    if name in _WHOLE:
        return _WHOLE[name]
    if norm := _NORM.fullmatch(name):
        side, kind = norm.groups()
        return f"encoder.ln_post.{kind}" if side == "encoder" else f"decoder.ln.{kind}"
    layer = _LAYER.fullmatch(name)
    if layer is None or layer[3] not in _LAYER_PARTS:
        return name
    return f"{layer[1]}.blocks.{layer[2]}.{_LAYER_PARTS[layer[3]]}.{layer[4]}"


def _check_width(config: dict[str, Any], key: str, source: str) -> None:
    state = config.get("d_model")
    if isinstance(state, int) and config.get(key, 4 * state) != 4 * state:
        raise InvalidModel(f"{source}: {key}", f"must be {4 * state}", config[key])
