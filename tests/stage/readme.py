"""README.md taken apart: its marked blocks, its tables, and the calls of our scripts in it.

A fenced block is marked by the comment before it: `<!-- test: NAME -->` names what the tests know
it by, and `<!-- not run: REASON -->` says why nothing runs it.
"""

import re
import shlex
from pathlib import Path

import typer

from producer import __main__ as scribefarm
from worker import __main__ as scribefarm_worker

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
APPS = {"scribefarm": scribefarm.app, "scribefarm-worker": scribefarm_worker.app}
COMMANDS = {name: typer.main.get_command(app) for name, app in APPS.items()}

_FENCE = re.compile(
    r"^(?:<!-- (test|not run): (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
# Of each block: `test`, `not run` or nothing; its name or the reason; its language; its text.
BLOCKS = _FENCE.findall(README)
INLINE = re.findall(r"`([^`\n]+)`", _FENCE.sub("", README))


def block(name):
    """Return the text of the block that is marked with a test's name."""
    (text,) = [text for _, marked, _, text in BLOCKS if marked == name]
    return text


def table(first_heading):
    """Return the rows of the table whose first column has this heading, code marks removed."""
    (rows,) = re.findall(
        rf"^\| {first_heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE
    )
    return [
        [cell.strip().replace("`", "") for cell in row.strip("|").split(" | ")]
        for row in rows.splitlines()
    ]


def section(heading):
    """Return the text below a heading, up to the next of its rank."""
    _, found, rest = README.partition(f"\n{heading}\n")
    assert found, heading
    return rest.partition(f"\n{heading.split()[0]} ")[0]


def words(command_lines):
    """Yield each call of our scripts in shell text, as a list of words."""
    for line in command_lines.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                # `2>>`: the number belongs to the shell.
                if call and call[-1] == "2":
                    call.pop()
                if call:
                    yield call
                call = []
            elif call or Path(word).name in COMMANDS:
                call.append(word)


def calls():
    """Return every call of our scripts in README, in blocks and in running text."""
    shell = "\n".join(text for _, name, language, text in BLOCKS if language == "sh")
    cron = "\n".join(line.split(maxsplit=5)[5] for line in block("cron").splitlines())
    inline = "\n".join(code for code in INLINE if code.split()[0] in COMMANDS)
    found = [call for text in (shell, cron, inline) for call in words(text)]
    return [call for call in found if len(call) > 1]


def command_of(call):
    """Return the command that a call names, and the arguments that are left for it."""
    command, arguments = COMMANDS[Path(call[0]).name], call[1:]
    while hasattr(command, "commands") and not arguments[0].startswith("-"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


def options_of(command):
    """Return every option of a command and of those below it."""
    found = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    below = getattr(command, "commands", {}).values()
    return found.union(*(options_of(each) for each in below))
