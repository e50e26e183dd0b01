"""The documents taken apart: their marked blocks, their tables, and the calls of our scripts in them.

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
DOCUMENTS = [
    "README.md",
    "producer/README.md",
    "worker/README.md",
    "worker/CONTRACT.md",
    "worker/models/parakeet/README.md",
    "deploy/README.md",
    "tests/README.md",
    "tests/data/README.md",
    "tests/benchmarks/RESULTS.md",
]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
APPS = {"scribefarm": scribefarm.app, "scribefarm-worker": scribefarm_worker.app}
COMMANDS = {name: typer.main.get_command(app) for name, app in APPS.items()}

_FENCE = re.compile(
    r"^(?:<!-- (test|not run): (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks_of(text):
    """Return each block: `test`, `not run` or nothing; its name or the reason; language; text."""
    return _FENCE.findall(text)


def inline_of(text):
    """Return what is set as code in running text."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


BLOCKS = [found for text in TEXTS.values() for found in blocks_of(text)]
INLINE = [code for text in TEXTS.values() for code in inline_of(text)]


def block(name):
    """Return the text of the block that is marked with a test's name."""
    (text,) = [text for _, marked, _, text in BLOCKS if marked == name]
    return text


def table(first_heading):
    """Return the rows of the table whose first column has this heading, code marks removed."""
    (rows,) = re.findall(
        rf"^\| {first_heading} \|.*\n\|[-:|]+\|\n((?:\|.*\n)+)",
        "\n".join(TEXTS.values()),
        re.MULTILINE,
    )
    return [
        [cell.strip().replace("`", "") for cell in row.strip("|").split(" | ")]
        for row in rows.splitlines()
    ]


def tree():
    """Return the folders of README's tree: path from the root, and the rule beside it or nothing."""
    drawn, above = {}, ""
    for line in block("tree").splitlines():
        name, _, *rule = re.split(r" {2,}", line.strip())
        above = above if line.startswith(" ") else name
        depth = (len(line) - len(line.lstrip())) // 2
        parents = above.split("/")[:depth]
        above = "/".join([*parents, name.strip("/")])
        drawn[above] = "".join(rule)
    return drawn


def anchors(text):
    """Return the names by which links reach a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


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
    """Return every call of our scripts in the documents, in blocks and in running text."""
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
