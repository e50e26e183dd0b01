"""Every layout gives the same model; a damaged one says which tensor or value is wrong."""

import json
import re
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import yaml

from producer.errors import InvalidModel
from tests.stage.parakeet_configs import nemo_config
from tests.stage.tiny_parakeets import (
    WRITERS,
    quantized,
    random_parakeet,
    speech_like,
    tiny_config,
    torch_arrays,
    write_mlx,
    write_nemo,
    write_tar,
    write_transformers,
)
from tests.stage.torch_checkpoints import torch_checkpoint
from worker.models.parakeet.network import Parakeet
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.parakeet.weights.load import load_weights
from worker.models.parakeet.weights.parameters import dequantized, parameter_shapes

every_layout = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
KINDS = {"tdt": {}, "ctc": {"ctc": True}, "biases": {"bias": True, "n_mels": 128}}


def same(found, wanted):
    """Return the names of arrays that differ."""
    names = found.keys() ^ wanted.keys()
    return sorted(
        names
        | {
            name
            for name in found.keys() & wanted.keys()
            if found[name].dtype != wanted[name].dtype
            or not mx.array_equal(found[name], wanted[name]).item()
        }
    )


@every_layout
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same_model(write, kind, tmp_path):
    """Configuration, tokens and tensors, bit for bit."""
    weights = random_parakeet(tiny_config(**KINDS[kind]))
    loaded = load_weights(str(write(weights, tmp_path)))
    assert loaded.config == weights.config
    assert loaded.vocabulary.pieces == weights.vocabulary.pieces
    assert loaded.vocabulary.special == {0}
    assert same(loaded.arrays, weights.arrays) == []
    assert re.fullmatch("[0-9a-f]{64}", loaded.revision)


@every_layout
def test_every_layout_computes_the_same(write, tmp_path):
    """Through both networks."""
    weights = random_parakeet(tiny_config())
    loaded = load_weights(str(write(weights, tmp_path)))
    pieces = [speech_like(1.0)]
    for network in (NumpyParakeet, Parakeet):
        found, wanted = (
            np.array(network(each).encode(pieces)[0].states) for each in (loaded, weights)
        )
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("write", [write_mlx, write_transformers])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision_is_kept(write, dtype, tmp_path):
    """As it is stored; LSTM biases of two halves are added in float32."""
    weights = random_parakeet(tiny_config(), dtype=dtype)
    loaded = load_weights(str(write(weights, tmp_path)))
    found = {name: array.astype(dtype) for name, array in loaded.arrays.items()}
    assert same(found, weights.arrays) == []
    assert loaded.arrays["encoder.layers.0.feed_forward1.linear1.weight"].dtype == dtype


def test_a_type_can_be_asked_for(tmp_path):
    """Of what the encoder multiplies with: statistics and heads stay as they are stored."""
    folder = write_mlx(random_parakeet(tiny_config()), tmp_path)
    arrays = load_weights(str(folder), dtype=mx.bfloat16).arrays
    assert arrays["encoder.layers.1.self_attn.linear_q.weight"].dtype == mx.bfloat16
    assert arrays["joint.enc.weight"].dtype == mx.bfloat16
    for kept in ("encoder.layers.1.conv.batch_norm.running_var", "joint.joint_net.2.weight"):
        assert arrays[kept].dtype == mx.float32


def test_a_voice_activity_head_is_found(tmp_path):
    """Parakeet Ultra's: no configuration tells of it."""
    weights = random_parakeet(tiny_config(vad=True))
    for write in (write_mlx, write_transformers):
        loaded = load_weights(str(write(weights, tmp_path / write.__name__)))
        assert loaded.config.vad == weights.config.vad
        assert same(loaded.arrays, weights.arrays) == []


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_folders_are_read(bits, tmp_path):
    """As MLX's converters write them: linear layers and the embedding, not convolutions."""
    weights = quantized(random_parakeet(tiny_config()), bits)
    loaded = load_weights(str(write_mlx(weights, tmp_path)))
    assert loaded.quantization == {"group_size": 32, "bits": bits}
    assert same(loaded.arrays, weights.arrays) == []
    packed = [name for name, array in loaded.arrays.items() if array.dtype == mx.uint32]
    # 4 of feed-forward and 5 of attention in a block; subsampling, embedding, joint network.
    assert len(packed) == 2 * 9 + 1 + 1 + 3
    unpacked = dequantized(loaded)
    assert unpacked.quantization is None
    shapes = {name: tuple(array.shape) for name, array in unpacked.arrays.items()}
    assert shapes == parameter_shapes(loaded.config)


def test_a_folder_may_have_shards(tmp_path):
    """With an index, as larger models have."""
    folder = write_transformers(random_parakeet(tiny_config()), tmp_path)
    tensors = mx.load(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for at in range(2):
        file = f"model-0000{at + 1}-of-00002.safetensors"
        part = dict(list(tensors.items())[at::2])
        mx.save_safetensors(str(folder / file), part)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load_weights(str(folder)).config == tiny_config()


def test_what_is_no_parameter_is_passed_over(tmp_path):
    """A hybrid's CTC head, and what NeMo stores of its front end."""
    weights = random_parakeet(tiny_config())
    folder = write_mlx(weights, tmp_path)
    more = {
        "ctc_decoder.decoder_layers.0.weight": mx.zeros((41, 1, 64)),
        "preprocessor.featurizer.fb": mx.zeros((1, 80, 257)),
        "encoder.layers.0.conv.batch_norm.num_batches_tracked": mx.array(3),
    }
    mx.save_safetensors(str(folder / "model.safetensors"), {**weights.arrays, **more})
    assert same(load_weights(str(folder)).arrays, weights.arrays) == []


def damaged(arrays, name, damage):
    """Return the arrays with one of them damaged."""
    array = arrays[name]
    changed = {
        "missing": {},
        "shorter": {name: array[:-1]},
        "longer": {name: mx.concatenate([array, array])},
        "not finite": {
            name: mx.where(mx.arange(array.size).reshape(array.shape) == 3, mx.nan, array)
        },
        "whole numbers": {name: array.astype(mx.int32)},
        "surplus": {name: array, f"{name}s": array},
    }[damage]
    return {key: each for key, each in arrays.items() if key != name} | changed


SAID = {
    "missing": "is missing",
    "shorter": "must have shape",
    "longer": "must have shape",
    "not finite": "finite",
    "whole numbers": "must be float32, float16 or bfloat16",
    "surplus": "is no parameter",
}


@pytest.mark.parametrize("damage", SAID)
@pytest.mark.parametrize(
    "name",
    [
        "encoder.pre_encode.conv.3.weight",
        "encoder.layers.1.self_attn.linear_pos.weight",
        "encoder.layers.0.conv.depthwise_conv.weight",
        "decoder.prediction.dec_rnn.lstm.1.Wh",
        "joint.joint_net.2.weight",
    ],
)
def test_a_damaged_tensor_is_named(name, damage, tmp_path):
    """By the name in the file, with what is wrong with it."""
    weights = random_parakeet(tiny_config())
    wrong = replace(weights, arrays=damaged(weights.arrays, name, damage))
    folder = write_mlx(wrong, tmp_path)
    with pytest.raises(InvalidModel, match=SAID[damage]) as caught:
        load_weights(str(folder))
    assert name in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "longer"])
def test_a_damaged_tensor_of_transformers_is_named_as_ours(damage, tmp_path):
    """Its place is clear from either name."""
    weights = random_parakeet(tiny_config())
    name = "encoder.layers.0.self_attn.linear_k.weight"
    wrong = replace(weights, arrays=damaged(weights.arrays, name, damage))
    with pytest.raises(InvalidModel, match=re.escape(name)):
        load_weights(str(write_transformers(wrong, tmp_path)))


def test_half_of_an_lstm_bias_is_not_enough(tmp_path):
    """Both are added: one alone would be another model."""
    folder = write_transformers(random_parakeet(tiny_config()), tmp_path)
    tensors = mx.load(str(folder / "model.safetensors"))
    del tensors["decoder.lstm.bias_hh_l0"]
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(InvalidModel, match=r"lstm\.0\.bias"):
        load_weights(str(folder))


@every_layout
def test_a_truncated_file_is_refused(write, tmp_path):
    """Cut anywhere: no half-read model, and no other kind of error."""
    path = write(random_parakeet(tiny_config()), tmp_path)
    file = path if path.is_file() else path / "model.safetensors"
    data = file.read_bytes()
    for length in (0, 1, 7, 100, 600, len(data) // 3, len(data) // 2, len(data) - 25_000):
        file.write_bytes(data[:length])
        with pytest.raises(InvalidModel, match=re.escape(str(file))):
            load_weights(str(path))


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"]
)
def test_a_missing_file_is_named(name, tmp_path):
    """Each is needed."""
    folder = write_transformers(random_parakeet(tiny_config()), tmp_path)
    (folder / name).unlink()
    with pytest.raises(InvalidModel, match=name):
        load_weights(str(folder))


def test_what_is_no_parakeet_is_refused(tmp_path):
    """Another model's folder, a name that is nothing."""
    folder = write_mlx(random_parakeet(tiny_config()), tmp_path)
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(InvalidModel, match="Parakeet"):
        load_weights(str(folder))
    with pytest.raises(InvalidModel, match="hub id"):
        load_weights("nothing")


@pytest.mark.parametrize("count", [39, 41])
def test_as_many_pieces_as_labels(count, tmp_path):
    """A token without a piece could not be written."""
    weights = random_parakeet(tiny_config())
    wrong = replace(weights, vocabulary=replace(weights.vocabulary, pieces=("a",) * count))
    with pytest.raises(InvalidModel, match="must have 40 tokens"):
        load_weights(str(write_mlx(wrong, tmp_path)))


def nemo_members(weights):

    tensors = {name: np.array(array) for name, array in torch_arrays(weights).items()}
    return {
        "model_config.yaml": yaml.safe_dump(nemo_config(weights)).encode(),
        "model_weights.ckpt": torch_checkpoint(tensors),
    }


def sentencepiece(pieces):
    """Return SentencePiece's protocol buffer of pieces, the first of which is no text."""
    data = b""
    for at, text in enumerate(pieces):
        held = (
            bytes([0x0A, len(text.encode())]) + text.encode() + bytes([0x18, 2 if at == 0 else 1])
        )
        data += bytes([0x0A, len(held)]) + held
    return data


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_archive_may_hold_its_tokenizer(is_listed, tmp_path):
    """It knows which pieces are no text; where the configuration lists none, it is all there is."""
    weights = random_parakeet(tiny_config())
    weights = replace(weights, vocabulary=Vocabulary(("oov", *weights.vocabulary.pieces[1:])))
    members = nemo_members(weights)
    members["abc_tokenizer.model"] = sentencepiece(weights.vocabulary.pieces)
    config = nemo_config(weights)
    if not is_listed:
        config["joint"]["vocabulary"] = None
    members["model_config.yaml"] = yaml.safe_dump(config).encode()
    write_tar(tmp_path / "model.nemo", members)
    found = load_weights(str(tmp_path / "model.nemo")).vocabulary
    assert found == Vocabulary(weights.vocabulary.pieces, frozenset({0}))


@pytest.mark.parametrize("name", ["model_config.yaml", "model_weights.ckpt"])
def test_an_archive_without_a_part_is_refused(name, tmp_path):
    """It is named."""
    members = nemo_members(random_parakeet(tiny_config()))
    del members[name]
    write_tar(tmp_path / "model.nemo", members)
    with pytest.raises(InvalidModel, match=name):
        load_weights(str(tmp_path / "model.nemo"))


@pytest.mark.parametrize("text", ["[1, 2", "- 1", "a: !!python/object/apply:os.getcwd []", "\x00"])
def test_a_configuration_that_is_none_is_refused(text, tmp_path):
    """No YAML, no mapping, or one that asks for code."""
    members = nemo_members(random_parakeet(tiny_config()))
    members["model_config.yaml"] = text.encode()
    write_tar(tmp_path / "model.nemo", members)
    with pytest.raises(InvalidModel, match=r"model_config\.yaml"):
        load_weights(str(tmp_path / "model.nemo"))


def test_a_compressed_archive_is_refused(tmp_path):
    """It would be unpacked anew for every tensor."""
    write_tar(tmp_path / "a.nemo", nemo_members(random_parakeet(tiny_config())), "w:gz")
    with pytest.raises(InvalidModel, match="uncompressed"):
        load_weights(str(tmp_path / "a.nemo"))


def test_nothing_is_unpacked_to_the_disk(tmp_path):
    """Names in an archive lead nowhere."""
    members = nemo_members(random_parakeet(tiny_config()))
    outside = {f"../../{name}": data for name, data in members.items()}
    write_tar(tmp_path / "model.nemo", outside)
    load_weights(str(tmp_path / "model.nemo"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.nemo"]


def test_an_archive_is_written_as_nemo_writes_it(tmp_path):
    """The helper's own check: torch's ZIP within a tar."""
    path = write_nemo(random_parakeet(tiny_config()), tmp_path)
    assert path.read_bytes()[257:262] == b"ustar"
