"""One name for each model, whatever it is called: the queue of its jobs is named by it."""

import pytest

from producer.errors import InvalidOptions, InvalidSettings
from producer.job import Job
from producer.model_names import (
    KNOWN_MODELS,
    canonical_model,
    check_model,
    knows_english_alone,
    may_be_whisper,
    short_names,
)
from producer.queue import job_id_of
from producer.settings import load_settings
from worker.models import MODELS
from worker.models.hub import is_hub_id

TURBO = "mlx-community/whisper-large-v3-turbo"
# `whisper.available_models()` of openai-whisper 20250625.
OPENAI = (
    *("tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium"),
    *("large-v1", "large-v2", "large-v3", "large", "large-v3-turbo", "turbo"),
)


def test_every_name_of_openai_whisper_is_known():
    """So what its users type works."""
    assert set(OPENAI) <= set(KNOWN_MODELS)


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_a_known_name_stands_for_what_the_worker_loads(name):
    """A packaged model or a hub id, which is its own name; the suffix tells its languages."""
    known = KNOWN_MODELS[name]
    assert known.name in MODELS or is_hub_id(known.name)
    assert canonical_model(known.name) == known.name == canonical_model(name.upper())
    assert name in short_names(known.name)
    assert knows_english_alone(known.name) == (known.num_languages == 1)


@pytest.mark.parametrize(
    "name",
    ["openai/whisper-small", "/models/small", "./small", "~/models/tiny", "small-8bit", "none"],
)
def test_folders_hub_ids_and_other_words_stay_as_they_are(name):
    """The worker says what it does not find."""
    assert canonical_model(name) == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("large-v3-trubo", "large-v3-turbo"),
        ("tiny_en", "tiny.en"),
        ("whisper-medium", "medium"),
        ("smal", "small"),
        ("largev3", "large-v3"),
    ],
)
def test_a_near_miss_is_refused_with_what_was_meant(typed, meant):
    """In a job, in the settings and in a call, each with its own code."""
    with pytest.raises(InvalidOptions, match=rf"did you mean {meant}\?.*got {typed}"):
        canonical_model(typed)
    with pytest.raises(InvalidOptions, match=rf"job: model: .*did you mean {meant}\?"):
        Job.from_kwargs({"source": "a.wav", "model": typed})
    with pytest.raises(InvalidSettings, match=rf"model.name: .*did you mean {meant}\?"):
        load_settings(model={"name": typed})


def test_a_folder_of_a_near_name_is_a_folder(tmp_path, monkeypatch):
    """As `models convert` may have written it; one with a known name itself needs a slash."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny.enn", "small"):
        (tmp_path / name).mkdir()
    assert canonical_model("tiny.enn") == "tiny.enn" == check_model("tiny.enn")
    assert canonical_model("small") == KNOWN_MODELS["small"].name


def test_a_word_typed_by_a_person_must_be_something(tmp_path):
    """Before a server or a worker is started for it."""
    for name in ("turbo", "openai/whisper-small", "/models/none", "~/x", str(tmp_path), "base"):
        assert check_model(name) == canonical_model(name)
    with pytest.raises(
        InvalidOptions, match=r"must be one of tiny, .*a hub id or a folder.*canary"
    ):
        check_model("canary")
    with pytest.raises(InvalidOptions):
        check_model("no\0pe")


def test_producer_and_worker_agree_whatever_alias_each_was_given():
    """The same queue, and the same id of a job: nothing is transcribed twice for its name."""
    named = [load_settings(model={"name": name}) for name in ("turbo", "large-v3-turbo", TURBO)]
    assert {settings.model.name for settings in named} == {TURBO}
    jobs = [
        Job(source="a.wav", audio_sha256="0" * 64, model=model)
        for model in (None, "turbo", "Large-V3-Turbo", TURBO)
    ]
    assert len({job_id_of(job, settings) for job in jobs for settings in named}) == 1


@pytest.mark.parametrize(
    ("model", "is_english"),
    [
        ("distil-whisper/distil-large-v3", True),
        ("distil-whisper/distil-medium.en", True),
        ("primeline/distil-whisper-large-v3-german", False),
        ("openai/whisper-small.en", True),
        ("/models/tiny.en", False),
        ("openai/whisper-small", False),
    ],
)
def test_a_name_tells_a_model_of_english_alone(model, is_english):
    """Those of OpenAI and Distil-Whisper; a folder may be named as it likes."""
    assert knows_english_alone(model) is is_english


def test_parakeets_names_say_whose_they_are():
    """CC-BY-4.0 asks to name NVIDIA, and Moondream where it trained on."""
    assert canonical_model("parakeet") == "moondream/parakeet-ultra"
    assert canonical_model("Parakeet-EN") == "mlx-community/parakeet-tdt-0.6b-v2"
    assert canonical_model("parakeet-v3") == "mlx-community/parakeet-tdt-0.6b-v3"
    ours = [known for known in KNOWN_MODELS.values() if known.family == "parakeet"]
    assert {known.licence for known in ours} == {"CC-BY-4.0"}
    assert all("NVIDIA" in known.attribution for known in ours)
    assert "Moondream" in KNOWN_MODELS["parakeet"].attribution
    assert knows_english_alone("mlx-community/parakeet-tdt-0.6b-v2")
    assert not knows_english_alone("mlx-community/parakeet-tdt-0.6b-v3")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("tiny.en", True),
        ("mlx-community/whisper-large-v3-turbo", True),
        ("/models/mine", True),
        ("someone/own-model", True),
        ("moondream/parakeet-ultra", False),
        ("nvidia/Parakeet-ctc-1.1b", False),
    ],
)
def test_a_name_tells_whether_a_model_may_be_whisper(model, expected):
    """Of a folder nobody knows before it is opened."""
    assert may_be_whisper(model) is expected
