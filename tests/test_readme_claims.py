"""The documents' claims held against the code: commands, options, settings, tables, trees, names."""

import ast
import importlib
import json
import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer import errors
from producer.console import hyphened
from producer.errors import Exit, ScribefarmError
from producer.events import Event
from producer.formats import FORMATS, file_extension
from producer.job import Options
from producer.keys import (
    EVENTS_KEY,
    FACTS_KEY,
    METRICS_KEY,
    batch_key,
    models_key,
    progress_key,
    result_key,
)
from producer.result import Failure, Transcript, dump_result, parse_result
from producer.settings import Settings, load_settings, setting_keys
from tests.stage.readme import (
    APPS,
    BLOCKS,
    COMMANDS,
    DOCUMENTS,
    INLINE,
    ROOT,
    TEXTS,
    anchors,
    block,
    blocks_of,
    calls,
    command_of,
    inline_of,
    options_of,
    table,
    tree,
    words,
)
from tests.test_imports import MODULES, room_of, rule_of

# Figures of the day they were taken: their paths and commands are those of that commit.
HISTORY = "tests/benchmarks/RESULTS.md"
# Changes are history, and the vocabularies' notice is their licence.
NOT_OURS_TO_CHECK = {"CHANGELOG.md", "worker/models/whisper/NOTICE.md"}
# Written with what they belong to in the contract's table; everything else is a file's or folder's.
CONTRACT_CLASSES = ("GenStep", "SttGenConfig", "SpeechModel")


def test_every_document_is_checked():
    """A document that nothing reads goes stale."""
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")}
    for folder in ("producer", "worker", "deploy", "tests"):
        there |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.md")}
    assert there - NOT_OURS_TO_CHECK == set(DOCUMENTS)


def test_every_block_is_run_or_says_why_not():
    """Nobody adds an example that nothing checks, or a test of a block that has gone."""
    named = [name for kind, name, _, _ in BLOCKS if kind == "test"]
    tested = {
        name
        for path in [
            *(ROOT / "tests").glob("test_readme*.py"),
            ROOT / "tests/stage/readme.py",
            ROOT / "tests/web/api/test_documents.py",
        ]
        for name in re.findall(r'\bblock\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert set(named) == tested
    assert len(named) == len(set(named))
    assert [text for kind, _, _, text in BLOCKS if not kind] == []
    marks = {name: len(re.findall(r"^ *```", text, re.MULTILINE)) for name, text in TEXTS.items()}
    assert marks == {name: 2 * len(blocks_of(text)) for name, text in TEXTS.items()}


def test_the_first_page_is_short_and_says_first_what_it_was_tested_on():
    """Nobody reads to the end to learn that it was never run on a Mac."""
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 200
    beginning = " ".join(lines[:10])
    assert "**Tested on** Linux" in beginning
    assert "**Never run on a Mac or on Metal**" in beginning


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_every_command_line_parses(call):
    """The command is there, and so is each option; its help can be shown."""
    command, arguments = command_of(call)
    # Not make_context, which would also want the files that the example names.
    context = command.context_class(command)
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("script", APPS)
def test_every_command_named_shows_its_help(script):
    """What the documents send people to is there when they ask it for help."""
    runner = CliRunner()
    named = {call[1] for call in calls() if Path(call[0]).name == script}
    assert named
    for name in named:
        assert runner.invoke(APPS[script], [name, "--help"]).exit_code == 0


def test_every_option_in_running_text_exists():
    """Options are quoted without their commands now and then, openai-whisper's as it spells them."""
    known = {"--help"}.union(*(options_of(command) for command in COMMANDS.values()))
    named = {hyphened(code.split()[0]) for code in INLINE if code.startswith("--")}
    assert named
    assert named - known == set()


def test_every_setting_in_running_text_exists_with_the_default_it_says():
    """`section.key`, and the number in brackets behind it."""
    known = {f"{section}.{key}" for section, key in setting_keys()}
    # `worker.tasks.transcribe` is a wire name; in the contract's table `audio.Recording` is a class.
    text = "".join(text for name, text in TEXTS.items() if name != "worker/CONTRACT.md")
    setting = rf"(?:{'|'.join(Settings.model_fields)})\.(?!tasks)\w+"
    named = re.findall(rf"`({setting})(?: =[^`]+)?`", text)
    assert named
    assert set(named) - known == set()
    numbers = re.findall(rf"`({setting})` \((\d+)(?: (h|s))?\)", text)
    assert numbers
    for name, number, unit in numbers:
        part, key = name.split(".")
        assert getattr(getattr(Settings(), part), key) == int(number) * (3600 if unit == "h" else 1)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_into_the_repository_leads_somewhere(name):
    """Links are relative to the document's folder; behind `#` stands a heading."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name]) if "://" not in link]
    for link in links:
        path, _, heading = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != HISTORY])
def test_every_path_in_running_text_exists(name):
    """`worker/farm/` and the like, from the root."""
    paths = [
        code
        for code in inline_of(TEXTS[name])
        if re.fullmatch(r"(?:producer|worker|deploy|tests)/[\w./-]*", code)
    ]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_target_named_is_in_the_makefile():
    """In the table and elsewhere."""
    known = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)`", "".join(TEXTS.values())))
    assert {row[0].split()[1].rstrip(",") for row in table("target")} <= named <= known


def test_the_tree_is_the_tree_and_has_the_rule_of_each_folder():
    """Every folder of both packages, and what its files may import; a family's own are its affair."""
    drawn = tree()
    rules = {room: rule_of(room) for room in map(room_of, MODULES)}
    assert {folder: drawn.get(folder) for folder in rules} == rules
    others = set(drawn) - set(rules)
    assert others == {"deploy", "tests"}
    assert all((ROOT / folder).is_dir() for folder in others)


def test_the_folders_of_the_life_of_a_job_exist():
    """The drawing names folders."""
    named = re.findall(r"\b(?:producer|worker)(?:/\w+)?\b", block("life"))
    assert named
    assert [folder for folder in named if not (ROOT / folder / "__init__.py").exists()] == []


def test_the_table_of_commands_is_complete():
    """Each command of `scribefarm`, once."""
    assert sorted(name for name, _ in table("command")) == sorted(COMMANDS["scribefarm"].commands)


def test_the_error_tree_is_that_of_the_code():
    """The docstring of producer.errors is held against the classes elsewhere."""
    _, drawn, _ = errors.__doc__.split("```")
    assert block("errors").strip() == drawn.strip()


def test_the_table_of_formats_is_complete():
    """Each format with the extension of its files."""
    assert {name: file for name, file, _ in table("format")} == {
        name: f".{file_extension(name)}" for name in FORMATS
    }


def test_the_table_of_options_is_complete_and_has_the_defaults():
    """Each option with its default, as JSON."""
    defaults = Options().model_dump(mode="json")
    assert {name: json.loads(default) for name, default, _ in table("option")} == defaults


def test_the_table_of_exit_codes_is_complete():
    """The commands' own list."""
    assert [int(code) for code, _ in table("code")] == sorted(Exit)


def test_the_keys_are_those_of_the_code():
    """What other languages read by name."""
    made = {
        *(key("JOB") for key in (result_key, progress_key)),
        *(key("BATCH") for key in (batch_key, models_key)),
        EVENTS_KEY,
        FACTS_KEY,
        METRICS_KEY,
    }
    assert {key for key, _, _ in table("key")} == made


@cache
def known_tests():
    """Return the names of all test functions."""
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    )


@pytest.mark.parametrize("row", table("behaviour of the contract"), ids=lambda row: row[0][:60])
def test_a_behaviour_of_the_contract_names_its_tests(row):
    """No cell is empty, and each test named is in some file."""
    assert len(row) == 3
    assert all(row)
    named = row[2].split()
    assert all(name.startswith("test_") for name in named)
    assert set(named) - known_tests() == set()


def test_every_place_that_the_contract_names_exists():
    """Something in a file or folder of the worker, or of a class."""
    lines = TEXTS["worker/CONTRACT.md"].splitlines()
    cells = [line.split(" | ")[1] for line in lines if line.startswith("| ")]
    named = {name for cell in cells for name in re.findall(r"`(\w+(?:\.\w+)+)`", cell)}
    assert named
    assert [name for name in named if not exists(*name.split("."))] == []


def exists(owner, *names):
    """Return whether a file, folder or class of the contract has something of these names."""
    if owner in CONTRACT_CLASSES:
        return has(importlib.import_module("worker.generate"), owner, *names)
    ours = [name for name in MODULES if owner in name.split(".")[-2:]]
    return any(has(importlib.import_module(name), *names) for name in ours or [owner])


def has(holder, *names):
    """Return whether names lead, one below the other, from an object to another or to a field."""
    if not names:
        return True
    if hasattr(holder, names[0]):
        return has(getattr(holder, names[0]), *names[1:])
    return names[0] in getattr(holder, "__annotations__", {})


def test_the_example_of_a_transcript_is_one():
    """With every field that there is."""
    result = parse_result(block("transcript"))
    assert isinstance(result, Transcript)
    assert json.loads(dump_result(result)) == json.loads(block("transcript"))


def test_the_example_of_a_failure_is_one():
    """With every field that there is, and an error that says what it would say."""
    result = parse_result(block("failure"))
    assert isinstance(result, Failure)
    assert json.loads(dump_result(result)) == json.loads(block("failure"))
    stored = result.error.model_dump()
    assert ScribefarmError.from_dict(stored).to_dict() == stored


def test_the_example_of_an_event_is_one():
    """With every field that there is, and a time that fits its id."""
    event = json.loads(block("event"))
    fields = {key.encode(): value.encode() for key, value in event.items() if key != "schema"}
    entry = Event.from_entry(event["id"].encode(), fields)
    assert json.loads(entry.to_json()) == event


def test_the_example_of_settings_is_valid(tmp_path):
    """Every key is known and every value within its bounds."""
    file = tmp_path / "settings.toml"
    file.write_text(block("settings"))
    settings = load_settings(file)
    assert settings.worker.active_hours == "22:00-06:00"
    assert settings.redis.url.get_secret_value().startswith("rediss://worker:")


def test_the_example_of_a_glossary_is_valid(tmp_path):
    """Read as settings are: a table of phrases."""
    file = tmp_path / "settings.toml"
    file.write_text(block("glossary"))
    pairs = load_settings(file).options.replacements
    assert pairs == (("Kate Winslow", "Cate Winslow"), ("cray peas", "CraPi"))


def test_the_cron_lines_are_well_formed():
    """Five fields of time and a command without `%`, which cron would take for a line end."""
    field = re.compile(r"(\*|\d+)([-,/]\d+)*")
    for line in block("cron").splitlines():
        *times, command = line.split(maxsplit=5)
        assert all(field.fullmatch(time) for time in times)
        assert "%" not in command
        assert list(words(command))
