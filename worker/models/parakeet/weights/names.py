"""Tensors of NeMo's and of transformers' checkpoints under our names and in our layouts.

Both are PyTorch's: convolutions `(out, in, ...)`, LSTM layers with two biases that are added.
"""

import re

import mlx.core as mx

# Not parameters: a filterbank and a window that we compute, a counter, and the CTC head of a hybrid.
_IGNORED = re.compile(
    r"preprocessor\..*|.*\.num_batches_tracked|ctc_decoder\..*|encoder\.pos_enc\.pe|"
    r"encoder\.encode_positions\.inv_freq|spec_augment.*|loss\..*"
)
_PARTS = {
    "self_attn.q_proj": "self_attn.linear_q",
    "self_attn.k_proj": "self_attn.linear_k",
    "self_attn.v_proj": "self_attn.linear_v",
    "self_attn.o_proj": "self_attn.linear_out",
    "self_attn.relative_k_proj": "self_attn.linear_pos",
    "self_attn.bias_u": "self_attn.pos_bias_u",
    "self_attn.bias_v": "self_attn.pos_bias_v",
    "conv.norm": "conv.batch_norm",
}
_PREFIXES = {
    "encoder.subsampling.layers.": "encoder.pre_encode.conv.",
    "encoder.subsampling.linear.": "encoder.pre_encode.out.",
    "encoder_projector.": "joint.enc.",
    "decoder.embedding.": "decoder.prediction.embed.",
    "decoder.decoder_projector.": "joint.pred.",
    "decoder.lstm.": "decoder.prediction.dec_rnn.lstm.",
    "joint.head.": "joint.joint_net.2.",
    "ctc_head.": "decoder.decoder_layers.0.",
}
_LSTM = re.compile(r"(decoder\.prediction\.dec_rnn\.lstm)\.(weight|bias)_(ih|hh)_l(\d+)")
_LSTM_WEIGHTS = {"ih": "Wx", "hh": "Wh"}


def is_transformers(names: set[str]) -> bool:
    """Return whether tensors have the names that transformers writes."""
    return any(name.startswith("encoder.subsampling.") for name in names)


def from_transformers(name: str) -> str:
    """Return NeMo's name of a transformers tensor; an unknown one is unchanged."""
    name = name.removeprefix("model.")
    for before, after in _PREFIXES.items():
        if name.startswith(before):
            return name.replace(before, after, 1)
    for before, after in _PARTS.items():
        found = re.fullmatch(rf"(encoder\.layers\.\d+)\.{re.escape(before)}(\.\w+)?", name)
        if found:
            return f"{found[1]}.{after}{found[2] or ''}"
    return name


def without_ignored(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    """Return the tensors that are parameters, or unknown."""
    return {name: array for name, array in arrays.items() if not _IGNORED.fullmatch(name)}


def from_torch(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    """Return tensors under NeMo's names in our layouts; `arrays` may hold fewer than all."""
    found: dict[str, mx.array] = {}
    for name, array in arrays.items():
        lstm = _LSTM.fullmatch(name)
        if lstm is None:
            found[name] = _channels_last(array)
        elif lstm[2] == "weight":
            found[f"{lstm[1]}.{lstm[4]}.{_LSTM_WEIGHTS[lstm[3]]}"] = array
    for name, array in arrays.items():
        lstm = _LSTM.fullmatch(name)
        if lstm is None or (lstm[2], lstm[3]) != ("bias", "ih"):
            continue
        other = arrays.get(name.replace("_ih_", "_hh_"))
        if other is not None and array.shape == other.shape:
            both = array.astype(mx.float32) + other.astype(mx.float32)
            found[f"{lstm[1]}.{lstm[4]}.bias"] = both
        else:
            # Refused by its name: the other half is missing.
            found[name] = array
    return found


def _channels_last(array: mx.array) -> mx.array:
    """Return a convolution's weight with its inputs last; others as they are."""
    if array.ndim == 3:  # noqa: PLR2004 (out, in, width)
        return array.swapaxes(1, 2)
    if array.ndim == 4:  # noqa: PLR2004 (out, in, height, width)
        return array.transpose(0, 2, 3, 1)
    return array
