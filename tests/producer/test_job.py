"""What a job may say: everything that could not be stored in its result is refused by name."""

import json
import math

import pytest
from pydantic import ValidationError

from producer.archive.find import FoundFile
from producer.archive.prepare import SubmitOptions, to_job
from producer.errors import Internal, InvalidOptions
from producer.job import AudioOptions, Job, Options
from producer.plain_json import MAX_DEPTH, MAX_JSON_BYTES
from producer.quality import PRESETS
from producer.queue import with_defaults
from producer.result import Failure, dump_result, parse_result
from producer.settings import load_settings

HASH = "0123456789abcdef" * 4
# Of a job with that audio, the model base and no option, as the first version 3 made it: greedy.
ID_OF_VERSION_3 = "8f0291d140513f88f8b84d531c257a3d"
GREEDY = Options(**PRESETS["fast"])


def nested(depth):
    """Return lists within lists."""
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("metadata", "limit"),
    [
        ({"original": "caf\udce9.wav"}, "UTF-8"),
        ({"caf\udce9": 1}, "UTF-8"),
        ({"a": {"b": ["\ud800"]}}, "UTF-8"),
        ({"a": nested(MAX_DEPTH)}, str(MAX_DEPTH)),
        ({"a": nested(50_000)}, str(MAX_DEPTH)),
        ({"a": math.nan}, "finite"),
        ({"a": [math.inf]}, "finite"),
        ({"a": "x" * MAX_JSON_BYTES}, str(MAX_JSON_BYTES)),
        ({"a": 10**5000}, "numbers"),
        ({"a": {1: 2}}, "keys"),
        ({"a": b"bytes"}, "JSON values"),
    ],
)
def test_metadata_that_no_result_could_hold_is_refused_with_its_limit(metadata, limit):
    """It comes back in the result, so it must survive being written and read."""
    with pytest.raises(InvalidOptions, match=limit) as refused:
        Job.from_kwargs({"source": "a.wav", "metadata": metadata})
    assert refused.value.context == "job: metadata"
    assert refused.value.value is not None


def test_an_object_that_holds_itself_many_times_is_refused_at_once():
    """Only a Python program can make one; it would be larger than any memory as JSON."""
    value = []
    for _ in range(80):
        value = [value, value]
    with pytest.raises(InvalidOptions, match=str(MAX_JSON_BYTES)):
        Job.from_kwargs({"source": "a.wav", "metadata": {"a": value}})


def test_metadata_within_the_bounds_comes_back_unread():
    """The deepest, odd text, large numbers."""
    metadata = {"a": nested(MAX_DEPTH - 1), "\0": "\U0001f600\u202e", "n": [10**30, -0.5, None]}
    job = Job.from_kwargs({"source": "a.wav", "metadata": metadata})
    failure = Failure.from_error("id", Internal("a", "b"), metadata=job.metadata)
    assert parse_result(dump_result(failure)).metadata == json.loads(json.dumps(metadata))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"source": "caf\udce9.wav"},
        {"batch": "\udc00"},
        {"name": "\udc00"},
        {"model": "\udc00"},
        {"model": "m" * 5000},
        {"revision": "\udc00"},
        {"options": {"language": "\udc00"}},
        {"options": {"language": "d" * 101}},
        {"options": {"allowed_languages": ["\udc00"]}},
        {"options": {"allowed_languages": ["de"] * 201}},
        {"options": {"initial_prompt": "\udc00"}},
        {"options": {"hotwords": "\udc00"}},
        {"options": {"temperatures": [0.0] * 21}},
        {"options": {"clip_timestamps": [0.0] * 10_001}},
        {"options": {"suppress_tokens": [1] * 10_001}},
        {"options": {"max_initial_timestamp": math.nan}},
        {"audio_sha256": "abc"},
        {"audio_sha256": "g" * 64},
        {"audio_sha256": HASH + "\n"},
        {"\udc00": 1},
    ],
)
def test_every_text_and_list_of_a_job_has_its_bounds(kwargs):
    """A lone surrogate is no text, and a message about it can be written."""
    with pytest.raises(InvalidOptions) as refused:
        Job.from_kwargs({"source": "a.wav"} | kwargs)
    dump_result(Failure.from_error("id", refused.value))
    json.dumps(refused.value.to_dict()).encode()


def test_a_hash_is_one_whatever_its_case():
    """Other programs may write it in capitals."""
    assert Job(source="a", audio_sha256=HASH.upper()).audio_sha256 == HASH


def test_options_that_came_later_leave_ids_as_they_were_until_they_are_asked_for():
    """Made with the version before beams: greedy work is not done again; other work is other work."""
    job = Job(source="a", model="tiny.en", audio_sha256=HASH)
    greedy = job.model_copy(update={"options": GREEDY})
    assert greedy.content_id(HASH) == "c7ca3f5929852d24293a1c90daf8f9ee"
    more = [{"beam_size": 5}, {"beam_size": 5, "patience": 2}, {"beam_size": 1, "patience": 2}]
    asked = [{}, *more, {"length_penalty": 0.0}]
    ids = {Job(source="a", options={"beam_size": None, **each}).content_id(HASH) for each in asked}
    assert len(ids) == len(asked)


def test_one_beam_is_greedy_and_the_same_work():
    """A settings file has no word for none."""
    one, none = (Job(source="a", options={"beam_size": size}) for size in (1, None))
    assert one.content_id(HASH) == none.content_id(HASH)


def test_the_default_and_the_preset_reference_are_the_same_work():
    """And other work than greedy was."""
    reference = Job(source="a", model="base", options=PRESETS["reference"])
    plain = Job(source="a", model="base")
    assert plain.content_id(HASH) == reference.content_id(HASH) != ID_OF_VERSION_3


def test_a_job_means_what_was_the_default_when_its_id_was_made():
    """Its data leaves defaults out: one that an older producer enqueued stays greedy."""
    sent = {"source": "a", "model": "base", "audio_sha256": HASH}
    job = Job.from_kwargs(sent)
    assert job.as_meant(ID_OF_VERSION_3).options == GREEDY
    assert job.as_meant(job.content_id(HASH)) == job
    assert job.as_meant("an RQ program's own id") == job
    without_audio = Job(source="a", model="base")
    assert without_audio.as_meant(ID_OF_VERSION_3) == without_audio
    some = Job.from_kwargs(sent | {"options": {"best_of": 3}})
    former = some.model_copy(update={"options": Options(beam_size=None, best_of=3)})
    assert some.as_meant(former.content_id(HASH)) == former


def test_what_a_parakeet_does_not_do_is_not_in_its_ids():
    """It is greedy whatever is the default; but the Whisper that may hear a recording anew is not."""
    plain = Job(source="a", model="parakeet")
    greedy = plain.model_copy(update={"options": GREEDY})
    assert plain.content_id(HASH) == greedy.content_id(HASH)
    asked = {"on_drift": "whisper", "drift_model": "turbo", "language": "de"}
    drifting = [
        Job(source="a", model="parakeet", options=asked | PRESETS[name]) for name in PRESETS
    ]
    assert len({job.content_id(HASH) for job in drifting}) == len(drifting)


def test_a_long_value_is_quoted_in_part():
    """A message stays a line."""
    with pytest.raises(InvalidOptions) as refused:
        Job.from_kwargs({"source": "a" * 5_000_000})
    assert len(str(refused.value)) < 1000


def test_a_manifests_row_with_such_metadata_is_one_problem(tmp_path):
    """Named by its file; the other rows are submitted."""
    file = FoundFile(tmp_path / "a.wav", "a.wav", {"metadata": {"original": "caf\udce9.wav"}})
    with pytest.raises(InvalidOptions, match=r"a\.wav: metadata: must be text"):
        to_job(file, SubmitOptions(batch="b"), {"audio_sha256": HASH})
    with pytest.raises(ValidationError):
        Job(source="a", metadata={"a": math.nan})


def test_how_a_recording_is_read_is_part_of_its_id():
    plain = Job(source="a.wav", model="base")
    assert plain.content_id(HASH) == plain.model_copy(update={"audio": AudioOptions()}).content_id(
        HASH
    )
    linear = plain.model_copy(update={"audio": AudioOptions(resampler="linear")})
    assert linear.content_id(HASH) != plain.content_id(HASH)
    assert Job.from_kwargs(linear.to_kwargs()).read_as.resampler == "linear"


def test_options_that_came_later_change_no_id_at_their_defaults():
    """Ids that archives hold stay what they are; what changes the text changes the id."""
    plain = Job(source="a.wav", model="base", options=GREEDY)
    assert plain.content_id(HASH) == ID_OF_VERSION_3
    by_window = {"options": GREEDY.model_copy(update={"multilingual": True})}
    assert plain.model_copy(update=by_window).content_id(HASH) != ID_OF_VERSION_3


def test_a_job_takes_from_the_settings_how_it_is_read():
    settings = load_settings(audio={"resampler": "linear"})
    asked = Job(source="a.wav", model="base")
    assert with_defaults(asked, settings).read_as.resampler == "linear"
    own = asked.model_copy(update={"audio": AudioOptions(resampler="soxr_hq")})
    assert with_defaults(own, settings).read_as.resampler == "soxr_hq"
