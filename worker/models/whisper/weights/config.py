"""Whisper's `config.json` among those of other models. No MLX: listing models stays quick."""

from typing import Any

# Keys by which the formats that name no `model_type` are known: MLX's and CTranslate2's.
_WHISPER_KEYS = ("n_mels", "alignment_heads", "lang_ids")


def is_whisper(config: dict[str, Any]) -> bool:
    """Return whether a `config.json` is that of a Whisper model, in any of the three formats."""
    return config.get("model_type") == "whisper" or any(key in config for key in _WHISPER_KEYS)
