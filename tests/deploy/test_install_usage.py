"""Options, odd characters, and what the Mac itself is told: power, rotation of the log."""

import plistlib
import subprocess
import sys
import tomllib

import pytest

from tests.stage.stand_in_mac import ROOT


def test_help_needs_no_mac():
    """It is the first thing that people try."""
    shown = subprocess.run(
        [ROOT / "deploy" / "install", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--agent", "--user", "--prefix", "--password-file", "--yes", "--remove"):
        assert option in shown.stdout
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "options", "found"),
    [
        ([], {}, "the first time an address is needed"),
        (["--nonsense"], {}, "no such option: --nonsense"),
        (["a", "b", "c"], {}, "too many arguments: c"),
        (["--user"], {}, "--user needs a value"),
        (["redis://h", "--user", "carl"], {}, "no such user: carl"),
        (["redis://h", "--user", "root"], {}, "not as root"),
        (["redis://h"], {"SUDO_USER": ""}, "no user to run as"),
        (["redis://h"], {"SUDO_USER": "root"}, "not as root"),
        (["redis://h"], {"caller": "ann"}, "installed with sudo"),
        (["--agent", "redis://h"], {}, "without sudo"),
        (["redis://h\nx"], {}, "no control characters"),
        (["redis://h"], {"MAC_SYSTEM": "Linux"}, "deploy/systemd"),
        (["redis://h"], {"MAC_MACHINE": "x86_64"}, "Apple silicon"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_done(mac, arguments, options, found):
    """Exit code 2, one sentence."""
    ended = mac.install(*arguments, **options)
    assert ended.returncode == 2
    assert found in ended.stderr
    assert not any(line.startswith(("uv", "bootout", "pmset")) for line in mac.done)


def test_odd_characters_in_folders_and_models_are_only_characters(mac, install, address):
    """Shell, TOML and XML each have some of their own."""
    odd = "Über & <co> #1 'q' \"d\" 100% $HOME `x` \\n @USER@"
    prefix = mac.folder / odd
    ended = install(address, str(mac.folder / odd / "model"), "--prefix", prefix)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert tomllib.loads((prefix / "settings.toml").read_text())["model"]["name"] == str(
        prefix / "model"
    )
    arguments = plistlib.loads(mac.plist.read_bytes())["ProgramArguments"]
    assert arguments[0] == f"{prefix}/venv/bin/scribefarm-worker"
    assert mac.install().returncode == 0


def test_power_settings_are_changed_only_when_somebody_agreed(mac, install, address):
    """Each by itself: not every Mac has all of them."""
    ended = install()
    assert "sudo pmset -a sleep 0 disksleep 0" in ended.stdout
    assert not any(line.startswith("pmset") for line in mac.done)
    install(address, typed="n\n")
    assert not any(line.startswith("pmset") for line in mac.done)
    ended = install(address, typed="\n")
    changed = [line for line in mac.done if line.startswith("pmset")]
    assert "pmset -a sleep 0" in changed
    assert "pmset -a autorestart 1" in changed
    assert "this Mac has no setting powernap" in ended.stdout
    assert ended.returncode == 0


def test_the_log_is_rotated(mac, install):
    """newsyslog's fields: file, owner, mode, count, size in kB, when, flags (N: signal nobody)."""
    install()
    text = (mac.folder / "etc/newsyslog.d/scribefarm.conf").read_text()
    (line,) = [line.split() for line in text.splitlines() if not line.startswith("#")]
    path, owner, mode, count, size, when, flags = line
    assert str(mac.log).endswith(path)
    assert owner == "ann:"
    assert (mode, when, flags) == ("640", "*", "JN")
    assert int(count) > 1
    assert int(size) > 1000
    assert f"chown ann {mac.log}" in mac.done


def test_a_worker_follows_its_log_when_it_was_moved_away(tmp_path):
    """What it says after a rotation is in the new file; stderr goes there too."""
    log = tmp_path / "worker.log"
    program = (
        "import sys, os, pathlib, structlog; from worker.log_file import follow\n"
        "path = pathlib.Path(sys.argv[1]); follow(path); log = structlog.get_logger()\n"
        "structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))\n"
        "log.info('before'); path.rename(sys.argv[1] + '.0')\n"
        "log.info('between'); log.info('after'); print('printed', file=sys.stderr, flush=True)\n"
    )
    subprocess.run([sys.executable, "-c", program, log], cwd=ROOT, check=True)
    assert "before" in (tmp_path / "worker.log.0").read_text()
    assert "between" not in (tmp_path / "worker.log.0").read_text()
    for word in ("between", "after", "printed"):
        assert word in log.read_text()
