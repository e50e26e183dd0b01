"""Commands: help with an example, completion, and `submit`."""

from typer.testing import CliRunner

from producer.__main__ import app
from producer.archive.prepare import Entry
from producer.batches.views import (
    batch_files,
    latest_batches,
)
from producer.cli.submit_summary import SubmitSummary

COMMANDS = (
    *("submit", "watch", "status", "results", "errors", "retry", "cancel", "report"),
    *("pause", "resume", "drain", "events", "relay", "workers", "metrics"),
)


def test_every_command_has_help_with_an_example():
    """The example starts like the command itself."""
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    overview = runner.invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert command in overview
        shown = runner.invoke(app, [command, "--help"]).stdout
        assert f" scribefarm {command}" in shown.partition("Example")[2], command


def test_shells_can_complete_commands(night, monkeypatch):
    """The script prints a completion for bash; typer has those of the other shells."""
    # The shell is the one that is named: where tests run in the background there is none.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    script, _ = night.run("--show-completion", "bash")
    assert "scribefarm" in script


def test_submit_puts_jobs_into_the_queue_of_their_priority(night, tmp_path):
    """Single files print ids, folders the batch; one list may come on stdin, NUL-separated."""
    (tmp_path / "talks").mkdir()
    for name in ("a.wav", "two\nlines.wav"):
        (tmp_path / "talks" / name).write_bytes(name.encode())
    text, stderr = night.run("submit", "talks/a.wav", "--priority", "high")
    (job_id,) = text.split()
    assert night.connection.lrange("rq:queue:high@fake", 0, -1) == [job_id.encode()]
    assert "scribefarm watch a-" in stderr
    text, stderr = night.run("submit", "talks", "--batch", "all", "--priority", "low")
    assert text == "all\n"
    assert "1 known already" in stderr
    listed = b"talks/a.wav\0talks/two\nlines.wav\0"
    text, _ = night.run("submit", "-0", "-", "--batch", "list", stdin=listed)
    assert dict(batch_files(night.connection, "list")).keys() == {
        "talks/a.wav",
        "talks/two\nlines.wav",
    }
    assert latest_batches(night.connection)[:2] == ["list", "all"]


def test_a_dry_run_says_how_much_audio_is_to_do(night, write_wav):
    """From the headers; nothing is enqueued."""
    path = write_wav(num_samples=32_000)
    text, _ = night.run("submit", path, "--dry-run")
    assert "1 would be enqueued" in text
    assert "2.0 s of audio to do" in text
    *_, summary = night.run_json("submit", path, "--dry-run", "--json")
    assert summary["dry_run"] is True
    assert summary["audio_s"] == 2.0
    assert not night.connection.exists("rq:queue:default@fake")


def test_submit_says_what_is_wrong_with_its_arguments(night, tmp_path):
    """Usage errors are 2, files with problems 1, and the rest goes on."""
    (tmp_path / "a.wav").write_bytes(b"a")
    night.run("submit", code=2)
    night.run("submit", "a.wav", "--batch", "", code=2)
    night.run("submit", "a.wav", "--priority", "urgent", code=2)
    text, stderr = night.run("submit", "a.wav", "missing.wav", code=1)
    assert len(text.split()) == 1
    assert "source_not_found" in stderr


def test_a_summary_says_which_of_the_known_failed_for_good():
    """Else a farm that was told to allow more looks done, and nothing names the way on."""
    summary = SubmitSummary(None, "night", with_ids=False, as_json=False)
    for state in ("finished", "failed", "failed"):
        summary.add(Entry(f"{state}.wav", "known", state=state))
    lines = list(summary.lines("enqueued"))
    assert lines[-2:] == [
        "  3 known already",
        "    2 of them failed for good: --retry-failed tries again",
    ]
