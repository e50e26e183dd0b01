"""Options on the command line: every field of a job's options, read as openai-whisper's are."""

import pytest
import typer

from producer.__main__ import app
from producer.cli.job_flags import AUDIO_FLAGS, JOB_FLAGS, asked_audio, asked_options, use_model
from producer.cli.session import Session
from producer.cli.whisper_flags import NOT_OURS
from producer.console import hyphened
from producer.errors import InvalidOptions
from producer.job import AudioOptions, Options
from producer.settings import load_settings
from worker.models.whisper.word_timing import APPEND_PUNCTUATIONS, PREPEND_PUNCTUATIONS

COMMANDS = typer.main.get_command(app).commands
BASE = load_settings(model={"name": "base"})


def given_by(*arguments, command="submit"):
    """Return what the flags among arguments say, by field."""
    context = COMMANDS[command].make_context(
        command, ["talk.wav", *arguments], token_normalize_func=hyphened
    )
    fields = {*Options.model_fields, *AudioOptions.model_fields}
    fields |= {"temperature_increment_on_fallback", "quality"}
    return {
        name: said for name, said in context.params.items() if name in fields and said is not None
    }


def asked_by(*arguments, settings=BASE):
    """Return the options that a command line asks for."""
    return asked_options(settings, given_by(*arguments))


@pytest.mark.parametrize("command", ["submit", "transcribe"])
@pytest.mark.parametrize("flags", [JOB_FLAGS, AUDIO_FLAGS], ids=lambda flags: flags.model.__name__)
def test_every_field_has_a_flag_with_help(command, flags):
    """A new option of a job is on the command line without a line of its own."""
    parameters = {each.name: each for each in COMMANDS[command].params}
    for name in (each.name for each in flags.parameters()):
        assert flags.flag_of(name) in parameters[name].opts
        assert parameters[name].help or flags is AUDIO_FLAGS
    # A table of replacements comes in a file: --glossary.
    assert flags.model.model_fields.keys() - parameters.keys() <= {"replacements"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--language German", {"language": "de"}),
        ("--language None", {}),
        ("--allowed-languages de,en", {"allowed_languages": ("de", "en")}),
        ("--allowed-languages de,en --multilingual", {"allowed_languages": ("de", "en"), "multilingual": True}),
        ("--multilingual False", {}),
        ("--task translate", {"task": "translate"}),
        ("--prompt None", {"initial_prompt": "None"}),
        ("--initial_prompt x --carry_initial_prompt True", {"initial_prompt": "x", "carry_initial_prompt": True}),
        ("--condition_on_previous_text False", {"condition_on_previous_text": False}),
        ("--condition-on-previous-text", {}),
        ("--words", {"word_timestamps": True}),
        ("--word_timestamps True", {"word_timestamps": True}),
        ("--word_timestamps=True", {"word_timestamps": True}),
        ("--word_timestamps False", {}),
        ("--no-word-timestamps", {}),
        ("--temperature 0", {}),
        ("--temperature 0.4", {"temperatures": (0.4, 0.6, 0.8, 1.0)}),
        ("--temperature 1.5", {"temperatures": (1.5,)}),
        ("--temperature 0,0.5", {"temperatures": (0.0, 0.5)}),
        ("--temperature 0 --temperature_increment_on_fallback None", {"temperatures": (0.0,)}),
        ("--temperature_increment_on_fallback 0.5", {"temperatures": (0.0, 0.5, 1.0)}),
        ("--logprob_threshold -0.5 --no_speech_threshold None", {"logprob_threshold": -0.5, "no_speech_threshold": None}),
        ("--suppress_tokens -1,50256", {"suppress_tokens": (-1, 50256)}),
        ("--suppress_tokens=", {"suppress_tokens": ()}),
        ("--clip_timestamps 0,1.5", {"clip_timestamps": (0.0, 1.5)}),
        ("--best_of 5 --beam_size 5", {}),
        ("--best-of 2 --seed 7 --sample-len 100", {"best_of": 2, "seed": 7, "sample_len": 100}),
        ("--beam_size 5 --patience 2 --length_penalty 0.5", {"beam_size": 5, "patience": 2.0, "length_penalty": 0.5}),
        ("--beam_size None", {"beam_size": None}),
        ("--quality fast", {"beam_size": None, "best_of": 1}),
        ("--quality reference", {}),
        ("--patience 2", {"patience": 2.0}),
        ("--beam-size 2 --quality reference", {"beam_size": 2, "best_of": 5}),
        ("--quality reference --beam-size none --best-of 3", {"beam_size": None, "best_of": 3}),
        ("--words --hallucination_silence_threshold 2", {"word_timestamps": True, "hallucination_silence_threshold": 2.0}),
    ],
)  # fmt: skip
def test_a_flag_gives_the_option_that_it_names(arguments, expected):
    """With hyphens or underscores; what is openai-whisper's default changes nothing."""
    assert asked_by(*arguments.split()) == Options(**expected)


@pytest.mark.parametrize(
    ("arguments", "context", "limit", "value"),
    [
        ("--temperature -1", "--temperature", "greater than or equal to 0", "-1"),
        ("--temperature nan", "--temperature", "finite number", "nan"),
        ("--temperature 0,2.5", "--temperature", "less than or equal to 2", "2.5"),
        ("--temperature 0,1 --temperature-increment-on-fallback 1", "--temperature-increment-on-fallback", "not with a list", "1"),
        ("--temperature-increment-on-fallback 0", "--temperature-increment-on-fallback", "above 0", 0.0),
        ("--temperature-increment-on-fallback 1e-9", "--temperature-increment-on-fallback", "at most 20", 1e-9),
        ("--temperature-increment-on-fallback inf", "--temperature-increment-on-fallback", "finite", "inf"),
        ("--best-of many", "--best-of", "valid integer", "many"),
        ("--no-speech-threshold 60", "--no-speech-threshold", "less than or equal to 1", "60"),
        ("--suppress-tokens 1,x", "--suppress-tokens", "valid integer", "x"),
        ("--suppress-tokens 99999999999", "--suppress-tokens", "less than", "99999999999"),
        ("--clip-timestamps -3", "--clip-timestamps", "greater than or equal to 0", "-3"),
        ("--task sing", "--task", "'transcribe' or 'translate'", "sing"),
        ("--allowed-languages de,xx", "--allowed-languages", "that Whisper knows", "xx"),
        ("--multilingual --language de", "--multilingual", "needs language to be absent", True),
        ("--beam-size 0", "--beam-size", "greater than or equal to 1", "0"),
        ("--beam-size 33", "--beam-size", "less than or equal to 32", "33"),
        ("--beam-size 5 --patience 0", "--patience", "greater than 0", "0"),
        ("--beam-size 5 --patience 11", "--patience", "less than or equal to 10", "11"),
        ("--length-penalty 1.1", "--length-penalty", "less than or equal to 1", "1.1"),
        ("--quality fast --patience 2", "--patience", "needs beam_size", "2"),
        ("--beam-size 1 --patience 0.5", "--patience", "times 1 beams must round to 1", "0.5"),
        ("--quality best", "--quality", "one of fast, reference", "best"),
        ("--hallucination-silence-threshold 1", "options", "needs word_timestamps", None),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_the_flag_that_said_it(arguments, context, limit, value):
    """With the bound and the value."""
    with pytest.raises(InvalidOptions, match=limit) as refused:
        asked_by(*arguments.split())
    assert (refused.value.context, refused.value.value) == (context, value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "True"], {"initial_prompt": "True"}),
        (["--prompt", "--words"], {"initial_prompt": "--words"}),
        (["--words", "False", "False"], {"word_timestamps": False}),
        (["--words", "--", "True"], {"word_timestamps": True}),
        (["--words", "--words=False"], {"word_timestamps": False}),
        (["paths", "--words", "True"], {"word_timestamps": True}),
    ],
)
def test_true_and_false_belong_to_the_switch_before_them_alone(arguments, said):
    """A file may be called so."""
    assert given_by(*arguments) == said


def test_a_switch_takes_no_other_word():
    """The word behind it is a file; behind `=` it is refused."""
    context = COMMANDS["submit"].make_context("submit", ["--words", "yes"])
    assert context.params["paths"] == ["yes"]
    with pytest.raises(Exception, match="must be True or False"):
        COMMANDS["submit"].make_context("submit", ["--words=yes", "a.wav"])


def test_the_command_line_lies_on_top_of_the_settings():
    """What is not said there stays."""
    settings = load_settings(
        model={"name": "base"},
        options={"language": "de", "temperatures": [0.2, 0.4], "word_timestamps": True},
    )
    assert asked_by("--seed", "1", settings=settings) == Options(
        language="de", temperatures=(0.2, 0.4), word_timestamps=True, seed=1
    )
    assert asked_by("--no-words", settings=settings).word_timestamps is False
    increment = ("--temperature-increment-on-fallback", "None")
    assert asked_by(*increment, settings=settings).temperatures == (0.2,)


def test_how_recordings_are_read_is_asked_beside_the_options():
    """`[audio]` of the settings, and flags on top."""
    settings = load_settings(audio={"resampler": "linear"})
    assert asked_audio(settings, given_by()).resampler == "linear"
    assert asked_audio(settings, given_by("--resampler", "soxr_hq")).resampler == "soxr_hq"
    with pytest.raises(InvalidOptions, match="soxr_hq") as refused:
        asked_audio(settings, given_by("--resampler", "fast"))
    assert (refused.value.context, refused.value.value) == ("--resampler", "fast")


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [((), "mix"), (("--channels", "split"), "split"), (("--channels", "2"), 2)],
)
def test_a_word_or_a_number_may_be_a_flags_value(arguments, channels):
    """Where the field takes both."""
    assert asked_audio(BASE, given_by(*arguments)).channels == channels
    for wrong in ("left", "0", "65"):
        with pytest.raises(InvalidOptions) as refused:
            asked_audio(BASE, given_by("--channels", wrong))
        assert (refused.value.context, refused.value.value) == ("--channels", wrong)


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        (None, None, ("base", "r1")),
        ("base", None, ("base", "r1")),
        ("BASE", "r2", ("base", "r2")),
        (None, "r2", ("base", "r2")),
        ("turbo", None, ("mlx-community/whisper-large-v3-turbo", None)),
        ("turbo", "r2", ("mlx-community/whisper-large-v3-turbo", "r2")),
    ],
)
def test_a_model_of_the_command_line_stands_for_that_of_the_settings(name, revision, expected):
    """The settings' pin is of their model alone; a worker that is started gets the same."""
    session = Session()
    session.settings = load_settings(model={"name": "base", "revision": "r1"})
    use_model(session, name, revision)
    assert (session.settings.model.name, session.settings.model.revision) == expected
    assert session.settings.to_environment()["SCRIBEFARM_MODEL__NAME"] == expected[0]


def test_the_punctuation_that_joins_words_is_the_one_that_is_said():
    """Answers to openai-whisper's options quote the worker's own constants."""
    accepted = {each.option: each.accepted for each in NOT_OURS}
    assert accepted["prepend_punctuations"] == {PREPEND_PUNCTUATIONS}
    assert accepted["append_punctuations"] == {APPEND_PUNCTUATIONS}


def test_only_the_flags_of_a_model_are_its_values():
    """Flags of other models stand beside them on the same command line."""
    assert AUDIO_FLAGS.values({"language": "de", "resampler": "linear"}) == {"resampler": "linear"}


@pytest.mark.parametrize(
    ("flag", "begun", "offered"),
    [
        ("model", "large-v3", ["large-v3", "large-v3-turbo"]),
        ("task", "transl", ["translate"]),
        ("resampler", "soxr", ["soxr_hq"]),
    ],
)
def test_shells_complete_what_a_flag_takes(flag, begun, offered):
    """Names of models, and words of which there are few."""
    command = COMMANDS["transcribe"]
    context = command.make_context("transcribe", [], resilient_parsing=True)
    (option,) = [each for each in command.params if each.name == flag]
    assert [item.value for item in option.shell_complete(context, begun)] == offered
