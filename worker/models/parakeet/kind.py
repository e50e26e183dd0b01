"""Parakeet's configuration among those of other models. No MLX: listing models stays quick."""

from typing import Any

from worker.models.parakeet.languages import languages_of
from worker.models.parakeet.weights.nemo_config import is_nemo
from worker.models.parakeet.weights.transformers_config import is_transformers


def is_ours(config: dict[str, Any]) -> bool:
    """Return whether a configuration is that of a Parakeet model, NeMo's or transformers'."""
    return is_nemo(config) or is_transformers(config)


def num_languages(config: dict[str, Any]) -> int | None:
    """Return how many languages a model writes, 1 or 25; None if its config has no vocabulary."""
    found = config.get("vocab_size")
    for section in ("joint", "decoder"):
        part = config.get(section)
        if not isinstance(found, int) and isinstance(part, dict):
            pieces = part.get("vocabulary")
            found = part.get("num_classes") or part.get("vocab_size")
            found = len(pieces) if isinstance(pieces, list) else found
    # transformers counts the blank as well.
    return len(languages_of(found - 1)) if isinstance(found, int) else None
