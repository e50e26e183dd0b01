"""`scribefarm transcribe`: text on stdout or in files, with a worker of its own if none is alive."""

import os
import pty
import re
import select
import signal
import subprocess
import sys

from producer import embedded
from producer.keys import model_queue, queue_key
from producer.settings import load_settings
from tests.cli.stand_in import StandIn


def test_transcribe_uses_a_live_worker_and_prints_in_the_order_given(
    scribefarm, stand_in, write_wav
):
    """Failures go to stderr and to the exit code; the rest is printed."""
    names = ["c.wav", "a.wav", "broken.wav", "b.wav"]
    paths = [write_wav(name, value=number) for number, name in enumerate(names)]
    done = scribefarm("transcribe", *paths, "missing.wav")
    assert done.returncode == 1
    assert done.stdout == "".join(
        f"==> {path} <==\n[00:00.000 --> 00:01.500] text of {path.name}\n"
        for path in paths
        if path.name != "broken.wav"
    )
    assert "error [source_not_found]" in done.stderr
    assert f"error [unsupported_format] {paths[2]}" in done.stderr


def test_transcribe_of_one_file_prints_its_text_alone(scribefarm, stand_in, write_wav):
    """So that it can be piped on."""
    done = scribefarm("transcribe", write_wav(), "--format", "txt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text of tone.wav\n", "")


def test_transcribe_writes_files_and_none_over_another(scribefarm, stand_in, write_wav, tmp_path):
    """Recordings of the same name get files of their own, in folders as they have themselves."""
    (tmp_path / "sub").mkdir()
    first, same = write_wav("talk.wav", value=1), write_wav("sub/talk.wav", value=2)
    out = tmp_path / "out"
    done = scribefarm("transcribe", first, same, "--format", "txt,srt", "--output-dir", out)
    assert (done.returncode, done.stdout) == (0, "")
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert written == ["sub/talk.srt", "sub/talk.txt", "talk.srt", "talk.txt"]
    assert (out / "talk.txt").read_text() == "text of talk.wav\n"


def test_a_recording_transcribed_before_needs_no_worker(scribefarm, settings, write_wav):
    """The transcript is there already."""
    path = write_wav()
    worker = StandIn(settings)
    scribefarm("transcribe", path)
    worker.stop()
    done = scribefarm("transcribe", path, "--format", "txt")
    assert (done.returncode, done.stdout) == (0, "text of tone.wav\n")


def empty_folder(tmp_path):
    """Return the name of a model that is there and cannot be loaded."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return str(folder)


def test_a_worker_that_cannot_start_exits_with_3_and_shows_its_last_words(
    scribefarm, write_wav, tmp_path
):
    """The reason is not buried in a log; and the server that was there goes on."""
    model = empty_folder(tmp_path)
    done = scribefarm("transcribe", write_wav(), SCRIBEFARM_MODEL__NAME=model)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(r"error \[no_worker\] .* ended with code 1 \(got .+\)\n", done.stderr)
    assert "Traceback" not in done.stderr
    # One error in one line: the worker's is quoted without its own label.
    assert done.stderr.count("error [") == 1


def test_transcribe_starts_a_worker_of_the_model_when_only_others_are_alive(
    scribefarm, stand_in, connection, write_wav, tmp_path
):
    """The stand-in's model is another: it is not given the job, nor waited for."""
    model = empty_folder(tmp_path)
    done = scribefarm("transcribe", write_wav(), SCRIBEFARM_MODEL__NAME=model)
    assert (done.returncode, done.stdout) == (3, "")
    assert "ended with code 1" in done.stderr
    assert f"{model}: must hold one of" in done.stderr
    assert connection.llen(queue_key(model_queue("high", model))) == 1


def test_ctrl_c_says_how_to_come_back(
    start_scribefarm, settings, connection, write_wav, wait_until
):
    """The job stays in the queue and the exit code is the shell's for an interrupt."""
    worker = StandIn(settings)
    worker.stop()
    with start_scribefarm("transcribe", write_wav()) as process:
        wait_until(lambda: connection.llen(queue_key("high@tiny.en")) == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert "0 of 1 done" in stderr
    assert "same command" in stderr
    assert connection.llen(queue_key("high@tiny.en")) == 1


def test_transcribe_stops_the_server_it_started(scribefarm, embedded_dir):
    """And leaves one alone that it found."""
    own = load_settings(redis={"embedded_dir": embedded_dir})
    variables = own.to_environment()
    scribefarm("transcribe", "missing.wav", **variables)
    assert not embedded.status(own).running
    embedded.ensure_running(own)
    scribefarm("transcribe", "missing.wav", **variables)
    assert embedded.status(own).running


def test_on_a_terminal_progress_goes_to_stderr_and_the_text_to_stdout(
    start_scribefarm, settings, stand_in, write_wav, tmp_path
):
    """A bar for the watcher, and still nothing but the transcript in the pipe."""
    controller, terminal = pty.openpty()
    variables = {**os.environ, **settings.to_environment(), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "producer", "transcribe", str(write_wav())],
        env=variables,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    stdout, _ = process.communicate(timeout=60)
    shown = b""
    while select.select([controller], [], [], 1)[0]:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # Linux reports the closed terminal as an input/output error
            break
    os.close(controller)
    assert process.returncode == 0
    assert stdout == b"[00:00.000 --> 00:01.500] text of tone.wav\n"
    assert b"transcribing" in shown
    assert b"text of" not in shown


def test_a_folder_that_cannot_be_written_is_said_for_each_file_and_is_no_defect(
    scribefarm, stand_in, write_wav, tmp_path
):
    """The transcripts stay on the server; the next run with another folder has them."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").write_text("a file where a folder should be")
    done = scribefarm("transcribe", write_wav(), "--output-dir", tmp_path / "out/sub/deeper")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error [output_failed] transcribe: must be writable: Not a directory" in done.stderr


def test_what_has_no_effect_is_said(scribefarm, stand_in, write_wav):
    """Once: a worker that runs has numbers of its own, and no words are there to underline."""
    paths = [write_wav("a.wav", value=1), write_wav("b.wav", value=2)]
    flags = ("--fp16", "False", "--highlight_words", "True", "-f", "srt")
    done = scribefarm("transcribe", *paths, *flags)
    assert done.returncode == 0
    assert done.stdout.count("text of") == 2
    assert sorted(done.stderr.splitlines()) == [
        "no worker is started here, so --fp16 has no effect",
        "without --words no word is underlined, and subtitles are broken by times shared among words",
    ]


def test_a_failure_is_named_by_its_recording_once(scribefarm, stand_in, write_wav):
    """Errors of most recordings begin with their path already."""
    path = write_wav("broken.wav")
    done = scribefarm("transcribe", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count(str(path)) == 1
