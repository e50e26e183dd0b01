"""Refuse what no worker with a model can do, before anything is enqueued."""

from collections.abc import Callable

from producer.errors import InvalidOptions
from producer.job import Options
from producer.languages import parse_language
from producer.model_names import knows_english_alone


def fitted(
    options: Options, model: str, said_by: Callable[[str], str] = lambda name: name
) -> Options:
    """Return options whose language is a code, and which the model can do.

    Args:
        options: What is asked for.
        model: The model that must do it.
        said_by: Returns where an option was said, by its name, for the error.

    Raises:
        InvalidOptions: there is no such language, or the model knows no other than English.
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
    return options.model_copy(update={"language": code})


def _code(name: str, language: str, said_by: Callable[[str], str]) -> str:
    try:
        return parse_language(language)
    except InvalidOptions as error:
        raise InvalidOptions(said_by(name), error.constraint, error.value) from error
