"""Every folder format gives the same model, and every damaged one says which tensor is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import InvalidModel
from tests.stage.tiny_models import (
    WRITERS,
    same_arrays,
    tiny_random_whisper,
    write_ctranslate2,
    write_mlx,
)
from worker.models import MODELS
from worker.models.whisper.weights.alignment_heads import alignment_heads
from worker.models.whisper.weights.convert import dequantize, quantize, save
from worker.models.whisper.weights.load import cast, load_weights, parameter_shapes
from worker.models.whisper.weights.parameters import Dimensions, is_quantizable

DATA = Path(__file__).parents[2] / "data"
OPENAI_HEADS = json.loads((DATA / "alignment_heads.json").read_text())["models"]
every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


@every_format
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=["float32", "float16"])
@pytest.mark.parametrize(
    ("n_mels", "multilingual"), [(80, False), (80, True), (128, True)], ids=["en", "multi", "v3"]
)
def test_every_format_gives_the_same_arrays(write, dtype, n_mels, multilingual, tmp_path):
    """Bit for bit, with the same names, sizes and alignment heads."""
    weights = tiny_random_whisper(n_mels, multilingual=multilingual, dtype=dtype, width=16)
    loaded = load_weights(str(write(weights, tmp_path)))
    assert loaded.dims == weights.dims
    assert same_arrays(weights.arrays, loaded.arrays) == []
    assert loaded.alignment_heads.tolist() == weights.alignment_heads.tolist()
    assert loaded.source == str(tmp_path)


def test_bfloat16_survives_every_float_folder(tmp_path):
    """NumPy has no such type, MLX and safetensors do."""
    weights = tiny_random_whisper(dtype=mx.bfloat16, width=16)
    for name in ("mlx npz", "mlx safetensors", "huggingface"):
        loaded = load_weights(str(WRITERS[name](weights, tmp_path / name)))
        assert same_arrays(weights.arrays, loaded.arrays) == []


def test_int8_rows_are_divided_by_their_scales(tmp_path):
    """A CTranslate2 int8 model is within half a step of the float one, row by row."""
    weights = tiny_random_whisper(width=16)
    loaded = load_weights(str(write_ctranslate2(weights, tmp_path, quantization="int8")))
    for name, array in weights.arrays.items():
        found, given_ = np.array(loaded.arrays[name]), np.array(array)
        rows = given_.reshape(len(given_), -1)
        step = np.abs(rows).max(axis=1, keepdims=True) / 127 if given_.ndim > 1 else 0.0
        assert found.dtype == np.float32
        # The last term is float32 rounding of the quotient.
        assert (np.abs(found.reshape(rows.shape) - rows) <= step / 2 + 1e-6).all(), name


def test_int8_beside_half_floats_becomes_half_floats(tmp_path):
    """The type is the one that the model keeps for what it does not quantize."""
    weights = tiny_random_whisper(width=16, dtype=mx.float16)
    loaded = load_weights(str(write_ctranslate2(weights, tmp_path, quantization="int8")))
    assert {array.dtype for array in loaded.arrays.values()} == {mx.float16}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("file", ["weights.npz", "model.safetensors"])
def test_quantized_folders_keep_packed_weights_scales_and_biases(bits, file, tmp_path):
    """As mlx-community publishes them: linear layers and the token embedding, groups of 64."""
    weights = quantize(tiny_random_whisper(), bits)
    loaded = load_weights(str(write_mlx(weights, tmp_path, file=file)))
    assert loaded.quantization == {"group_size": 64, "bits": bits}
    assert same_arrays(weights.arrays, loaded.arrays) == []
    packed = [name for name, array in loaded.arrays.items() if array.dtype == mx.uint32]
    assert "decoder.token_embedding.weight" in packed
    # 6 linear layers in an encoder block, 10 in a decoder block, 2 blocks each.
    assert len(packed) == 2 * 6 + 2 * 10 + 1


def test_quantized_weights_are_close_to_the_float_ones():
    """8 bits: within a step of each group of 64; MLX puts zero on a step, so ends are cut."""
    weights = tiny_random_whisper()
    packed = quantize(weights, 8)
    for name in filter(is_quantizable, weights.arrays):
        stem = name.removesuffix(".weight")
        scales, biases = packed.arrays[f"{stem}.scales"], packed.arrays[f"{stem}.biases"]
        back = mx.dequantize(packed.arrays[name], scales, biases, group_size=64, bits=8)
        error = mx.abs(back - weights.arrays[name]).reshape(*scales.shape, 64).max(axis=-1)
        assert (error <= mx.abs(scales)).all().item()


def test_dequantized_weights_multiply_as_the_packed_ones():
    """What a CPU worker uses instead: the same products, without the packing."""
    packed = quantize(tiny_random_whisper(), 4)
    floats = dequantize(packed, mx.float32)
    assert floats.quantization is None
    assert set(floats.arrays) == set(parameter_shapes(packed.dims))
    stem = "encoder.blocks.1.mlp2"
    weight, scales, biases = (packed.arrays[f"{stem}.{k}"] for k in ("weight", "scales", "biases"))
    x = mx.array(np.random.default_rng(0).standard_normal((3, 256), dtype=np.float32))
    expected = mx.quantized_matmul(x, weight, scales, biases, group_size=64, bits=4)
    assert mx.allclose(x @ floats.arrays[f"{stem}.weight"].T, expected, atol=1e-5).item()


def test_a_type_can_be_asked_for(tmp_path):
    """The cast happens tensor by tensor while loading, or later."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path)
    loaded = load_weights(str(folder), dtype=mx.float16)
    assert {array.dtype for array in loaded.arrays.values()} == {mx.float16}
    assert same_arrays(loaded.arrays, cast(load_weights(str(folder)), mx.float16).arrays) == []


def test_casting_leaves_packed_integers_alone():
    """Scales and biases are floats, packed weights are not."""
    packed = cast(quantize(tiny_random_whisper(), 4), mx.float16)
    kinds = {array.dtype for name, array in packed.arrays.items()}
    assert kinds == {mx.uint32, mx.float16}


def test_a_value_too_large_for_the_type_is_named():
    """100,000 is no float16."""
    weights = tiny_random_whisper(width=16)
    arrays = dict(weights.arrays)
    arrays["decoder.ln.bias"] = arrays["decoder.ln.bias"] + 1e5
    with pytest.raises(InvalidModel, match=r"decoder\.ln\.bias: must be finite"):
        cast(replace(weights, arrays=arrays), mx.float16)


def test_the_revision_follows_the_content(tmp_path):
    """Same bytes, same revision; one other weight, another revision."""
    weights = tiny_random_whisper(width=16)
    one = load_weights(str(write_mlx(weights, tmp_path / "a"))).revision
    same = load_weights(str(shutil.copytree(tmp_path / "a", tmp_path / "b"))).revision
    other = write_mlx(tiny_random_whisper(width=16, seed=1), tmp_path / "c")
    assert one == same
    assert one != load_weights(str(other)).revision


def test_loading_does_not_hold_the_model_twice(tmp_path):
    """A float16 folder cast to float32 needs the float32 model and a few tensors, no more."""
    folder = write_mlx(
        tiny_random_whisper(width=256, dtype=mx.float16), tmp_path, file="model.safetensors"
    )
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    loaded = load_weights(str(folder), dtype=mx.float32)
    sizes = [array.nbytes for array in loaded.arrays.values()]
    assert mx.get_peak_memory() - before <= sum(sizes) + max(sizes)


# Alignment heads.


@pytest.mark.parametrize("name", list(OPENAI_HEADS))
def test_openai_models_are_known_by_their_sizes(name):
    """Without heads of its own, a folder gets those of the model it has the shape of."""
    facts = OPENAI_HEADS[name]
    dims = Dimensions(
        n_mels=facts["n_mels"],
        n_audio_ctx=1500,
        n_audio_state=facts["n_text_state"],
        n_audio_head=facts["n_text_head"],
        n_audio_layer=facts["n_text_layer"],
        n_vocab=facts["n_vocab"],
        n_text_ctx=448,
        n_text_state=facts["n_text_state"],
        n_text_head=facts["n_text_head"],
        n_text_layer=facts["n_text_layer"],
    )
    # large-v1 has the sizes of large-v2: only its name tells.
    heads = alignment_heads(dims, f"somebody/whisper-{name}", None, "here")
    assert heads.tolist() == facts["pairs"]


def test_an_empty_list_of_heads_says_nothing(tmp_path):
    """Some converted fine-tunes have one; the model still aligns."""
    folder = write_ctranslate2(tiny_random_whisper(width=16), tmp_path)
    (folder / "config.json").write_text('{"alignment_heads": []}')
    assert load_weights(str(folder)).alignment_heads.tolist() == [[1, 0], [1, 1]]


def test_unknown_shapes_align_on_the_upper_half(tmp_path):
    """As the reference does for models that are not OpenAI's."""
    weights = tiny_random_whisper(width=16, layers=3)
    loaded = load_weights(str(write_mlx(weights, tmp_path, heads=False)))
    assert loaded.alignment_heads.tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize("heads", [[[2, 0]], [[0, 2]], [[-1, 0]], [[0]], "x", [[0, None]], 3])
def test_published_heads_must_be_heads_of_the_model(heads, tmp_path):
    """A model has 2 layers of 2 heads here."""
    folder = write_ctranslate2(tiny_random_whisper(width=16), tmp_path)
    (folder / "config.json").write_text(json.dumps({"alignment_heads": heads}))
    with pytest.raises(InvalidModel, match="alignment_heads"):
        load_weights(str(folder))


# Real weights.


@pytest.mark.weights
@pytest.mark.parametrize(("name", "layers"), [("tiny.en", 4), ("base", 6)])
def test_packaged_models_load(name, layers):
    """Both, checked by hash; base lies in two packages."""
    loaded = load_weights(name)
    assert loaded.dims.n_text_layer == layers
    assert loaded.revision == MODELS[name].sha256
    known = alignment_heads(loaded.dims, name, None, name)
    assert loaded.alignment_heads.tolist() == known.tolist()


@pytest.mark.weights
def test_a_packaged_model_with_other_bytes_is_refused():
    """The hash is checked before anything is read."""
    other = replace(MODELS["tiny.en"], sha256="0" * 64)
    with pytest.raises(InvalidModel, match="must have sha256 0000"):
        other.paths()


@pytest.mark.weights
def test_the_round_trip_through_an_mlx_folder_is_identical(tmp_path):
    """CTranslate2 to MLX and back in: every bit, and the heads."""
    packaged = load_weights("tiny.en")
    save(packaged, tmp_path / "mlx")
    loaded = load_weights(str(tmp_path / "mlx"))
    assert same_arrays(packaged.arrays, loaded.arrays) == []
    assert loaded.dims == packaged.dims
    assert loaded.alignment_heads.tolist() == packaged.alignment_heads.tolist()
