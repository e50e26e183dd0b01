"""What a newcomer types first: help, versions, wrong options, empty folders, a second server."""

import re
import subprocess
import sys

import pytest
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from producer.batches.views import batch_exists
from producer.job import Job
from tests.test_users_acl import all_commands


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_the_help_of_each_command_has_the_same_form(scribefarm, words):
    """Examples are set off from the text, and a switch has no type."""
    done = scribefarm(*words, "-h")
    assert done.returncode == 0
    assert "bool" not in done.stdout
    after = done.stdout.partition("Example")[2].splitlines()[1]
    assert re.match(r"   [a-zA-Z]", after), after


@pytest.mark.parametrize("program", ["producer", "worker"])
@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_both_programs_say_their_version(program, flag):
    """They are one package."""
    command = [sys.executable, "-m", program, flag]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"scribefarm \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize("command", ["submit", "transcribe"])
@pytest.mark.parametrize(
    ("arguments", "model", "limit"),
    [
        (("--language", "xx"), "base", "must be a language code or name that Whisper knows"),
        (("--language", "de"), "tiny.en", "the model tiny.en knows English alone"),
        (("--multilingual", "True"), "tiny.en", "--multilingual: the model tiny.en knows"),
        (("--task", "translate"), "openai/whisper-small.en", "small.en knows English alone"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_started(
    scribefarm, connection, write_wav, *, command, arguments, model, limit
):
    """Exit code 2, no job, no server, no worker."""
    done = scribefarm(command, write_wav(), *arguments, SCRIBEFARM_MODEL__NAME=model)
    assert (done.returncode, done.stdout) == (2, "")
    assert limit in done.stderr
    assert f"(got {arguments[1]})" in done.stderr
    assert connection.keys("rq:job:*") == []


@pytest.mark.parametrize("language", ["en", "english", "de"])
def test_a_language_that_the_model_knows_is_taken(scribefarm, write_wav, language):
    """By code or by name."""
    model = "tiny.en" if language.startswith("en") else "base"
    done = scribefarm("submit", write_wav(), "--language", language, SCRIBEFARM_MODEL__NAME=model)
    assert done.returncode == 0, done.stderr


def test_an_empty_folder_is_said_and_makes_no_batch(scribefarm, connection, tmp_path):
    """Exit code 1, and no name of a batch that nothing knows."""
    (tmp_path / "empty").mkdir()
    for arguments in ((tmp_path / "empty",), ("none/*.xyz",)):
        done = scribefarm("submit", *arguments, "--batch", "b")
        assert (done.returncode, done.stdout) == (1, "")
        assert not batch_exists(connection, "b")
        assert "watch it" not in done.stderr
    done = scribefarm("submit", tmp_path / "empty")
    assert "error [empty_input] submit: must find at least one recording" in done.stderr


def test_transcribe_names_itself_in_its_errors(scribefarm, tmp_path):
    """Not the command that shares its code."""
    done = scribefarm("transcribe", tmp_path, "missing.wav")
    assert done.returncode == 1
    assert "error [source_not_found] transcribe: must be an existing file" in done.stderr
    assert "error [empty_input] transcribe: must find at least one recording" in done.stderr
    assert "submit" not in done.stderr


def test_a_new_server_gets_files_for_the_first_time(scribefarm, write_wav, tmp_path, embedded_dir):
    """The cache of hashes serves all servers, but each has submissions of its own."""
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = write_wav()
    assert "once more" not in scribefarm("submit", path, **cache).stderr
    other = {**cache, "SCRIBEFARM_REDIS__EMBEDDED_DIR": str(embedded_dir)}
    done = scribefarm("submit", path, **other)
    assert "1 enqueued" in done.stderr
    assert "once more" not in done.stderr


def test_an_unknown_code_gets_a_hint_and_no_list_of_all(scribefarm, write_wav):
    """Most codes never end a job that could be tried again."""
    scribefarm("submit", write_wav(), "--batch", "b")
    done = scribefarm("retry", "b", "--code", "worker_los")
    assert done.returncode == 2
    assert "did you mean worker_lost?" in done.stderr
    assert "rank_mismatch" not in done.stderr


def test_widths_hold_without_words_and_how_is_said(
    scribefarm, stand_in, write_wav, tmp_path, wait_until
):
    """Segments are divided by characters."""
    path = write_wav()
    assert scribefarm("submit", path, "--batch", "b").returncode == 0
    assert scribefarm("watch", "b", "--every", "0.2").returncode == 0
    plain = scribefarm("results", "b", "-o", tmp_path / "plain", "--format", "srt")
    assert "words" not in plain.stderr
    asked = scribefarm(
        "results", "b", "-o", tmp_path / "narrow", "--format", "srt", "--max-line-width", "8"
    )
    assert asked.returncode == 0
    assert "1 have no times of words (submit --words)" in asked.stderr
    (narrow,) = (tmp_path / "narrow").rglob("*.srt")
    assert max(map(len, narrow.read_text().splitlines()[2:])) <= 8


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--subtitles", "bbc"], "must be one of netflix"),
        (["--max-cps", "0"], "--max-cps"),
        (["--min-gap", "x"], "--min-gap"),
        (["--min-duration", "9", "--subtitles", "netflix"], "at most max_duration_s"),
    ],
)
def test_limits_of_subtitles_that_cannot_be_kept_are_refused(scribefarm, tmp_path, flags, named):
    """Before anything is asked of a server."""
    done = scribefarm("results", "b", "-o", tmp_path / "out", "--format", "srt", *flags)
    assert done.returncode == 2
    assert named in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.csv", "Kate;Cate\n", "a.csv:1: must have two columns"),
        ("a.csv", "Kate,\n", "1 to 200 characters"),
        ("a.txt", "", "must end in .csv or .toml"),
        ("a.csv", None, "must be an existing file"),
    ],
)
@pytest.mark.parametrize("command", ["submit", "transcribe"])
def test_a_wrong_glossary_is_refused_before_anything_starts(
    scribefarm, write_wav, tmp_path, *, command, name, content, named
):
    """With the file and the line."""
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    done = scribefarm(command, write_wav(), "--glossary", path)
    assert done.returncode == 2
    assert named in done.stderr


def test_a_glossary_file_goes_with_the_jobs(scribefarm, connection, write_wav, tmp_path):
    """As options, in the place of the settings' glossary."""
    (tmp_path / "names.csv").write_text("wrong,right\nKate,Cate\n")
    done = scribefarm("submit", write_wav(), "--glossary", tmp_path / "names.csv")
    assert done.returncode == 0
    (key,) = connection.scan_iter("rq:job:*")
    job_id = key.decode().removeprefix("rq:job:")
    job = RqJob.fetch(job_id, connection=connection, serializer=JSONSerializer)
    assert Job.from_kwargs(job.kwargs).options.replacements == (("Kate", "Cate"),)


def test_transcribe_takes_the_short_option_of_results(scribefarm, stand_in, write_wav, tmp_path):
    """`-o` is the folder of both."""
    done = scribefarm("transcribe", write_wav("a.wav"), "-o", tmp_path / "out")
    assert done.returncode == 0
    assert (tmp_path / "out/a.txt").read_text() == "text of a.wav\n"
