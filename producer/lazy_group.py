"""A program whose commands are imported when they are asked for: `--help` of it imports none.

A program has dozens of modules, and a call needs those of one command. So a program's `Command`s
name module and summary, the modules have plain imports at their tops, and a shell loop pays for
what it uses.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Command(NamedTuple):
    """One command of a program.

    Attributes:
        name: As it is typed.
        module: Its `app`, a `typer.Typer`, has the command or is the group of that name.
        summary: The first line of its help (tests hold them equal).
    """

    name: str
    module: str
    summary: str


def lazy_group(commands: Iterable[Command]) -> type[TyperGroup]:
    """Return the class of a `typer.Typer(cls=...)` that has these commands, in this order."""
    table = {command.name: command for command in commands}

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Loaded(table, self)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
            return [*table]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
            """Return what lists and completion show of a command; `commands` has the command."""
            known = table.get(cmd_name)
            return known and TyperCommand(known.name, help=known.summary)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Return the command that was typed: this imports it."""
            name, _, rest = super().resolve_command(ctx, args)
            return name, self.commands[name] if name else None, rest

    return LazyGroup


class _Loaded(MutableMapping[str, Any]):
    """The commands themselves by name, each imported when it is first looked at."""

    def __init__(self, table: dict[str, Command], group: TyperGroup) -> None:
        self._table = table
        self._group = group
        self._commands: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._commands:
            self._commands[name] = self._load(self._table[name])
        return self._commands[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def _load(self, known: Command) -> Any:
        found: Any = typer.main.get_group(import_module(known.module).app)
        command = found.commands.get(known.name)
        if command is None:
            command, command.name = found, known.name
        _hide_types(command, typer.Context(self._group, **self._group.context_settings))
        return command


def program(app: typer.Typer) -> Any:
    """Return a program's command, whose help shows no type for what is only on or off."""
    command: Any = typer.main.get_command(app)
    _hide_types(command, None)
    return command


def _hide_types(command: Any, above: typer.Context | None) -> None:
    context = typer.Context(command, parent=above, **command.context_settings)
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    below = getattr(command, "commands", {})
    if not isinstance(below, _Loaded):
        for each in below.values():
            _hide_types(each, context)
