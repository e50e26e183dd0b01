"""README.md held against the code: its examples are run, its tables and trees compared.

A fenced block is marked by the comment before it: `<!-- test: NAME -->` names its test here, and
`<!-- not run: REASON -->` says why there is none. Examples run on a real server; the farm's worker
reads real recordings and has a fake decoder, but for the two examples that show a transcript.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from redis import Redis
from rq import Queue
from rq.job import Job as RQJob
from typer.testing import CliRunner

from producer import __main__ as scribefarm
from producer import errors
from producer.cli.console import Exit
from producer.errors import ScribefarmError
from producer.events import Event
from producer.formats import FORMATS, file_extension
from producer.job import Job, Options
from producer.manifest import Row
from producer.queue import EVENTS_KEY, batch_key, progress_key, result_key
from producer.result import Failure, Transcript, dump_result, parse_result
from producer.settings import Settings, knob_keys, load_settings
from tests.archive_farm import ArchiveFarm
from tests.farm import wait_until
from tests.test_relay import Receiver
from worker import __main__ as scribefarm_worker

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^(?:<!-- (test|not run): (.+?) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCKS = BLOCK.findall(README)
INLINE = re.findall(
    r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
)
COMMANDS = {
    "scribefarm": typer.main.get_command(scribefarm.app),
    "scribefarm-worker": typer.main.get_command(scribefarm_worker.app),
}
BIN = Path(sys.executable).parent
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
RATE_HZ = 16_000


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
    """Return the text below a heading, up to the next of its rank or a higher one."""
    rank = heading.count("#")
    _, _, rest = README.partition(f"\n{heading}\n")
    return re.split(rf"\n#{{1,{rank}}} ", rest)[0]


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


@pytest.fixture(scope="module")
def archive_farm(tmp_path_factory):
    """Return a farm with one worker, which all examples share."""
    farm = ArchiveFarm(tmp_path_factory.mktemp("readme"))
    farm.start_worker()
    yield farm
    farm.stop()


@pytest.fixture
def desk(archive_farm, tmp_path, monkeypatch):
    """Return a folder to work in, with the recordings that the examples name; it is the cwd."""
    recordings = ("archive/talk.wav", "archive/reel 2.flac", "archive/drafts/take.wav")
    others = ("interview.wav", "interviews/a.wav", "interviews/b.wav", "incoming/c.wav")
    for number, name in enumerate(recordings + others):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        samples = np.random.default_rng(number).normal(0, 0.1, RATE_HZ // 4)
        soundfile.write(path, samples, RATE_HZ)
    for name, value in {**archive_farm.environment, "PATH": f"{BIN}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connection(archive_farm):
    """Return a client that knows nothing of ours."""
    with Redis.from_url(archive_farm.server.url) as client:
        yield client


def run_shell(text, code=0):
    """Run shell text and return what it printed."""
    done = subprocess.run(["bash", "-uo", "pipefail", "-c", text], capture_output=True, check=False)
    assert done.returncode == code, (text, done.returncode, done.stdout, done.stderr)
    return done.stdout.decode()


def run_lines(text, codes=()):
    """Run each line on its own and return what it printed, by its command."""
    lines = text.strip().splitlines()
    wanted = [*codes, *[0] * (len(lines) - len(codes))]
    return [run_shell(line, code) for line, code in zip(lines, wanted, strict=True)]


def run_python(text):
    """Run a Python example and return the names it made."""
    namespace = {"__name__": "example"}
    exec(compile(text, "README.md", "exec"), namespace)
    return namespace


def test_every_block_is_run_or_says_why_not():
    """Nobody adds an example that nothing checks, or a test of a block that has gone."""
    named = [name for kind, name, _, _ in BLOCKS if kind == "test"]
    tested = set(re.findall(r'\bblock\("([^"]+)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert set(named) == tested
    assert len(named) == len(set(named))
    assert [text for kind, _, _, text in BLOCKS if not kind] == []
    assert README.count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("call", calls(), ids=" ".join)
def test_every_command_line_parses(call):
    """The command is there, and so is each option; its help can be shown."""
    command, arguments = command_of(call)
    context = command.make_context(command.name, [], resilient_parsing=True)
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("script", COMMANDS)
def test_every_command_named_shows_its_help(script):
    """What README sends people to is there when they ask it for help."""
    runner = CliRunner()
    app = {"scribefarm": scribefarm.app, "scribefarm-worker": scribefarm_worker.app}[script]
    named = {call[1] for call in calls() if Path(call[0]).name == script}
    assert named
    for name in named:
        assert runner.invoke(app, [name, "--help"]).exit_code == 0


def test_every_option_in_running_text_exists():
    """Options are quoted without their commands now and then."""
    known = set().union(*(options_of(command) for command in COMMANDS.values()))
    named = {code.split()[0] for code in INLINE if code.startswith("--")}
    assert named
    assert named - known == set()


def test_every_setting_in_running_text_exists_with_the_default_it_says():
    """`section.key`, and the number in brackets behind it."""
    knobs = {f"{section}.{key}" for section, key in knob_keys()}
    sections = "|".join(Settings.model_fields)
    named = [code for code in INLINE if re.match(rf"({sections})\.(?!tasks)\w+( =|$)", code)]
    assert len(named) > 10
    assert {code.split()[0] for code in named} - knobs == set()
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


@pytest.mark.weights
def test_the_demo_prints_what_it_is_said_to_print(tmp_path):
    """The first command that a stranger types, on the recording that every clone has."""
    command = shlex.split(block("demo"), comments=True)
    # Set up already, or this test would not run.
    command += ["-o", "setup", f"AUDIO={CLIP}", f"RUN={BIN}"]
    environment = {**os.environ, "TMPDIR": "/tmp", "HOME": str(tmp_path)}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, block("demo output")), done.stderr


@pytest.mark.weights
def test_the_utterance_example_gives_the_text(tmp_path, monkeypatch, capsys):
    """One call, one recording, the real model."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(CLIP, "talk.wav")
    run_python(block("utterance"))
    text, finish = capsys.readouterr().out.splitlines()
    said = re.findall(r"\] (.+)", block("demo output"))
    assert text.strip() == " ".join(said)
    assert finish.startswith("stop ")


def test_the_transcribe_example_writes_its_files(desk):
    """On a farm whose worker lives, which it uses."""
    run_shell(block("transcribe"))
    written = sorted(path.name for path in (desk / "texts").iterdir())
    assert written == ["a.srt", "a.txt", "b.srt", "b.txt"]


def test_an_evening_and_a_morning(desk):
    """The archive's person, with one broken recording in the archive."""
    (desk / "archive" / "noise.wav").write_bytes(b"no audio at all")
    planned, batch, watched = run_lines(block("evening"), [0, 0, 1])
    assert "3 would be enqueued" in planned
    assert batch == "archive\n"
    assert "3/3 done, 1 (unsupported_format 1) failed" in watched
    _, files, listed, again, resubmitted = run_lines(block("morning"), [1, 1, 1, 0, 0])
    assert "noise.wav" in (desk / "report.md").read_text()
    names = {"talk.txt", "talk.srt", "reel 2.txt", "reel 2.srt"}
    assert {Path(line).name for line in files.splitlines()} == names
    assert "unsupported_format" in listed
    assert again == ""
    assert resubmitted == "archive\n"


def test_the_other_ways_to_submit(desk, connection):
    """A pattern, a list on stdin, a manifest as shown, whose data come back."""
    (desk / "recordings.jsonl").write_text(block("manifest"))
    assert len([Row.model_validate_json(line) for line in block("manifest").splitlines()]) == 2
    run_lines(block("submissions"))
    jobs = connection.hvals(batch_key("interviews"))
    keys = [result_key(job.decode()) for job in jobs]
    stored = [json.loads(text) for text in wait_until(lambda: all_of(connection.mget(keys)))]
    assert {result["source"] for result in stored} == {
        str(desk / "archive" / name) for name in ("talk.wav", "reel 2.flac")
    }
    assert {"id": 17, "speaker": "B. B."} in [result["metadata"] for result in stored]


def all_of(values):
    """Return the values if none is missing."""
    return None if None in values else values


def test_the_python_example_prints_each_text(desk, capsys):
    """Folders and files, results as they come."""
    run_python(block("python"))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("  ")[0] for line in lines) == [
        "archive/drafts/take.wav",
        "archive/reel 2.flac",
        "archive/talk.wav",
        "interview.wav",
    ]
    assert all(" heard " in line for line in lines)


def test_the_rq_program_gets_its_text_from_a_stock_worker(
    desk, connection, archive_farm, monkeypatch
):
    """Neither program nor follower imports anything of ours."""
    monkeypatch.setenv("REDIS_URL", archive_farm.server.url)
    program = block("rq program").replace("/archive/", f"{desk}/archive/")
    assert "producer" not in program + block("rq tasks")
    (desk / "mail_tasks.py").write_text(block("rq tasks"))
    subprocess.run([sys.executable, "-c", program], check=True)
    mail = Queue("mail", connection=connection, serializer="json")
    (follower,) = wait_until(mail.get_job_ids)
    (command,) = [code for code in INLINE if code.startswith("rq worker")]
    stock = ["--url", archive_farm.server.url, "--burst", "--worker-class", "rq.SimpleWorker"]
    subprocess.run([BIN / "rq", *command.split()[1:], *stock], check=True, capture_output=True)
    done = RQJob.fetch(follower, connection, serializer="json")
    assert done.return_value().startswith(" heard ")
    transcription = done.fetch_dependencies()[0]
    pointer = {"result_key": result_key(transcription.id), "status": "succeeded"}
    assert transcription.return_value() == pointer
    assert set(transcription.kwargs) <= set(Job.model_fields)


def test_the_shell_loop_writes_subtitles(desk):
    """A file beside each recording."""
    run_shell(block("shell loop"))
    assert "heard" in (desk / "incoming" / "c.srt").read_text()


def test_the_events_loop_takes_events_as_they_come(desk, connection):
    """It runs until it is stopped."""
    process = subprocess.Popen(["bash", "-c", block("shell events")], start_new_session=True)
    taken = desk / "events.jsonl"
    event = {"job_id": "j", "status": "succeeded", "code": "", "worker": "w", "batch": "b"}

    def is_taken():
        # Only news are followed, and nobody can see from outside whether it listens yet.
        connection.xadd(EVENTS_KEY, event)
        return taken.exists() and taken.read_text().endswith("\n")

    try:
        wait_until(is_taken, every_s=0.2)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    assert json.loads(taken.read_text().splitlines()[0])["job_id"] == "j"


def test_the_polling_example_says_when_a_batch_is_done(desk):
    """Submitting again is harmless, as a task that is tried again needs it."""
    example = run_python(block("polling"))
    batch = example["submit_archive"]()
    assert example["submit_archive"]() == batch
    wait_until(lambda: example["is_transcribed"](batch))


def test_a_result_is_read_by_key_with_a_plain_client(desk, connection):
    """No library of ours: the key that README shows, and JSON."""
    job = run_shell("scribefarm submit interview.wav").strip()
    run_shell(f"scribefarm result {job} --wait")
    *_, verb, key = shlex.split(block("redis-cli"))
    assert verb == "GET"
    stored = json.loads(connection.execute_command(verb, key.replace("$job", job)))
    assert (stored["schema"], stored["status"]) == (1, "succeeded")
    assert stored["text"].startswith(" heard ")


def test_the_relay_posts_and_the_receiver_verifies(desk, connection):
    """With the standard's own library, and nothing accepted that is forged."""
    job = run_shell("scribefarm submit interview.wav").strip()
    run_shell(f"scribefarm result {job} --wait")
    receiver = Receiver()
    try:
        relay = block("webhook").replace("https://example.org/hook", receiver.url)
        run_shell(f"{relay.rstrip()} --once --from-start")
    finally:
        receiver.stop()
    job_of = run_python(block("webhook receiver"))["job_of"]
    secret = (desk / "secret").read_text().strip()
    jobs = [job_of(secret, body, headers) for headers, body in receiver.received]
    assert job in jobs
    headers, body = receiver.received[0]
    with pytest.raises(Exception, match="signature"):
        job_of(secret, body + b" ", headers)
