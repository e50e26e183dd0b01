"""README.md's claims held against the code: commands, options, settings, tables, trees, forms."""

import importlib
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer import errors
from producer.errors import Exit, ScribefarmError
from producer.events import Event
from producer.formats import FORMATS, file_extension
from producer.job import Options
from producer.keys import EVENTS_KEY, batch_key, progress_key, result_key
from producer.result import Failure, Transcript, dump_result, parse_result
from producer.settings import Settings, load_settings, setting_keys
from tests.stage.readme import (
    APPS,
    BLOCKS,
    COMMANDS,
    INLINE,
    README,
    ROOT,
    block,
    calls,
    command_of,
    options_of,
    section,
    table,
    words,
)


def test_every_block_is_run_or_says_why_not():
    """Nobody adds an example that nothing checks, or a test of a block that has gone."""
    named = [name for kind, name, _, _ in BLOCKS if kind == "test"]
    tested = {
        name
        for path in (ROOT / "tests").glob("test_readme*.py")
        for name in re.findall(r'\bblock\("([^"]+)"\)', path.read_text(encoding="utf-8"))
    }
    assert set(named) == tested
    assert len(named) == len(set(named))
    assert [text for kind, _, _, text in BLOCKS if not kind] == []
    assert README.count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_every_command_line_parses(call):
    """The command is there, and so is each option; its help can be shown."""
    command, arguments = command_of(call)
    # Not make_context, which would also want the files that the example names.
    context = command.context_class(command)
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("script", APPS)
def test_every_command_named_shows_its_help(script):
    """What README sends people to is there when they ask it for help."""
    runner = CliRunner()
    named = {call[1] for call in calls() if Path(call[0]).name == script}
    assert named
    for name in named:
        assert runner.invoke(APPS[script], [name, "--help"]).exit_code == 0


def test_every_option_in_running_text_exists():
    """Options are quoted without their commands now and then."""
    known = set().union(*(options_of(command) for command in COMMANDS.values()))
    named = {code.split()[0] for code in INLINE if code.startswith("--")}
    assert named
    assert named - known == set()


def test_every_setting_in_running_text_exists_with_the_default_it_says():
    """`section.key`, and the number in brackets behind it."""
    knobs = {f"{section}.{key}" for section, key in setting_keys()}
    sections = "|".join(Settings.model_fields)
    # Of the contract's table, `audio.Recording` is a module's.
    text = README.replace(section("## The contract of one utterance"), "")
    named = re.findall(rf"`((?:{sections})\.(?!tasks)\w+)(?: =[^`]+)?`", text)
    assert len(named) > 10
    assert set(named) - knobs == set()
    numbers = re.findall(rf"`((?:{sections})\.\w+)` \((\d+)(?: (h|s))?\)", README)
    assert len(numbers) > 5
    for knob, number, unit in numbers:
        part, key = knob.split(".")
        assert getattr(getattr(Settings(), part), key) == int(number) * (3600 if unit == "h" else 1)


def test_every_link_into_the_repository_leads_somewhere():
    """Relative links are paths from the root."""
    paths = [path for path in re.findall(r"\]\(([^)]+)\)", README) if "://" not in path]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_target_named_is_in_the_makefile():
    """In the table and elsewhere."""
    known = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)`", README))
    assert {row[0].split()[1].rstrip(",") for row in table("target")} <= named <= known


def test_the_tree_is_the_tree():
    """Every file of both packages is drawn, once, and nothing else."""
    drawn, folder, package = [], Path(), Path()
    for line in block("tree").splitlines():
        names = re.split(r" {2,}", line.strip())[0].split()
        indent = len(line) - len(line.lstrip())
        if names[0].endswith("/"):
            folder = Path(names[0]) if indent == 0 else package / names[0]
            package = folder if indent == 0 else package
            continue
        above = {0: Path(), 2: package, 4: folder}[indent]
        drawn += [(above / name).as_posix() for name in names]
    assert sorted(drawn) == sorted(set(drawn))
    assert [path for path in drawn if not (ROOT / path).is_file()] == []
    there = [
        path.relative_to(ROOT).as_posix()
        for package in ("producer", "worker")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sorted(set(there) - set(drawn)) == []


def test_the_modules_of_the_life_of_a_job_exist():
    """The drawing names files."""
    named = re.findall(r"\b\w+\.py\b", block("life"))
    there = {path.name for package in ("producer", "worker") for path in ROOT.glob(f"{package}/*")}
    assert len(named) > 6
    assert set(named) <= there


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
    made = {result_key("JOB"), progress_key("JOB"), batch_key("BATCH"), EVENTS_KEY}
    assert {key for key, _, _ in table("key")} == made


def test_every_behaviour_of_the_contract_names_its_tests():
    """No row is empty, and each test named is in its file."""
    rows = table("behaviour of the contract")
    assert len(rows) > 40
    for behaviour, ours, tests in rows:
        assert behaviour
        assert ours
        named = tests.split()
        assert named
        for file, _, test in (name.partition("::") for name in named):
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"


def test_every_place_that_the_contract_names_exists():
    """Modules of the worker with what is in them, and fields of their classes."""
    text = section("## The contract of one utterance")
    ours = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ")]
    named = {name for cell in ours for name in re.findall(r"`(\w+\.\w+)`", cell)}
    assert len(named) > 20
    assert [name for name in named if not exists(*name.split("."))] == []


def exists(owner, name):
    """Say whether a module, or a class of the contract, has something of that name."""
    if owner in {"GenStep", "SttGenConfig", "SpeechModel"}:
        owned = getattr(importlib.import_module("worker.generate"), owner)
        return name in {*vars(owned), *owned.__annotations__}
    inside = (ROOT / "worker" / f"{owner}.py").exists()
    try:
        module = importlib.import_module(f"worker.{owner}" if inside else owner)
        return hasattr(module, name) or importlib.import_module(f"{owner}.{name}") is not None
    except ModuleNotFoundError:
        return False


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


def test_the_cron_lines_are_well_formed():
    """Five fields of time and a command without `%`, which cron would take for a line end."""
    field = re.compile(r"(\*|\d+)([-,/]\d+)*")
    for line in block("cron").splitlines():
        *times, command = line.split(maxsplit=5)
        assert all(field.fullmatch(time) for time in times)
        assert "%" not in command
        assert list(words(command))
