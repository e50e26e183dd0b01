"""Whisper's `config.json` among those of other models. No MLX: listing models stays quick."""

from typing import Any

# Keys by which the formats that name no `model_type` are known: MLX's and CTranslate2's.
_WHISPER_KEYS = ("n_mels", "alignment_heads", "lang_ids")
_BY_VOCABULARY = {51864: 1, 51865: 99, 51866: 100}
# CTranslate2's converter lists one language too few for models of English alone, which have none.
_BY_LISTED = {0: 1, 98: 1, 99: 99, 100: 100}


def is_ours(config: dict[str, Any]) -> bool:
    """Return whether a `config.json` is that of a Whisper model, in any of the three formats."""
    return config.get("model_type") == "whisper" or any(key in config for key in _WHISPER_KEYS)


def num_languages(config: dict[str, Any]) -> int | None:
    """Return how many languages a Whisper model's vocabulary has; None if its config does not say.

    1 is English, 100 are those of large-v3 with Cantonese.
    """
    if vocabulary := config.get("n_vocab") or config.get("vocab_size"):
        return _BY_VOCABULARY.get(vocabulary) if isinstance(vocabulary, int) else None
    listed = config.get("lang_ids")
    return _BY_LISTED.get(len(listed)) if isinstance(listed, list) else None
