"""What recordings are named by on the command line: files, folders, patterns, lists, stdin."""

import contextlib
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from producer.batches.views import batch_files
from producer.cli.inputs import is_many
from producer.cli.recordings import find_recordings, jobs_of, stored_stdin
from producer.cli.session import Session
from producer.errors import EmptyInput, InvalidOptions, OutputFailed
from producer.job import AudioOptions, Options
from producer.keys import queue_key
from producer.queue import job_state
from producer.settings import load_settings


@pytest.fixture
def desk(write_wav, tmp_path):
    """Return a folder of recordings; commands run in it."""
    for folder in ("talks/day 1", "talks/day 2", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    names = ("talk.wav", "talks/b.wav", "talks/a.wav", "talks/day 1/a.wav", "talks/day 2/a.mp3")
    for number, name in enumerate(names):
        write_wav(name, value=number)
    (tmp_path / "talks/notes.txt").write_text("to do")
    return tmp_path


@pytest.fixture
def session(settings, tmp_path, monkeypatch):
    """Return a command's session; the folder of recordings is the current one."""
    monkeypatch.chdir(tmp_path)
    session = Session()
    session.settings = settings
    return session


def found(session, *arguments):
    """Return the names under which outputs of recordings are written."""
    return [recording.name for recording in find_recordings(session, arguments, None)]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["talk.wav"], ["talk.wav"]),
        (["talks"], ["talks/a.wav", "talks/b.wav", "talks/day 1/a.wav", "talks/day 2/a.mp3"]),
        (["talks/day 1/"], ["day 1/a.wav"]),
        (["talks/*.wav"], ["talks/a.wav", "talks/b.wav"]),
        (["talks/**/a.*"], ["talks/a.wav", "talks/day 1/a.wav", "talks/day 2/a.mp3"]),
        (["talks/day 1/a.wav", "talk.wav"], ["a.wav", "talk.wav"]),
        (["talks/day 1/a.wav", "talks/a.wav"], ["talks/day 1/a.wav", "talks/a.wav"]),
        (["talk.wav", "./talk.wav", "*.wav"], ["talk.wav"]),
        (["talks/b.wav", "talks"], ["b.wav", "talks/a.wav", "talks/day 1/a.wav", "talks/day 2/a.mp3"]),
    ],
)  # fmt: skip
def test_each_recording_comes_once_in_order_under_a_name_of_its_own(
    session, desk, *, arguments, names
):
    """Folders and patterns mirror; single files are called as they are, unless two are the same."""
    assert found(session, *arguments) == names


def test_outputs_never_meet_whatever_the_arguments_are(session, desk, tmp_path):
    """A file's short name may be another one's path."""
    elsewhere = tmp_path / "else/talks"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.wav").write_bytes((desk / "talk.wav").read_bytes())
    names = found(session, "else/talks/a.wav", "talks", str(elsewhere), "talks/*.wav", "*.wav")
    assert len(names) == len(set(names)) == 6


def test_a_broken_part_does_not_hide_the_rest(session, desk, capsys):
    """Each is said with its code; what is passed over is counted."""
    assert found(session, "none.wav", "empty", "talks", "none/*.wav", "*.txt") == [
        "talks/a.wav",
        "talks/b.wav",
        "talks/day 1/a.wav",
        "talks/day 2/a.mp3",
    ]
    said = capsys.readouterr().err
    assert "error [source_not_found] transcribe: must be an existing file" in said
    assert "error [empty_input] transcribe: must find at least one recording (got empty)" in said
    assert "error [source_not_found] transcribe: the pattern must match a file" in said
    assert "ignored 1: 1 .txt" in said


@pytest.mark.parametrize(
    ("argument", "many"),
    [
        ("talks", True),
        ("talks/*", True),
        ("talk.wav", False),
        ("no[1].wav", True),
        ("x.wav", False),
    ],
)
def test_folders_and_patterns_are_many(session, desk, argument, many):
    """A file that is missing is still one."""
    assert is_many(argument) is many


def test_a_file_with_the_name_of_a_pattern_is_itself(session, desk, write_wav):
    """As shells hand it over when nothing else matches."""
    write_wav("take [1].wav")
    assert found(session, "take [1].wav") == ["take [1].wav"]


def test_a_file_that_goes_before_it_is_read_is_said(session, desk, capsys):
    """The others go on."""
    recordings = find_recordings(session, ["talk.wav", "talks/a.wav"], None)
    (desk / "talk.wav").unlink()
    ((recording, job),) = jobs_of(session, recordings, Options(), AudioOptions())
    assert (recording.name, job.path) == ("a.wav", desk / "talks/a.wav")
    assert (
        "error [source_not_found] transcribe: must be an existing file" in capsys.readouterr().err
    )


@pytest.fixture
def give_stdin(monkeypatch):
    """Return a function that puts bytes on stdin, or makes it a terminal or another file."""
    with contextlib.ExitStack() as opened:

        def give(data=b"", *, file=None, is_terminal=False):
            if file is None:
                file, write = os.pipe()
                os.write(write, data)
                os.close(write)
            buffer = opened.enter_context(open(file, "rb"))  # noqa: PTH123 - or a number
            stdin = SimpleNamespace(buffer=buffer, isatty=lambda: is_terminal)
            monkeypatch.setattr(sys, "stdin", stdin)

        yield give


def test_audio_on_stdin_lies_in_a_file_while_the_command_runs(session, give_stdin):
    """Nobody else may read it, and nothing is left behind."""
    give_stdin(b"RIFF")
    with stored_stdin(session, ["-"]) as path:
        assert path.read_bytes() == b"RIFF"
        assert path.parent.stat().st_mode & 0o077 == 0
        (recording,) = find_recordings(session, ["-"], path)
        assert (recording.title, recording.name) == ("standard input", "stdin")
    assert not path.parent.exists()


def test_a_worker_that_is_started_may_read_stdin_whatever_the_roots_are(tmp_path, give_stdin):
    """Where no roots are set, all is readable already."""
    session = Session()
    session.settings = load_settings(audio={"roots": [str(tmp_path)]})
    give_stdin(b"RIFF")
    with stored_stdin(session, ["-"]) as path:
        assert session.settings.audio.roots == (tmp_path, path.parent)


@pytest.mark.parametrize(
    ("stdin", "error"),
    [
        ({"is_terminal": True}, InvalidOptions),
        ({}, EmptyInput),
        # Reading it is an input/output error.
        ({"file": "/proc/self/mem"}, OutputFailed),
    ],
    ids=["terminal", "empty", "unreadable"],
)
def test_a_stdin_that_is_no_audio_is_refused(session, give_stdin, stdin, error):
    """Before anything is started."""
    give_stdin(**stdin)
    with pytest.raises(error), stored_stdin(session, ["-"]):
        pytest.fail("there is nothing to transcribe")


def test_transcribe_prints_what_comes_on_stdin_among_others(scribefarm, stand_in, desk):
    """Under a title of its own; the file that it was in is never spoken of."""
    done = scribefarm("transcribe", "-", "talk.wav", stdin=b"RIFF of a talk")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "==> standard input <==\n[00:00.000 --> 00:01.500] text of stdin\n"
        f"==> {desk / 'talk.wav'} <==\n[00:00.000 --> 00:01.500] text of talk.wav\n"
    )


def test_transcribe_writes_files_of_a_folder_as_results_does(scribefarm, stand_in, desk):
    """In openai-whisper's five formats, if all are asked for."""
    done = scribefarm("transcribe", "talks", "-", "-f", "all", "-o", "out", stdin=b"RIFF")
    assert (done.returncode, done.stdout) == (0, "")
    stems = {
        str(path.relative_to(desk / "out").with_suffix("")) for path in desk.glob("out/**/*.*")
    }
    assert stems == {"talks/a", "talks/b", "talks/day 1/a", "talks/day 2/a", "stdin"}
    kinds = {path.suffix for path in desk.glob("out/stdin.*")}
    assert kinds == {".txt", ".vtt", ".srt", ".tsv", ".json"}


def test_an_interrupted_stdin_is_cancelled(settings, connection, desk, wait_until):
    """Its file is gone, so no worker may find its job later."""
    model = {"SCRIBEFARM_MODEL__NAME": "base"}
    with subprocess.Popen(
        [sys.executable, "-m", "producer", "transcribe", "talk.wav", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **settings.to_environment(), **model},
        cwd=desk,
    ) as process:
        process.stdin.write(b"RIFF")
        process.stdin.close()
        wait_until(lambda: connection.llen(queue_key("high@base")) == 2)
        process.send_signal(signal.SIGTERM)
        stderr = process.stderr.read().decode()
    assert process.returncode == 130
    assert "not so what came on standard input" in stderr
    ids = [job_id.decode() for job_id in connection.lrange(queue_key("high@base"), 0, -1)]
    assert sorted(job_state(connection, job_id) for job_id in ids) == ["canceled", "queued"]


def test_submit_reads_lists_from_files_and_from_stdin(scribefarm, connection, desk):
    """One path a line, or with NULs between; each is submitted once."""
    (desk / "list").write_text("talk.wav\ntalks/a.wav\n")
    done = scribefarm("submit", "--files-from", "list", "--batch", "b", "talks/b.wav")
    assert (done.returncode, done.stdout) == (0, "b\n")
    listed = b"talk.wav\0talks/day 1/a.wav\0"
    done = scribefarm("submit", "-0", "--files-from", "-", "--batch", "b", stdin=listed)
    assert done.returncode == 0
    names = {"talk.wav", "talks/a.wav", "talks/b.wav", "talks/day 1/a.wav"}
    assert dict(batch_files(connection, "b")).keys() == names


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["-"], b"RIFF\0\0\0\0WAVE", "error [invalid_options] list: has a path a line"),
        (["--files-from", "nowhere"], b"", "error [invalid_options] --files-from: must be an existing"),
        (["--files-from", "talks"], b"", "error [invalid_options] --files-from: must be an existing"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(scribefarm, desk, arguments, stdin, said):
    """A recording on stdin is sent to `transcribe`."""
    done = scribefarm("submit", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)


def test_names_of_patterns_and_folders_do_not_collide(scribefarm, connection, desk):
    """The same files by folder and by pattern are the same names; results have one file each."""
    done = scribefarm("submit", "talks", "talks/**/*.wav", "talk.wav", "--batch", "b")
    assert done.returncode == 0
    assert "2 copies of others, or listed twice" not in done.stderr
    assert "3 copies of others, or listed twice" in done.stderr
    names = {"talk.wav", "talks/a.wav", "talks/b.wav", "talks/day 1/a.wav", "talks/day 2/a.mp3"}
    assert dict(batch_files(connection, "b")).keys() == names
