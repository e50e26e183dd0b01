"""deploy/install on a stand-in Mac: launchd, sudo and users are scripts, everything else is real."""

import os
import plistlib
import signal
import stat
from pathlib import Path

import pytest

from tests.stage.farm import free_port, running_server, wait_until
from tests.stage.stand_in_mac import LABEL, ROOT, STARTED, StandInMac

PASSWORD = "s3cret"  # noqa: S105 - the test server's


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a server that lets `worker` in with a password."""
    folder = tmp_path_factory.mktemp("server")
    users = folder / "users.acl"
    users.write_text(
        "user default on nopass ~* &* +@all\n"
        f"user worker on >{PASSWORD} ~* &* +@all\nuser odd on >p%:/?#[@]'\"\\é ~* &* +@all\n"
    )
    with running_server(folder / "data", "--aclfile", str(users)) as running:
        yield running


@pytest.fixture
def address(server):
    """Return the address as a person gives it: with a user, without a password."""
    return f"redis://worker@127.0.0.1:{server.port}"


@pytest.fixture
def mac(tmp_path):
    """Return a Mac with nothing installed; a worker that was really started ends with the test."""
    mac = StandInMac(tmp_path / "mac")
    yield mac
    if (pid := mac.folder / "pid").exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture
def install(mac, address):
    """Return a function that installs the daemon with the password in the environment."""

    def run(*arguments, **options):
        return mac.install(*(arguments or [address]), **{"SCRIBEFARM_PASSWORD": PASSWORD, **options})

    return run


def test_the_first_run_installs_a_daemon_that_works(mac, install, server):
    """Packages from the lock file, model, settings, log, launchd file, and only then the job."""
    ended = install()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "the worker runs as ann" in ended.stdout
    assert "Full Disk Access" in ended.stdout
    assert mac.is_loaded()
    assert mac.settings() == {
        "redis": {"url": f"redis://worker:{PASSWORD}@127.0.0.1:{server.port}"},
        "model": {"name": "mlx-community/whisper-large-v3-turbo"},
    }
    (sync,) = [line for line in mac.done if line.startswith("uv ")]
    for option in ("--frozen", "--no-editable", "--managed-python", "--reinstall-package"):
        assert option in sync
    assert "scribefarm-worker models fetch mlx-community/whisper-large-v3-turbo" in mac.done
    prefix = mac.folder / "Users" / "ann" / ".scribefarm"
    assert stat.S_IMODE(prefix.stat().st_mode) == 0o700
    assert stat.S_IMODE((prefix / "settings.toml").stat().st_mode) == 0o600
    assert sorted(path.name for path in prefix.iterdir()) == [
        "python", "settings.toml", "venv", "venv.a",
    ]  # fmt: skip


def test_the_launchd_file_says_what_the_worker_needs(mac, install):
    """A plain user, that user's home, and a log that launchd and worker agree on."""
    install()
    plist = plistlib.loads(mac.plist.read_bytes())
    prefix = mac.folder / "Users" / "ann" / ".scribefarm"
    assert plist["ProgramArguments"] == [
        f"{prefix}/venv/bin/scribefarm-worker", "run", "--settings", f"{prefix}/settings.toml",
        "--log-file", str(mac.log),
    ]  # fmt: skip
    assert plist["UserName"] == "ann"
    assert plist["EnvironmentVariables"] == {"HOME": str(mac.folder / "Users" / "ann")}
    assert plist["StandardErrorPath"] == str(mac.log)
    assert f"chown root:wheel {mac.plist}" in mac.done
    assert stat.S_IMODE(mac.plist.stat().st_mode) == 0o644


def test_a_second_run_waits_for_a_worker_that_drains_for_a_minute(mac, install):
    """Its packages stay until it is gone, and launchd takes the new one at the first try."""
    assert install().returncode == 0
    mac.set("drain_s", 60)
    ended = install()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert mac.clock_s >= 60
    assert mac.is_loaded()
    assert "bootstrap failed" not in mac.done
    prefix = mac.folder / "Users" / "ann" / ".scribefarm"
    assert (prefix / "venv").readlink() == Path("venv.b")
    assert not (prefix / "venv.a").exists()
    assert mac.done.index(f"bootout system/{LABEL}") > max(
        at for at, line in enumerate(mac.done) if line.startswith(("uv ", "scribefarm-worker"))
    )


def test_a_worker_that_does_not_end_keeps_its_packages(mac, install):
    """launchd kills after 90 s; when even that fails, a person has to look."""
    install()
    mac.set("drain_s", 1000)
    ended = install()
    assert ended.returncode == 1
    assert "does not end within 120 s" in ended.stderr
    assert (mac.folder / "Users/ann/.scribefarm/venv").readlink() == Path("venv.a")


def test_launchd_is_asked_again_when_it_has_not_forgotten_the_old_job(mac, install):
    """Bootstrap failed: 5 passes; it is no reason to leave a Mac without a worker."""
    mac.set("bootstrap_failures", 3)
    assert install().returncode == 0
    assert mac.done.count("bootstrap failed") == 3
    assert mac.is_loaded()


def test_launchd_that_never_takes_it_is_an_error_with_its_words(mac, install):
    """It is not tried for ever."""
    mac.set("bootstrap_failures", 100)
    ended = install()
    assert ended.returncode == 1
    assert "Bootstrap failed: 5: Input/output error" in ended.stderr


def test_an_update_needs_no_argument_and_keeps_the_settings(mac, install):
    """Address, password, model, the user and lines of one's own stay as they were."""
    install("redis://worker@" + _host(mac, install), "owner/model", "--user", "bob")
    path = mac.folder / "Users/bob/.scribefarm/settings.toml"
    path.write_text(path.read_text() + '\n# ours\n[audio]\nroots = ["/archive"]\n')
    before = path.read_text()
    ended = mac.install()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_text() == before
    assert plistlib.loads(mac.plist.read_bytes())["UserName"] == "bob"


def _host(mac, install):
    return install.__closure__[0].cell_contents.partition("@")[2]


def test_another_model_or_address_is_written_where_it_belongs(mac, install, address):
    """Also into a file that lacks the key or the whole section."""
    install()
    path = mac.folder / "Users/ann/.scribefarm/settings.toml"
    path.write_text('[redis] # the farm\nsocket_timeout_s = 3.0\n[worker]\nslots = 4\n')
    assert install(address, "owner/other").returncode == 0
    settings = mac.settings()
    assert settings["redis"]["url"].endswith(address.partition("@")[2])
    assert settings["redis"]["socket_timeout_s"] == 3.0
    assert settings["model"] == {"name": "owner/other"}
    assert settings["worker"] == {"slots": 4}
    assert "# the farm" in path.read_text()


# The server


@pytest.mark.parametrize("given", ["http://farm:6379", "farm.example", "redis://", "rediss:/farm:1"])
def test_what_is_no_address_is_refused_before_anything_is_done(mac, install, given):
    """With the form that is wanted."""
    ended = install(given)
    assert ended.returncode == 2
    assert "rediss://HOST:PORT" in ended.stderr
    assert mac.done == [] or all("uv" not in line for line in mac.done)


def test_a_wrong_address_leaves_the_old_worker_alone(mac, install):
    """Nothing answers there: the worker that runs goes on with the address it has."""
    install()
    before = mac.settings()
    ended = install(f"redis://worker@127.0.0.1:{free_port()}")
    assert ended.returncode == 3
    assert "error [server_unreachable]" in ended.stderr
    assert "nothing was changed" in ended.stderr
    assert mac.is_loaded()
    assert mac.settings() == before
    assert not any(line.startswith("bootout") for line in mac.done)


def test_a_wrong_password_leaves_the_old_worker_alone(mac, install):
    """The server's answer is shown, the password is not."""
    install()
    ended = install(SCRIBEFARM_PASSWORD="wr0ng")
    assert ended.returncode == 3
    assert "invalid username-password pair" in ended.stderr
    assert "wr0ng" not in ended.stdout + ended.stderr
    assert mac.is_loaded()


@pytest.mark.parametrize(
    "given",
    [
        "redis://worker:s3cret@127.0.0.1:6379",
        "rediss://:s3cret@farm.example",
        "redis://farm.example:6379/0?password=s3cret",
    ],
)
def test_a_password_on_the_command_line_is_refused_with_three_ways(mac, given):
    """ps and the shell's history show it to everybody."""
    ended = mac.install(given)
    assert ended.returncode == 2
    for way in ("when asked", "--password-file", "SCRIBEFARM_PASSWORD"):
        assert way in ended.stderr
    assert "s3cret" not in ended.stderr
    assert not any(line.startswith("uv") for line in mac.done)


def test_an_address_with_a_port_and_no_user_has_no_password(mac, server):
    """The colon of a port is no password, and nobody is asked for one."""
    ended = mac.install(f"redis://127.0.0.1:{server.port}/0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert mac.settings()["redis"]["url"] == f"redis://127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_password_comes_from_a_file(mac, address, end):
    """With or without an end of its line; a path is the caller's."""
    (mac.folder / "secret file").write_text(PASSWORD + end)
    ended = mac.install(address, "--password-file", "secret file")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f":{PASSWORD}@" in mac.settings()["redis"]["url"]


def test_without_a_terminal_nobody_can_be_asked(mac, address):
    """A script learns what it has to give."""
    ended = mac.install(address)
    assert ended.returncode == 2
    assert "--password-file" in ended.stderr


def test_a_password_of_odd_characters_reaches_the_server(mac, server):
    """In a URL each of them would mean something."""
    odd = "p%:/?#[@]'\"\\é"
    ended = mac.install(f"redis://odd@127.0.0.1:{server.port}", SCRIBEFARM_PASSWORD=odd)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_program_gets_the_password_as_an_argument(mac, install):
    """What the stand-ins were called with is all that `ps` could have shown."""
    install()
    assert PASSWORD not in (mac.folder / "done").read_text()
    assert PASSWORD not in mac.plist.read_text()


# Packages, model, worker


def test_packages_that_cannot_be_had_change_nothing(mac, install):
    """The worker that runs keeps its own."""
    install()
    mac.set("no_packages")
    ended = install()
    assert ended.returncode == 1
    assert "nothing was changed" in ended.stderr
    assert mac.is_loaded()
    assert (mac.folder / "Users/ann/.scribefarm/venv").readlink() == Path("venv.a")


def test_a_hub_out_of_reach_changes_nothing(mac, install, address):
    """The real command says so, before anything is stopped."""
    install()
    mac.set("real_worker")
    hub = f"http://127.0.0.1:{free_port()}"
    ended = install(address, "owner/model", HF_ENDPOINT=hub, HF_HOME=str(mac.folder / "hub"))
    assert ended.returncode == 1
    assert "the model could not be fetched; nothing was changed" in ended.stderr
    assert "error [" in ended.stderr
    assert mac.is_loaded()
    assert mac.settings()["model"]["name"] != "owner/model"


def test_a_worker_that_launchd_keeps_from_the_server_is_no_success(mac, install):
    """The installer itself reached it: what is said comes from launchd's worker."""
    line = "error [server_unreachable] farm:6379: a Redis server must answer (got No route to host)"
    mac.worker_says(line + "\n")
    ended = install()
    assert ended.returncode == 3
    assert line in ended.stderr
    assert "the worker runs" not in ended.stdout


@pytest.mark.parametrize(
    ("says", "state", "found"),
    [
        ("error [invalid_model] model: must be whole\n", "running", "must be whole"),
        (STARTED, "spawn scheduled", "it ended"),
        (STARTED + 'error [server_unreachable] NOPERM\n', "running", "NOPERM"),
        ("", "spawn scheduled", "does not stay alive"),
        ("", "running", "did not say within 180 s"),
    ],
)
def test_a_worker_that_does_not_work_is_no_success(mac, install, says, state, found):
    """It is waited for, and its last words are shown."""
    mac.worker_says(says)
    mac.set("state", state)
    ended = install()
    assert ended.returncode in {1, 3}
    assert found in ended.stderr
    assert "the worker runs" not in ended.stdout


def test_what_an_earlier_worker_said_is_not_the_new_ones(mac, install):
    """The log is read from where the new one began."""
    mac.log.parent.mkdir(parents=True)
    mac.log.write_text("error [server_unreachable] last week\n")
    assert install().returncode == 0
    mac.worker_says("error [invalid_model] today\n")
    assert "today" in install().stderr


@pytest.mark.slow
def test_the_installed_worker_is_a_real_one(mac, install, address):
    """The launchd file's own command, the settings and the log, with the packaged tiny.en."""
    mac.set("real_worker")
    path = Path(os.environ["PATH"].split(":")[0])  # noqa: F841 - only the real sleep is missing
    (mac.folder / "stubs" / "sleep").write_text("#!/bin/sh\nexec /bin/sleep $1\n")
    ended = install(address, "tiny.en")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "worker_started" in mac.log.read_text()


# Agents


def test_an_agent_runs_for_who_is_logged_in_and_says_what_it_cannot_do(mac, install, address):
    """No sudo, no root: launchd file, log and settings are the user's."""
    ended = install("--agent", address, caller="ann")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "reaches no server on the local network" in ended.stdout
    assert "sudo pmset -a sleep 0" in ended.stdout
    plist = mac.folder / f"Users/ann/Library/LaunchAgents/{LABEL}.plist"
    assert "UserName" not in plistlib.loads(plist.read_bytes())
    assert mac.is_loaded("gui/501")
    assert not any(line.startswith(("chown", "as ", "pmset")) for line in mac.done)


def test_an_agent_needs_a_login_session(mac, install, address):
    """Over SSH on a headless Mac: said before anything is installed."""
    (mac.folder / "sessions" / "501").unlink()
    ended = install("--agent", address, caller="ann")
    assert ended.returncode == 1
    assert "nobody is logged in" in ended.stderr
    assert mac.done == []


def test_an_agent_that_cannot_reach_the_local_network_says_why(mac, install, address):
    """macOS says only No route to host."""
    mac.worker_says("error [server_unreachable] farm:6379: (got Error 65 ... No route to host)\n")
    ended = install("--agent", address, caller="ann")
    assert ended.returncode == 3
    assert "macOS 15 and later keep agents from the local network" in ended.stderr


def test_a_daemon_takes_the_place_of_the_users_agent(mac, install, address):
    """What an earlier installer made: two workers would share one GPU."""
    install("--agent", address, caller="ann")
    mac.set("drain_s", 30)
    assert install().returncode == 0
    assert mac.is_loaded()
    assert not mac.is_loaded("gui/501")
    assert not (mac.folder / f"Users/ann/Library/LaunchAgents/{LABEL}.plist").exists()
    assert mac.done.index(f"bootout gui/501/{LABEL}") < mac.done.index(
        f"bootstrap system {mac.plist}"
    )


def test_no_agent_beside_a_daemon(mac, install, address):
    """It says how to be rid of the daemon."""
    install()
    ended = install("--agent", address, caller="ann")
    assert ended.returncode == 1
    assert "sudo deploy/install --remove" in ended.stderr


# Removal


def test_remove_waits_for_the_worker_and_leaves_settings_and_log(mac, install):
    """Its packages are not deleted while it drains."""
    install()
    mac.set("drain_s", 60)
    ended = mac.install("--remove")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert mac.clock_s >= 60
    assert not mac.is_loaded()
    assert not mac.plist.exists()
    assert not (mac.folder / "etc/newsyslog.d/scribefarm.conf").exists()
    assert mac.log.exists()
    prefix = mac.folder / "Users/ann/.scribefarm"
    assert [path.name for path in prefix.iterdir()] == ["settings.toml"]


def test_remove_finds_the_daemon_of_another_user(mac, install, address):
    """The launchd file knows whose it is, and where."""
    install(address, "--user", "bob", "--prefix", mac.folder / "elsewhere")
    assert mac.install("--remove").returncode == 0
    assert not (mac.folder / "elsewhere" / "venv").is_symlink()


def test_removing_nothing_is_no_error(mac):
    """Again and again."""
    assert mac.install("--remove").returncode == 0
    assert mac.install("--agent", "--remove", caller="ann").returncode == 0


# Usage, names, power


def test_help_needs_no_mac():
    """It is the first thing that people try."""
    import subprocess

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
    import tomllib

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
    ended = install(address, "--yes")
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


def test_a_worker_of_its_own_follows_a_log_that_was_moved_away(tmp_path):
    """What it says after a rotation is in the new file; stderr goes there too."""
    import subprocess
    import sys

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


def test_wait_until_is_not_needed_here():
    """Placeholder."""
    assert wait_until
