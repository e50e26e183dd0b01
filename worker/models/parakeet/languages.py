"""The languages that a Parakeet model writes; which of them it writes is the model's own choice."""

from producer.parakeet_options import EUROPEAN

# NVIDIA's models of English alone (v2, 1.1b, 110m, the CTC ones) have 1024 pieces or 128, v3 has
# 8192. A model's configuration does not say which languages it was trained on.
_MOST_ENGLISH_PIECES = 1024


def languages_of(num_labels: int) -> tuple[str, ...]:
    """Return the codes of a model's languages, told by the size of its vocabulary."""
    return ("en",) if num_labels <= _MOST_ENGLISH_PIECES else EUROPEAN
