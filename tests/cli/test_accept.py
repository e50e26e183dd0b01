"""`scribefarm-worker accept`: on Linux for what has a meaning there, on a Mac by written-down answers."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from producer.errors import SourceUnreachable
from producer.settings import load_settings
from tests.stage.mac_outputs import FakeMac
from worker.cli import accept, acceptance
from worker.cli.acceptance import Bench, Row
from worker.cli.finding import Finding, Ran

MEASURED = {
    "audio_s_per_s": 30.0,
    "encoder_s": 8.0,
    "decoder_s": 1.0,
    "host_s": 1.0,
    "wall_s": 10.0,
    "peak_device_bytes": 3_300_000_000,
}
TURBO = "mlx-community/whisper-large-v3-turbo"


def answers(*said):
    """Return a runner that gives these outputs in order, and the commands it was asked."""
    commands, waiting = [], list(said)

    def run(command):
        commands.append(list(command))
        return waiting.pop(0)

    return run, commands


def ran(value, before=""):
    return Ran(0, before + json.dumps(value))


def test_speeds_are_measured_in_processes_and_stand_beside_the_computed_ones():
    """Seven tenths are a good result; what fails is a row."""
    slow = MEASURED | {"audio_s_per_s": 20.0}
    run, commands = answers(
        ran({"measured": MEASURED}, "a warning\n"), ran({"measured": slow}), Ran(2, "error [x]\n")
    )
    bench = Bench(TURBO, (8, 16, 64), 5.0, Path("s.toml"), {8: 34.6, 16: 35.8}, "5 beams")
    rows = list(acceptance.bench_rows(bench, run))
    assert [row.verdict for row in rows] == ["as expected", "look", "look"]
    assert rows[0].check == "bench, 8 slots, 5 beams"
    assert rows[0].expected == "35 times real time (computed)"
    assert rows[0].found == "30.0 times real time; encoder 80%, decoder 10%, host 10%; 3.3 GB"
    assert (rows[2].expected, rows[2].found) == ("no figure", "ended with 2: error [x]")
    assert commands[0][1:] == (
        f"-P -m worker.__main__ bench --json --model {TURBO} --slots 8 --seconds 5.0"
        " --settings s.toml".split()
    )


def test_texts_that_differ_alone_and_in_a_batch_are_shown():
    """The first of them; a skipped dtype is not a failure."""
    run, commands = answers(
        ran({"dtype": "float32", "num_recordings": 6, "differences": [], "failures": []}),
        ran({"num_recordings": 6, "differences": [["a", "b"]], "failures": []}),
        ran({"dtype": "bfloat16", "skipped": "half precision is for GPUs"}),
        ran({"num_recordings": 6, "differences": [], "failures": ["device: lost"]}),
    )
    rows = list(acceptance.rows_alone_rows(Bench("tiny.en", (), 1.0), ["x"] * 4, run))
    assert [row.verdict for row in rows] == ["as expected", "look", "not shown", "look"]
    assert rows[1].found == "5 of 6 the same; 'a' and alone 'b'"
    assert commands[0][3:] == ["worker.cli.rows_alone", "--model", "tiny.en", "--dtype", "x"]


@pytest.mark.parametrize(
    ("url", "findings", "verdict"),
    [
        (None, [], "not shown"),
        ("redis://u:p@127.0.0.1:6379", [], "not shown"),
        ("unix:///tmp/s", [], "not shown"),
        ("redis://u:p@farm.example", [], "not shown"),
        ("redis://u:p@farm.example", [Finding("server from launchd", "ok", "answers")],
         "as expected"),
        ("redis://u:p@farm.example", [Finding("server from launchd", "broken", "errno 65")], "look"),
    ],
)  # fmt: skip
def test_only_launchds_own_answer_shows_that_a_daemon_reaches_the_server(url, findings, verdict):
    """And only for a server on another machine."""
    row = acceptance.server_row(load_settings(redis={"url": url}), findings, "darwin")
    assert row.verdict == verdict
    assert "u:p" not in str(row)
    elsewhere = acceptance.server_row(load_settings(redis={"url": url}), findings, "linux")
    assert elsewhere.verdict == "not shown"


def test_a_share_is_unmounted_between_two_blocks(tmp_path):
    """And the error that a worker would store is the one found."""

    def dies(_share):
        yield "block"
        raise SourceUnreachable("a.wav", "must be readable", "Device not configured")

    run, commands = answers(Ran(0, ""))
    row = acceptance.share_row(tmp_path, dies, run, "darwin")
    assert (row.verdict, row.found[:18]) == ("as expected", "source_unreachable")
    assert commands == [["/usr/sbin/diskutil", "unmount", "force", str(tmp_path)]]
    assert acceptance.share_row(None, dies, run, "darwin").found == "needs --share"
    run, _ = answers(Ran(1, "Volume is busy\n"))
    assert "Volume is busy" in acceptance.share_row(tmp_path, dies, run, "linux").found
    run, _ = answers(Ran(0, ""))
    cached = acceptance.share_row(tmp_path, lambda _: iter(["block", "block"]), run, "linux")
    assert (cached.verdict, "cache" in cached.found) == ("look", True)


def test_a_share_that_goes_away_is_read_as_a_worker_reads_it(tmp_path, monkeypatch):
    """The recording is written there, and its folder is gone in the middle."""
    monkeypatch.setattr(accept, "SHARE_S", 30)
    reading = accept._read_from_share(tmp_path)
    assert len(next(reading)) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["scribefarm-accept.wav"]
    gone = acceptance.share_row(tmp_path / "gone", accept._read_from_share, answers()[0], "linux")
    assert (gone.verdict, "could be written" in gone.found) == ("not shown", True)


def test_sleep_and_panics_are_looked_for_in_macoss_own_records():
    """As expected are none; elsewhere there is nothing to see."""
    quiet = FakeMac(also={"pmset -g log": "", "ls /Library": "JetsamEvent-2026.ips\n"})
    assert [row.found for row in acceptance.night_rows(quiet, "darwin")] == ["none", "none"]
    loud = FakeMac(also={"ls /Library": "Kernel-2026-11-25-0312.panic\n"})
    morning = datetime(2026, 11, 25, 7, tzinfo=UTC)
    slept, panicked = acceptance.night_rows(loud, "darwin", morning)
    assert (slept.verdict, "Idle Sleep" in slept.found) == ("look", True)
    assert panicked.found == "Kernel-2026-11-25-0312.panic"
    assert {row.verdict for row in acceptance.night_rows(loud, "linux")} == {"not shown"}
    slept, _ = acceptance.night_rows(loud, "darwin", morning + timedelta(days=2))
    assert slept.found == "none"


def test_the_speeds_of_a_known_mac_and_model_are_expected(monkeypatch):
    """Chip and cores as macOS says them; anything else has no figure."""
    monkeypatch.setattr(accept.sys, "platform", "darwin")
    assert {
        number: round(speed)
        for number, speed in accept._expected(TURBO, (8, 16), 1, FakeMac()).items()
    } == {8: 35, 16: 36}
    assert round(accept._expected(TURBO, (16,), 5, FakeMac())[16]) == 35
    assert accept._expected("tiny.en", (8,), 1, FakeMac()) == {}
    m9 = FakeMac(also={"sysctl -n machdep.cpu.brand_string": "Apple M9\n"})
    assert accept._expected(TURBO, (8,), 1, m9) == {}


def test_the_report_is_a_markdown_table_whatever_was_found():
    """Bars, tags and lines stay in their cell."""
    text = acceptance.markdown(
        {"chip": "Apple M4"}, [Row("a|b", "none", "<b>two\nlines</b>", "look")]
    )
    assert "- chip: Apple M4" in text
    assert text.splitlines()[-1] == r"| a\|b | none | &lt;b>two lines&lt;/b> | look |"


def test_on_a_mac_every_step_is_taken_and_the_file_has_them_all(tmp_path, monkeypatch):
    """With a Mac's answers written down, and launchd's beside doctor's."""
    program = Path(sys.executable).name
    same = {"num_recordings": 6, "differences": [], "failures": []}
    mac = FakeMac(
        also={
            f"{program} -P -m worker.__main__ bench": json.dumps({"measured": MEASURED}),
            f"{program} -P -m worker.cli.rows_alone": json.dumps(same),
            "ls /Library": "",
            "pmset -g log": "",
        }
    )
    found = [Finding("mac", "ok", "Apple M4"), Finding("server from launchd", "ok", "answers")]
    monkeypatch.setattr(accept, "examine", lambda _: iter(found))
    monkeypatch.setattr(accept, "run_command", lambda command, timeout_s: mac(command))
    monkeypatch.setattr(accept.sys, "platform", "darwin")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[redis]\nurl = "redis://farm.example"\n[model]\nname = "{TURBO}"\n')
    file = tmp_path / "out.md"
    accept.accept(output=file, slots="8,16", settings=settings)
    report = file.read_text()
    assert "- mac: Apple M4, 10 GPU cores, 16 GB" in report
    assert report.count("| as expected |") == 9
    (hidden,) = [line for line in report.splitlines() if line.endswith("| not shown |")]
    assert hidden.startswith("| a share unmounted while it is read |")
    assert "| needs --share |" in hidden


def accepted(folder, *arguments):
    variables = {name: text for name, text in os.environ.items() if "SCRIBEFARM" not in name}
    return subprocess.run(
        [Path(sys.executable).with_name("scribefarm-worker"), "accept", *arguments],
        cwd=folder,
        env=variables | {"SCRIBEFARM_REDIS__EMBEDDED_DIR": str(folder / "server")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_wrong_slots_are_wrong_usage(tmp_path):
    """Before anything is measured."""
    ended = accepted(tmp_path, "--slots", "4,x")
    assert (ended.returncode, "--slots" in ended.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.timeout(300)
def test_on_linux_it_proves_what_has_a_meaning_there(tmp_path):
    """The real model, short: doctor, one speed, and the same texts alone and in a batch."""
    ended = accepted(tmp_path, "--slots", "2", "--seconds", "0", "--model", "tiny.en")
    report = (tmp_path / "scribefarm-accept.md").read_text()
    assert ended.returncode == 0, ended.stderr
    rows = {
        line.split(" | ")[0].strip("| "): line.rstrip(" |").rpartition("| ")[2]
        for line in report.splitlines()
        if line.startswith("| ") and not line.startswith("| check")
    }
    shown = {check for check, verdict in rows.items() if verdict == "as expected"}
    assert {"doctor: self-test", "bench, 2 slots, 5 beams", "alone as in a batch, float32"} <= shown
    assert "6 of 6 the same" in report
    hidden = {check for check, verdict in rows.items() if verdict == "not shown"}
    assert {"panics", "sleep, last 24 h", "alone as in a batch, float16"} <= hidden
