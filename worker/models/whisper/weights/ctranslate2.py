"""CTranslate2's Whisper models, as faster-whisper uses them: their tensors under our names.

Query, key and value are stacked in one linear layer.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.whisper.weights.model_bin import ModelBin
from worker.models.whisper.weights.parameters import Dimensions, check_sinusoids

_SPEC = "WhisperSpec"
_GELU = 3  # CTranslate2's number of the exact (erf) GELU
_POSITIONS = "encoder/position_encodings/encodings"
# The projection to the vocabulary is the token embedding; the encoder's positions are sinusoids.
_NOT_NEEDED = ("decoder/projection/weight", _POSITIONS)
_NEVER_QUANTIZED = "decoder/layer_norm/gamma"


def read_model(paths: Sequence[Path]) -> tuple[Dimensions, dict[str, mx.array]]:
    """Return dimensions and parameters of a `model.bin`, given whole or in parts.

    Raises:
        InvalidModel: truncated, damaged, not Whisper, or of a shape that contradicts itself.
    """
    model = ModelBin(paths, _SPEC, dtype_of=_NEVER_QUANTIZED)
    dims = _dimensions(model)
    if model.scalar("decoder/activation") != _GELU:
        activation = model.scalar("decoder/activation")
        raise InvalidModel(f"{model.name}: decoder/activation", "must be GELU, 3", activation)
    positions = model.array(_POSITIONS)
    if positions is not None:
        check_sinusoids(positions, dims, model.name)
    arrays = _ends(model)
    for index in range(dims.n_audio_layer):
        arrays |= _block(model, f"encoder/layer_{index}", f"encoder.blocks.{index}")
    for index in range(dims.n_text_layer):
        arrays |= _block(model, f"decoder/layer_{index}", f"decoder.blocks.{index}")
        arrays |= _cross(model, f"decoder/layer_{index}", f"decoder.blocks.{index}")
    for name in model.unread():
        if name not in _NOT_NEEDED:  # a tensor of another architecture
            raise InvalidModel(f"{model.name}: {name}", "is no parameter of this Whisper model")
    return dims, arrays


def _dimensions(model: ModelBin) -> Dimensions:
    n_state, n_mels, _ = model.shape("encoder/conv1/weight", 3)
    n_vocab, n_text_state = model.shape("decoder/embeddings/weight", 2)
    n_audio_ctx = 1500
    if _POSITIONS in model.variables:
        n_audio_ctx, _ = model.shape(_POSITIONS, 2)
    sizes = {
        "n_mels": n_mels,
        "n_audio_ctx": n_audio_ctx,
        "n_audio_state": n_state,
        "n_audio_head": model.scalar("encoder/num_heads"),
        "n_audio_layer": _num_layers(model, "encoder"),
        "n_vocab": n_vocab,
        "n_text_ctx": model.shape("decoder/position_encodings/encodings", 2)[0],
        "n_text_state": n_text_state,
        "n_text_head": model.scalar("decoder/num_heads"),
        "n_text_layer": _num_layers(model, "decoder"),
    }
    return Dimensions.checked(sizes, model.name)


def _num_layers(model: ModelBin, side: str) -> int:
    layer = re.compile(rf"{side}/layer_(\d+)/")
    return len({match[1] for match in map(layer.match, model.variables) if match})


def _ends(model: ModelBin) -> dict[str, mx.array]:
    """Return the parameters outside the blocks."""
    arrays = {
        "decoder.token_embedding.weight": model.tensor("decoder/embeddings/weight"),
        "decoder.positional_embedding": model.tensor("decoder/position_encodings/encodings"),
        **_norm(model, "encoder/layer_norm", "encoder.ln_post"),
        **_norm(model, "decoder/layer_norm", "decoder.ln"),
    }
    for conv in ("conv1", "conv2"):
        weight = model.tensor(f"encoder/{conv}/weight")
        arrays[f"encoder.{conv}.weight"] = mx.contiguous(weight.swapaxes(1, 2))
        arrays[f"encoder.{conv}.bias"] = model.tensor(f"encoder/{conv}/bias")
    return arrays


def _block(model: ModelBin, layer: str, block: str) -> dict[str, mx.array]:
    """Return self-attention and the two linear layers."""
    return {
        **_stacked(model, f"{layer}/self_attention/linear_0", f"{block}.attn", "query key value"),
        **_stacked(model, f"{layer}/self_attention/linear_1", f"{block}.attn", "out"),
        **_norm(model, f"{layer}/self_attention/layer_norm", f"{block}.attn_ln"),
        **_stacked(model, f"{layer}/ffn/linear_0", block, "mlp1"),
        **_stacked(model, f"{layer}/ffn/linear_1", block, "mlp2"),
        **_norm(model, f"{layer}/ffn/layer_norm", f"{block}.mlp_ln"),
    }


def _cross(model: ModelBin, layer: str, block: str) -> dict[str, mx.array]:
    """Return the attention from text to audio."""
    attention = f"{block}.cross_attn"
    return {
        **_stacked(model, f"{layer}/attention/linear_0", attention, "query"),
        **_stacked(model, f"{layer}/attention/linear_1", attention, "key value"),
        **_stacked(model, f"{layer}/attention/linear_2", attention, "out"),
        **_norm(model, f"{layer}/attention/layer_norm", f"{block}.cross_attn_ln"),
    }


def _stacked(model: ModelBin, linear: str, owner: str, names: str) -> dict[str, mx.array]:
    """Return the projections that one linear layer stacks, cut into equal rows."""
    projections = names.split()
    rows, _ = model.shape(f"{linear}/weight", 2)
    size, rest = divmod(rows, len(projections))
    if rest:
        raise InvalidModel(
            f"{model.name}: {linear}/weight", f"must stack {len(projections)} projections", rows
        )
    arrays = {}
    for index, name in enumerate(projections):
        cut = slice(index * size, (index + 1) * size)
        arrays[f"{owner}.{name}.weight"] = model.tensor(f"{linear}/weight", cut)
        # A key's bias would add the same to all scores of a query: Whisper has none.
        if name != "key":
            arrays[f"{owner}.{name}.bias"] = model.tensor(f"{linear}/bias", cut)
    return arrays


def _norm(model: ModelBin, layer_norm: str, name: str) -> dict[str, mx.array]:
    return {
        f"{name}.weight": model.tensor(f"{layer_norm}/gamma"),
        f"{name}.bias": model.tensor(f"{layer_norm}/beta"),
    }
