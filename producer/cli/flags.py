"""Flags made of a model's fields: what a field says is said once, and every command has it.

A flag is called like its field, with hyphens, and its help is the field's description. Its value is
read as text by the model itself, so bounds stand in one place. openai-whisper's spellings work
wherever ours do: underscores for hyphens (`producer.console.hyphened`), and `--word_timestamps True` (`FlagCommand`).
"""

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from producer.console import hyphened
from producer.errors import InvalidOptions
from producer.job import invalid_options

# What was given on the command line, by field; what was not is not there.
Given = Mapping[str, str | bool]

_METAVARS = {int: "NUMBER", float: "NUMBER", str: "TEXT", tuple: "A,B,...", bool: None}
_SAID = {"true": True, "false": False}
_NONE = "none"


@dataclass(frozen=True)
class Flags:
    """The flags of a model's fields; fields that hold more than text, numbers and lists have none.

    Attributes:
        model: Its fields become flags.
        panel: Group of the help for all that `panels` does not name.
        panels: Fields by group.
        names: Flags of fields that are not called like their field, the first in messages.
        free_text: Fields of which any text is a value, `None` too.
    """

    model: type[BaseModel]
    panel: str
    panels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    free_text: frozenset[str] = frozenset()

    def parameters(self) -> Iterator[inspect.Parameter]:
        """Yield a command's parameter for each field, by group."""
        fields = self.model.model_fields
        panel_of = {name: panel for panel, names in self.panels.items() for name in names}
        for name in [*panel_of, *(name for name in fields if name not in panel_of)]:
            if _plain_type(fields[name].annotation) is not None:
                yield self._parameter(name, fields[name], panel_of.get(name, self.panel))

    def flag_of(self, name: str) -> str:
        """Return the flag of a field, as messages call it."""
        return self._names_of(name)[0]

    def values(self, given: Given) -> dict[str, Any]:
        """Return the values of those fields of the model that were given, not yet validated."""
        return {
            name: self._value(name, said)
            for name, said in given.items()
            if name in self.model.model_fields
        }

    def refusal(self, error: ValidationError, given: Given) -> InvalidOptions:
        """Return what is wrong with the values, by the flag that said it."""
        refused = invalid_options("options", error)
        path = error.errors(include_url=False)[0]["loc"]
        if not path or path[0] not in given:
            return refused
        return InvalidOptions(self.flag_of(str(path[0])), refused.constraint, refused.value)

    def _names_of(self, name: str) -> tuple[str, ...]:
        return self.names.get(name, (f"--{name.replace('_', '-')}",))

    def _parameter(self, name: str, about: FieldInfo, panel: str) -> inspect.Parameter:
        kind = _plain_type(about.annotation)
        names = self._names_of(name)
        if kind is bool:
            names = tuple(f"{each}/--no-{each.removeprefix('--')}" for each in names)
        choices = _choices(about.annotation) if kind is Literal else []
        option = typer.Option(
            *names,
            help=about.description or "",
            metavar="|".join(choices) or _METAVARS.get(kind),
            show_default=_shown(about.default) or False,
            rich_help_panel=panel,
            autocompletion=(lambda: [each for each in choices if each.islower()])
            if choices
            else None,
        )
        return optional(name, bool if kind is bool else str, option)

    def _value(self, name: str, said: str | bool) -> Any:
        about = self.model.model_fields[name]
        if isinstance(said, bool) or name in self.free_text:
            return said
        if said.strip().lower() == _NONE and NoneType in get_args(about.annotation):
            return None
        if _plain_type(about.annotation) is tuple:
            return tuple(part.strip() for part in said.split(",")) if said.strip() else ()
        return said.strip()


def optional(name: str, kind: type, option: Any) -> inspect.Parameter:
    """Return a keyword of a command that is None unless it was given."""
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def takes(*flags: inspect.Parameter) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these flags: what was given of them is its argument `given`."""

    def with_flags(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        names = [flag.name for flag in flags]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            said = {name: arguments.pop(name) for name in names}
            given = {name: value for name, value in said.items() if value is not None}
            command(**arguments, given=given)

        parameters = [each for name, each in own.parameters.items() if name != "given"]
        run.__signature__ = own.replace(parameters=[*parameters, *flags])  # type: ignore[attr-defined]  # read by inspect
        del run.__annotations__["given"]
        return run

    return with_flags


class FlagCommand(TyperCommand):
    """A command whose switches may be followed by True or False, as openai-whisper's are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; `--words False` is `--no-words`."""
        return super().parse_args(ctx, list(self._switched(ctx, args)))

    def _switched(self, ctx: Any, args: list[str]) -> Iterator[str]:
        options = {
            hyphened(name): each
            for each in self.get_params(ctx)
            for name in each.opts
            if name.startswith("-")
        }
        left = deque(args)
        while left:
            arg = left.popleft()
            name, equals, value = arg.partition("=")
            option = options.get(hyphened(name))
            if arg == "--":
                # Behind it there are no flags.
                yield from (arg, *left)
                return
            if option is None or not getattr(option, "is_flag", False):
                yield arg
                if option is not None and not equals and left:
                    yield left.popleft()
                continue
            if not equals:
                has_word = bool(left) and left[0].lower() in _SAID
                value = left.popleft() if has_word else "true"
            elif value.lower() not in _SAID:
                ctx.fail(f"Option {name!r} must be True or False (got {value}).")
            yield from _switch(option, is_on=_SAID[value.lower()])


def _switch(option: Any, *, is_on: bool) -> Iterator[str]:
    names = option.opts if is_on else option.secondary_opts
    yield from names[:1]


def _plain_type(annotation: Any) -> Any:
    """Return the bool, int, float, str, tuple or Literal of an annotation; None if it is none."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_type(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return _plain_type(next(each for each in get_args(annotation) if each is not NoneType))
    kind = origin or annotation
    if kind is tuple and _plain_type(get_args(annotation)[0]) in {None, tuple}:
        return None
    return kind if kind is Literal or kind in _METAVARS else None


def _choices(annotation: Any) -> list[str]:
    """Return the words that an annotation with a Literal allows, and NUMBER for numbers beside them."""
    origin = get_origin(annotation)
    if origin is Literal:
        return list(map(str, get_args(annotation)))
    if origin is Annotated:
        return _choices(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return [word for each in get_args(annotation) for word in _choices(each)]
    return [_METAVARS[annotation] or ""] if annotation in {int, float} else []


def _shown(default: Any) -> str:
    """Return a default for the help; nothing for none, and for a switch that is off."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, bool):
        return "on" if default else ""
    return "" if default is None else str(default)
