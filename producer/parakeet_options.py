"""Which options of a job a Parakeet model can do; the others are refused by name.

Here, not with the family: a command line is refused before a server or a worker is started.
"""

from collections.abc import Sequence
from typing import Any

from producer.errors import InvalidOptions
from producer.job import Options
from producer.languages import parse_language

# Of https://huggingface.co/nvidia/parakeet-tdt-0.6b-v3: 25 European languages.
EUROPEAN = (
    "bg", "hr", "cs", "da", "nl", "en", "et", "fi", "fr", "de", "el", "hu", "it", "lv", "lt",
    "mt", "pl", "pt", "ro", "sk", "sl", "es", "sv", "ru", "uk",
)  # fmt: skip
# What this family does, or what is done for it elsewhere: by the farm and by the formats.
OBEYED = {
    "language",
    "allowed_languages",
    "on_drift",
    "drift_model",
    "word_timestamps",
    "clip_timestamps",
    "replacements",
    "replacements_ignore_case",
    # Nothing is sampled: the same text for every seed.
    "seed",
}
# Values that are no defaults and say what it does in any case.
_AS_IT_IS: dict[str, tuple[Any, ...]] = {
    "temperatures": ((0.0,),),
    "condition_on_previous_text": (False,),
    "beam_size": (None, 1),
    "best_of": (1,),
}
# Why not, where that is worth saying.
_REASONS = {
    "task": "it does not translate",
    "temperatures": "it is greedy and has no fallback",
    "initial_prompt": "it takes no prompt",
    "carry_initial_prompt": "it takes no prompt",
    "hotwords": "it takes no words to expect",
    "multilingual": "it takes no language",
    "beam_size": "it is greedy",
    "patience": "it is greedy",
    "length_penalty": "it is greedy",
    "best_of": "it samples nothing",
}
_MOST_VALUE_CHARS = 200


def check_options(options: Options, languages: Sequence[str], name: str) -> None:
    """Refuse what the model cannot do. Defaults pass: they are what a job says that says nothing.

    Args:
        options: Of a job.
        languages: Codes of those that the model writes.
        name: The model's.

    Raises:
        InvalidOptions: an option that this family does not have, or a language that is not the
            model's.
    """
    defaults = Options()
    for option in type(options).model_fields:
        value = getattr(options, option)
        if option in OBEYED or value in (
            getattr(defaults, option),
            *_AS_IT_IS.get(option, ()),
        ):
            continue
        reason = _REASONS.get(option, "it has no such option")
        shown = value if isinstance(value, bool | int | float) else str(value)[:_MOST_VALUE_CHARS]
        limit = f"must be left out with {name}, a Parakeet model: {reason}"
        raise InvalidOptions(f"options: {option}", limit, shown)
    for language in (options.language, *options.allowed_languages):
        if language is not None and parse_language(language) not in languages:
            known = ", ".join(sorted(languages))
            raise InvalidOptions("options: language", f"{name} has only {known}", language)
    may_drift = len(languages) > 1 and not wanted_languages(options)
    if may_drift and options.on_drift != defaults.on_drift:
        limit = "needs language or allowed_languages, which the text is held against"
        raise InvalidOptions("options: on_drift", limit, options.on_drift)


def wanted_languages(options: Options) -> tuple[str, ...]:
    """Return the codes of the languages that a text may be in; empty if any."""
    if options.language is not None:
        return (parse_language(options.language),)
    return tuple(map(parse_language, options.allowed_languages))
