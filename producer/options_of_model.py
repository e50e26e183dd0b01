"""Refuse what no worker with a model can do, before anything is enqueued."""

from collections.abc import Callable

from producer.errors import InvalidOptions
from producer.job import Options
from producer.languages import parse_language
from producer.model_names import KNOWN_MODELS, knows_english_alone
from producer.parakeet_options import EUROPEAN, check_options


def fitted(
    options: Options, model: str, said_by: Callable[[str], str] = lambda name: name
) -> Options:
    """Return options whose language is a code, and which the model can do.

    Args:
        options: What is asked for.
        model: The model that must do it.
        said_by: Returns where an option was said, by its name, for the error.

    Raises:
        InvalidOptions: there is no such language, or the model cannot do what is asked.
    """
    code = None if options.language is None else _code("language", options.language, said_by)
    for language in options.allowed_languages:
        _code("allowed_languages", language, said_by)
    if knows_english_alone(model):
        must = f"the model {model} knows English alone; name another model: --model base"
        if code not in {None, "en"}:
            raise InvalidOptions(said_by("language"), must, options.language)
        if options.task == "translate":
            raise InvalidOptions(said_by("task"), must, options.task)
        if options.multilingual:
            raise InvalidOptions(said_by("multilingual"), must, value=True)
    _check_family(options, model, said_by)
    return options.model_copy(update={"language": code})


def _check_family(options: Options, model: str, said_by: Callable[[str], str]) -> None:
    """Refuse what a model of another family than Whisper's lacks, if its name is known here."""
    known = next((known for known in KNOWN_MODELS.values() if known.name == model), None)
    if known is None or known.family != "parakeet":
        return
    languages = EUROPEAN if known.num_languages > 1 else ("en",)
    try:
        check_options(options, languages, model)
    except InvalidOptions as error:
        name = error.context.removeprefix("options: ")
        raise InvalidOptions(said_by(name), error.constraint, error.value) from error


def _code(name: str, language: str, said_by: Callable[[str], str]) -> str:
    try:
        return parse_language(language)
    except InvalidOptions as error:
        raise InvalidOptions(said_by(name), error.constraint, error.value) from error
