"""Loads Parakeet weights by folder, `.nemo` file or hub id.

MLX folders of NeMo's models (also quantized), Hugging Face's folders of `ParakeetForTDT` and
`ParakeetForCTC`, and NeMo's own archives. Whatever is wrong with a model is an `InvalidModel` that
names the value or tensor.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.hub import fetch, is_hub_id
from worker.models.packaged import hash_files
from worker.models.parakeet.config import Config, VadConfig
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.parakeet.weights import names, nemo_config, transformers_config
from worker.models.parakeet.weights.nemo_archive import open_nemo
from worker.models.parakeet.weights.parameters import Weights, checked_arrays
from worker.models.parakeet.weights.tokens import (
    checked,
    from_sentencepiece,
    from_tokenizer_json,
)
from worker.models.tensor_files import load_tensors, quantization_of, read_json, weight_files

_VAD = "vad_head."
_CONV_RANK = 3
_PREPROCESSOR = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"
_TOKENIZER_JSON = "tokenizer.json"
_SENTENCEPIECE = "tokenizer.model"


@dataclass(frozen=True)
class Opened:
    """What a folder or archive holds, under our names, not yet checked against the sizes."""

    config: Config
    arrays: dict[str, mx.array]
    vocabulary: Vocabulary
    quantization: dict[str, int] | None
    revision: str
    source: str


def load_weights(
    name: str,
    *,
    revision: str | None = None,
    dtype: mx.Dtype | None = None,
    cache_dir: Path | None = None,
) -> Weights:
    """Return the named model's weights, checked and in memory.

    Args:
        name: A folder, a `.nemo` file, or a hub id (`mlx-community/parakeet-tdt-0.6b-v3`).
        revision: Hub branch, tag or commit; the result has the commit.
        dtype: Of what the encoder multiplies with; None keeps the stored one. The heads keep theirs.
        cache_dir: Folder for hub files; None takes huggingface_hub's own.

    Raises:
        InvalidModel: no such model, or its files are missing, truncated, mismatched or corrupt.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
    """
    try:
        opened = _open(name, revision, cache_dir)
    except OSError as error:
        raise InvalidModel("model", f"must be readable: {error.strerror}", name) from error
    arrays = checked_arrays(opened.arrays, opened.config, opened.quantization, opened.source, dtype)
    vocabulary = checked(opened.vocabulary, opened.config.num_labels, opened.source)
    return Weights(
        config=opened.config,
        vocabulary=vocabulary,
        arrays=arrays,
        quantization=opened.quantization,
        name=name,
        revision=opened.revision,
        source=opened.source,
    )


def is_parakeet(config: dict[str, Any]) -> bool:
    """Return whether a `config.json` is that of a Parakeet, in either layout."""
    return nemo_config.is_nemo(config) or transformers_config.is_transformers(config)


def _open(name: str, revision: str | None, cache_dir: Path | None) -> Opened:
    path = Path(name).expanduser()
    if path.is_file():
        return _open_archive(path)
    if path.is_dir():
        return _open_folder_or_archive(path)
    if not is_hub_id(name):
        raise InvalidModel("model", "must be a folder, a .nemo file or a hub id", name)
    folder, commit = fetch(name, revision, cache_dir)
    return _open_folder_or_archive(folder, commit)


def _open_folder_or_archive(folder: Path, commit: str | None = None) -> Opened:
    """Open a folder, or the one archive that it holds in place of weights."""
    archives = list(folder.glob("*.nemo"))
    if (folder / "config.json").exists() or len(archives) != 1:
        return open_folder(folder, commit)
    opened = _open_archive(archives[0])
    return opened if commit is None else replace(opened, revision=commit)


def _open_archive(path: Path) -> Opened:
    opened = open_nemo(path)
    source = str(path)
    listed = nemo_config.vocabulary(opened.config, source)
    vocabulary = Vocabulary(listed) if listed else opened.vocabulary
    if vocabulary is None:
        raise InvalidModel(source, "must list a vocabulary, or hold a tokenizer.model")
    if listed and opened.vocabulary is not None and opened.vocabulary.pieces == listed:
        vocabulary = opened.vocabulary
    arrays = names.from_torch(names.without_ignored(opened.arrays))
    config = nemo_config.read(opened.config, source)
    return Opened(config, arrays, vocabulary, None, hash_files([path]), source)


def open_folder(folder: Path, revision: str | None = None) -> Opened:
    """Open a folder of MLX's or of Hugging Face's.

    Args:
        folder: Where `config.json` and the weights are.
        revision: Hub commit; None takes a hash of the files.

    Raises:
        InvalidModel: no weights in a known format, a truncated file or an unknown config.
    """
    source, path = str(folder), folder / "config.json"
    parsed, files = read_json(path), weight_files(folder)
    if not is_parakeet(parsed):
        raise InvalidModel(str(path), "must be that of a Parakeet")
    arrays: dict[str, mx.array] = {}
    for file in files:
        arrays |= load_tensors(file)
    arrays = names.without_ignored(arrays)
    if nemo_config.is_nemo(parsed):
        config = nemo_config.read(parsed, str(path))
    else:
        config = transformers_config.read(parsed, _feature_config(folder), source)
    if names.is_transformers(set(arrays)):
        arrays = names.from_torch(
            {names.from_transformers(name): array for name, array in arrays.items()}
        )
    config = replace(config, vad=_vad(arrays, source))
    return Opened(
        config,
        arrays,
        _vocabulary(folder, parsed, config.num_labels),
        quantization_of(parsed, source),
        revision or hash_files([*files, path]),
        source,
    )


def _feature_config(folder: Path) -> dict[str, Any]:
    """Return the feature extractor's settings, which transformers 5 keeps within the processor's."""
    if (folder / _PREPROCESSOR).is_file():
        return read_json(folder / _PREPROCESSOR)
    if (folder / _PROCESSOR).is_file():
        held = read_json(folder / _PROCESSOR).get("feature_extractor")
        if isinstance(held, dict):
            return held
    raise InvalidModel(str(folder), f"must hold {_PREPROCESSOR} or {_PROCESSOR}")


def _vocabulary(folder: Path, config: dict[str, Any], num_labels: int) -> Vocabulary:
    if listed := nemo_config.vocabulary(config, str(folder / "config.json")):
        return Vocabulary(listed)
    if (folder / _TOKENIZER_JSON).is_file():
        parsed = read_json(folder / _TOKENIZER_JSON)
        return from_tokenizer_json(parsed, num_labels, str(folder / _TOKENIZER_JSON))
    if (folder / _SENTENCEPIECE).is_file():
        data = (folder / _SENTENCEPIECE).read_bytes()
        return from_sentencepiece(data, str(folder / _SENTENCEPIECE))
    readable = f"{_TOKENIZER_JSON} or {_SENTENCEPIECE}"
    raise InvalidModel(str(folder), f"must list its vocabulary, or hold {readable}")


def _vad(arrays: dict[str, mx.array], source: str) -> VadConfig | None:
    """Return the sizes of a voice activity head, which no configuration tells; None without one."""
    if not any(name.startswith(_VAD) for name in arrays):
        return None
    context = arrays.get(f"{_VAD}ctx.weight")
    if context is None or context.ndim != _CONV_RANK or context.shape[1] % 2 == 0:
        found = None if context is None else tuple(context.shape)
        limit = "must be a convolution of odd width"
        raise InvalidModel(f"{source}: {_VAD}ctx.weight", limit, found)
    return VadConfig(width=context.shape[0], kernel_size=context.shape[1])
