"""The cross-attention heads that follow time, for word timestamps.

OpenAI chose them by hand for each of its models (`whisper/__init__.py`). The heads that a folder
publishes (`alignment_heads`) come first.
"""

import numpy as np
from numpy.typing import NDArray

from producer.errors import InvalidModel
from worker.models.whisper.weights.parameters import Dimensions

Heads = NDArray[np.int64]

# Pairs of (layer, head).
_TINY_EN = ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))
_TINY = ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5))
_BASE_EN = ((3, 3), (4, 7), (5, 1), (5, 5), (5, 7))
_BASE = ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))
_SMALL_EN = (
    *((6, 6), (7, 0), (7, 3), (7, 8), (8, 2), (8, 5), (8, 7), (9, 0), (9, 4), (9, 8), (9, 10)),
    *((10, 0), (10, 1), (10, 2), (10, 3), (10, 6), (10, 11), (11, 2), (11, 4)),
)
_SMALL = ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5))
_MEDIUM_EN = (
    *((11, 4), (14, 1), (14, 12), (14, 14), (15, 4), (16, 0), (16, 4), (16, 9), (17, 12)),
    *((17, 14), (18, 7), (18, 10), (18, 15), (20, 0), (20, 3), (20, 9), (20, 14), (21, 12)),
)
_MEDIUM = ((13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4))
_LARGE_V1 = ((9, 19), (11, 2), (11, 4), (11, 17), (22, 7), (22, 11), (22, 17), (23, 2), (23, 15))
_LARGE_V2 = (
    *((10, 12), (13, 17), (16, 11), (16, 12), (16, 13), (17, 15), (17, 16), (18, 4), (18, 11)),
    *((18, 19), (19, 11), (21, 2), (21, 3), (22, 3), (22, 9), (22, 12), (23, 5), (23, 7)),
    *((23, 13), (25, 5), (26, 1), (26, 12), (27, 15)),
)
_LARGE_V3 = (
    *((7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1)),
    (25, 6),
)
_TURBO = ((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14))

# By (width, decoder layers, vocabulary, mels). large-v1 has the sizes of large-v2, so only the
# model's name tells them apart.
_KNOWN = {
    (384, 4, 51864, 80): _TINY_EN,
    (384, 4, 51865, 80): _TINY,
    (512, 6, 51864, 80): _BASE_EN,
    (512, 6, 51865, 80): _BASE,
    (768, 12, 51864, 80): _SMALL_EN,
    (768, 12, 51865, 80): _SMALL,
    (1024, 24, 51864, 80): _MEDIUM_EN,
    (1024, 24, 51865, 80): _MEDIUM,
    (1280, 32, 51865, 80): _LARGE_V2,
    (1280, 32, 51866, 128): _LARGE_V3,
    (1280, 4, 51866, 128): _TURBO,
}


def alignment_heads(dims: Dimensions, name: str, published: object, source: str) -> Heads:
    """Return the heads, `(k, 2)` of (layer, head).

    They are the published ones, else OpenAI's for a model of these sizes, else, as in
    openai-whisper, all heads of the upper half of the decoder.

    Args:
        dims: Sizes of the model.
        name: What was asked for; tells large-v1 from large-v2.
        published: The folder's list of pairs; None or empty if it has none.
        source: Named in errors.

    Raises:
        InvalidModel: the published heads are no heads of this model.
    """
    if published is not None and published != []:
        return _checked(published, dims, source)
    key = (dims.n_text_state, dims.n_text_layer, dims.n_vocab, dims.n_mels)
    known = _KNOWN.get(key)
    if known is _LARGE_V2 and "large-v1" in name:
        known = _LARGE_V1
    return np.array(known or _upper_half(dims), dtype=np.int64)


def _checked(published: object, dims: Dimensions, source: str) -> Heads:
    context, shape = f"{source}: alignment_heads", (dims.n_text_layer, dims.n_text_head)
    try:
        heads = np.asarray(published)
    except ValueError as error:
        raise InvalidModel(context, "must be pairs of layer and head", str(published)) from error
    if heads.dtype.kind not in "iu" or heads.shape != (heads.size // 2, 2):
        raise InvalidModel(context, "must be pairs of layer and head", str(published))
    if (heads < 0).any() or (heads >= shape).any():
        raise InvalidModel(context, f"must lie within {shape} layers and heads", heads.tolist())
    return heads.astype(np.int64)


def _upper_half(dims: Dimensions) -> list[tuple[int, int]]:
    layers = range(dims.n_text_layer // 2, dims.n_text_layer)
    return [(layer, head) for layer in layers for head in range(dims.n_text_head)]
