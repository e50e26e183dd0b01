"""What a command line asks of a transcription: options of the job, the model, and other words for both."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import FiniteFloat, TypeAdapter, ValidationError

from producer.cli.flags import Flags, Given, optional
from producer.cli.session import Session
from producer.errors import InvalidOptions, ScribefarmError
from producer.glossary import read_glossary
from producer.job import MAX_TEMPERATURES, AudioOptions, Options, Temperature
from producer.model_names import KNOWN_MODELS, check_model
from producer.options_of_model import fitted
from producer.quality import PRESETS
from producer.replacements import Pairs
from producer.settings import Settings

_FALLBACK = "When the text looks wrong"
_INCREMENT = "temperature_increment_on_fallback"
# The reference's: its defaults are 0, and 0.2 on top until 1.
_DEFAULT_INCREMENT = 0.2
_LAST_TEMPERATURE = 1.0

_QUALITY = "quality"

JOB_FLAGS = Flags(
    Options,
    panel="Decoding",
    panels={
        "Language": (
            "language",
            "task",
            "allowed_languages",
            "multilingual",
            "on_drift",
            "drift_model",
        ),
        "Words to expect": (
            "initial_prompt",
            "carry_initial_prompt",
            "condition_on_previous_text",
            "hotwords",
            "replacements_ignore_case",
        ),
        "Times": (
            "word_timestamps",
            "clip_timestamps",
            "without_timestamps",
            "max_initial_timestamp",
        ),
        "Speed or the likeliest text": ("beam_size", "best_of", "patience", "length_penalty"),
        _FALLBACK: (
            "temperatures",
            "compression_ratio_threshold",
            "logprob_threshold",
            "no_speech_threshold",
            "hallucination_silence_threshold",
        ),
    },
    names={
        "temperatures": ("--temperature",),
        "initial_prompt": ("--initial-prompt", "--prompt"),
        "word_timestamps": ("--word-timestamps", "--words"),
    },
    free_text=frozenset({"initial_prompt", "hotwords"}),
)
INCREMENT_FLAG = optional(
    _INCREMENT,
    str,
    typer.Option(
        "--temperature-increment-on-fallback",
        help="Steps from one --temperature up to 1; None: no other.",
        metavar="NUMBER",
        show_default=str(_DEFAULT_INCREMENT),
        rich_help_panel=_FALLBACK,
    ),
)
GLOSSARY_FLAG = optional(
    "glossary",
    str,
    typer.Option(
        "--glossary",
        help="CSV (wrong,right) or TOML file of phrases to replace after decoding.",
        metavar="FILE",
        rich_help_panel="Words to expect",
    ),
)
QUALITY_FLAG = optional(
    _QUALITY,
    str,
    typer.Option(
        "--quality",
        help=(
            "reference, the default, follows five beams, and draws five samples where text looks"
            " wrong, as openai-whisper's command does; fast takes each likeliest token: less time,"
            " more errors. Options that are said themselves count more."
        ),
        metavar="|".join(PRESETS),
        show_default=False,
        rich_help_panel="Speed or the likeliest text",
        autocompletion=lambda: list(PRESETS),
    ),
)
AUDIO_FLAGS = Flags(AudioOptions, panel="How recordings are read")
# Flags that are no fields, behind a field of the same group.
_BESIDE = {
    "temperatures": (INCREMENT_FLAG,),
    "hotwords": (GLOSSARY_FLAG,),
    "length_penalty": (QUALITY_FLAG,),
}
OPTION_FLAGS = tuple(
    flag
    for own in (*JOB_FLAGS.parameters(), *AUDIO_FLAGS.parameters())
    for flag in (own, *_BESIDE.get(own.name, ()))
)

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Like large-v3, turbo or base; a folder or hub id; else model.name of the settings.",
        show_default=False,
        autocompletion=lambda: sorted(KNOWN_MODELS),
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a hub model.", show_default=False),
]


def use_model(session: Session, name: str | None, revision: str | None) -> None:
    """Let a model of the command line stand for that of the settings; their pin is of theirs only.

    Raises:
        InvalidOptions: there is no such model.
    """
    if name is None and revision is None:
        return
    model = session.settings.model
    try:
        chosen = model.name if name is None else check_model(name)
    except InvalidOptions as error:
        raise InvalidOptions("--model", error.constraint, error.value) from error
    pinned = revision or (model.revision if chosen == model.name else None)
    session.use(model={"name": chosen, "revision": pinned})


def asked_options(settings: Settings, given: Given) -> Options:
    """Return the options of settings.toml with those of the command line on top.

    Raises:
        InvalidOptions: an option is out of bounds, there is no such language or preset, the model
            in the settings knows no other than English, or the glossary is none.
    """
    values = _preset(given) | JOB_FLAGS.values(given) | _temperatures(settings, given)
    if "glossary" in given:
        values["replacements"] = _glossary(str(given["glossary"]))
    try:
        options = Options.model_validate({**settings.options.model_dump(), **values})
    except ValidationError as error:
        raise JOB_FLAGS.refusal(error, given) from error
    return fitted(options, settings.model.name, lambda name: _said_by(name, given))


def asked_audio(settings: Settings, given: Given) -> AudioOptions:
    """Return how recordings are read: as settings.toml says, with the command line on top.

    Raises:
        InvalidOptions: a value is out of bounds.
    """
    own = settings.audio.for_job().model_dump()
    try:
        return AudioOptions.model_validate({**own, **AUDIO_FLAGS.values(given)})
    except ValidationError as error:
        raise AUDIO_FLAGS.refusal(error, given) from error


def _preset(given: Given) -> dict[str, Any]:
    """Return the options that a preset stands for."""
    said = given.get(_QUALITY)
    if said is None:
        return {}
    if said not in PRESETS:
        raise InvalidOptions(_flag(_QUALITY), f"must be one of {', '.join(PRESETS)}", said)
    return dict(PRESETS[str(said)])


def _glossary(file: str) -> Pairs:
    try:
        return read_glossary(Path(file))
    except ScribefarmError as error:
        context = "--glossary" if error.context == "glossary" else f"--glossary {error.context}"
        raise InvalidOptions(context, error.constraint, error.value) from error


def _temperatures(settings: Settings, given: Given) -> dict[str, Any]:
    """Return the temperatures that one temperature and its increment stand for, as the reference's."""
    said, increment = given.get("temperatures"), given.get(_INCREMENT)
    if said is None and increment is None:
        return {}
    if said is not None and "," in str(said):
        if increment is not None:
            limit = "goes with one --temperature, not with a list"
            raise InvalidOptions(_flag(_INCREMENT), limit, increment)
        return {}
    start = settings.options.temperatures[0]
    if said is not None:
        start = _number("--temperature", str(said), Temperature)
    return {"temperatures": _steps(start, increment)}


def _steps(start: float, increment: str | bool | None) -> tuple[float, ...]:
    if str(increment).strip().lower() == "none" and increment is not None:
        return (start,)
    step = _DEFAULT_INCREMENT
    if increment is not None:
        step = _number(_flag(_INCREMENT), str(increment), FiniteFloat)
    most = (_LAST_TEMPERATURE - start) / (MAX_TEMPERATURES - 1)
    if not (step > 0 and step >= most):
        limit = f"must be above 0, and come to at most {MAX_TEMPERATURES} temperatures"
        raise InvalidOptions(_flag(_INCREMENT), limit, step)
    num_steps = max(0, int((_LAST_TEMPERATURE - start) / step + 1e-6))
    # Rounded, so that the default's steps are the default: 0.6, not 0.6000000000000001.
    return tuple(round(start + number * step, 6) for number in range(num_steps + 1))


def _number(flag: str, text: str, kind: Any) -> float:
    try:
        return float(TypeAdapter(kind).validate_python(text.strip()))
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise InvalidOptions(flag, found["msg"], text) from error


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _said_by(name: str, given: Given) -> str:
    """Return where an option was said: its flag, or its setting."""
    return JOB_FLAGS.flag_of(name) if name in given else f"options.{name}"
