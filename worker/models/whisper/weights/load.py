"""Loads Whisper weights by packaged name, folder or hub id.

MLX folders (`weights.npz`, safetensors, quantized), Hugging Face folders as openai and
distil-whisper publish them, and CTranslate2 folders as faster-whisper uses them. Whatever is wrong
with a model is an `InvalidModel` that names the tensor.
"""

from pathlib import Path

import mlx.core as mx

from producer.errors import InvalidModel
from producer.model_names import KNOWN_MODELS
from worker.models import MODELS
from worker.models.hub import fetch, is_hub_id
from worker.models.packaged import Packaged
from worker.models.whisper.weights.alignment_heads import alignment_heads
from worker.models.whisper.weights.folder import Opened, open_ctranslate2, open_folder
from worker.models.whisper.weights.parameters import (
    Dimensions,
    Weights,
    cast,
    checked_arrays,
    parameter_shapes,
)

__all__ = ["Dimensions", "Weights", "cast", "load_weights", "parameter_shapes"]


def load_weights(
    name: str,
    *,
    revision: str | None = None,
    dtype: mx.Dtype | None = None,
    cache_dir: Path | None = None,
) -> Weights:
    """Return the named model's weights, checked and in memory.

    Args:
        name: A packaged name (`tiny.en`), a folder, or a hub id (`openai/whisper-small`).
        revision: Hub branch, tag or commit; the result has the commit.
        dtype: Floating-point type; None keeps the stored one.
        cache_dir: Folder for hub files; None takes huggingface_hub's own.

    Raises:
        InvalidModel: no such model, or its files are missing, truncated, mismatched or corrupt.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
    """
    try:
        opened = _open(name, revision, cache_dir)
    except OSError as error:
        raise InvalidModel("model", f"must be readable: {error.strerror}", name) from error
    source = opened.source
    return Weights(
        dims=opened.dims,
        arrays=checked_arrays(opened.arrays, opened.dims, opened.quantization, source, dtype),
        alignment_heads=alignment_heads(opened.dims, name, opened.alignment_heads, source),
        quantization=opened.quantization,
        name=name,
        revision=opened.revision,
        source=source,
    )


def _open(name: str, revision: str | None, cache_dir: Path | None) -> Opened:
    listed = MODELS.get(name)
    if isinstance(listed, Packaged):
        paths, config = listed.paths()
        return open_ctranslate2(paths, config, listed.sha256)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return open_folder(folder)
    if folder.exists() or not is_hub_id(name):
        known = ", ".join(KNOWN_MODELS)
        raise InvalidModel("model", f"must be one of {known}, an existing folder or a hub id", name)
    folder, commit = fetch(name, revision, cache_dir)
    return open_folder(folder, commit)
