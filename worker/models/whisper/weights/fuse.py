"""Published parameters as the networks hold them: one array for projections of the same input."""

import re

import mlx.core as mx

_FUSED = {"attn": ("qkv", ("query", "key", "value")), "cross_attn": ("key_value", ("key", "value"))}
_PROJECTION = re.compile(
    r"(?P<path>.*\.(?P<kind>attn|cross_attn))\.(?P<part>query|key|value)\.weight$"
)


def fuse_projections(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    """Rename published parameters to the networks' names, with q, k and v of a layer in one array.

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
