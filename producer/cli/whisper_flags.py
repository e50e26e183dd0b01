"""openai-whisper's options that are no options of our jobs: taken where they change nothing, else answered.

What people have in their scripts and fingers is never "no such option": it works, or says in one
line why it does not and what does. Names are of openai-whisper 20250625.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import typer

from producer.cli.flags import Given, optional
from producer.console import note
from producer.errors import InvalidOptions


class Answer(NamedTuple):
    """What is said to an option that we do not have.

    Attributes:
        option: As openai-whisper calls it.
        must: What holds instead, and what to use.
        accepted: Values that ask for what is done anyway.
        is_switch: It may stand alone; True and False follow it.
        is_hint: No text depends on it, so it is said to have no effect, and all goes on.
    """

    option: str
    must: str
    accepted: frozenset[str] = frozenset()
    is_switch: bool = False
    is_hint: bool = False

    @property
    def flag(self) -> str:
        """The option as we write it."""
        return f"--{self.option.replace('_', '-')}"


_BY_RESULTS = "submit writes no files; later: scribefarm results BATCH"
# What openai-whisper's defaults are, and ours always.
_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001 - the characters themselves

NOT_OURS = (
    Answer(
        "prepend_punctuations",
        f"must be openai-whisper's default: {_PREPENDED}",
        frozenset({_PREPENDED}),
    ),
    Answer(
        "append_punctuations",
        f"must be openai-whisper's default: {_APPENDED}",
        frozenset({_APPENDED}),
    ),
    Answer(
        "model_dir",
        "must be left out: HF_HOME names the folder of hub models; --model takes a folder, too",
    ),
    Answer(
        "device",
        "must be left out: MLX computes on the GPU if there is one; worker.backend chooses numpy",
    ),
    Answer(
        "threads",
        "no effect: a worker takes the CPUs that it is given (taskset gives it fewer)",
        frozenset({"0"}),
        is_hint=True,
    ),
)
NOT_OF_SUBMIT = (
    Answer("fp16", "is a worker's: model.dtype in its settings", is_switch=True),
    Answer(
        "verbose", "submit prints no text; to see it come: scribefarm watch BATCH", is_switch=True
    ),
    Answer("output_dir", f"{_BY_RESULTS} --output-dir DIR"),
    Answer("output_format", f"{_BY_RESULTS} --format FORMAT"),
    Answer("highlight_words", f"{_BY_RESULTS} --highlight-words", is_switch=True),
    Answer("max_line_width", f"{_BY_RESULTS} --max-line-width N"),
    Answer("max_line_count", f"{_BY_RESULTS} --max-line-count N"),
    Answer("max_words_per_line", f"{_BY_RESULTS} --max-words-per-line N"),
)
_SHORT = {"output_dir": ("-o",), "output_format": ("-f", "--format")}


def answered(answers: Iterable[Answer]) -> Iterator[inspect.Parameter]:
    """Yield a command's parameter for each of these options."""
    for answer in answers:
        names = (answer.flag, *_SHORT.get(answer.option, ()))
        if answer.is_switch:
            names = (f"{answer.flag}/--no-{answer.flag.removeprefix('--')}",)
        option = typer.Option(
            *names,
            hidden=True,
            metavar=None if answer.is_switch else "NUMBER",
            show_default=False,
            rich_help_panel="Decoding",
        )
        yield optional(answer.option, bool if answer.is_switch else str, option)


def answer(answers: Iterable[Answer], given: Given) -> None:
    """Refuse what asks for something else than is done anyway, or say that it has no effect.

    Raises:
        InvalidOptions: it says why, and what there is instead.
    """
    asked = [each for each in answers if each.option in given]
    for each in sorted(asked, key=lambda each: each.is_hint):
        said = str(given[each.option]).strip().lower()
        if said in each.accepted:
            continue
        if not each.is_hint:
            raise InvalidOptions(each.flag, each.must, given[each.option])
        note(f"{each.flag}: {each.must}")
