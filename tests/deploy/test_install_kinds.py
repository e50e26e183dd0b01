"""Agents instead of daemons, one instead of the other, and removal."""

import plistlib

from tests.stage.stand_in_mac import LABEL


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


def test_a_daemon_for_another_user_takes_the_place_of_the_callers_agent(mac, install, address):
    """Who installed the agent is who calls sudo now."""
    install("--agent", address, caller="ann")
    assert install(address, "--user", "bob").returncode == 0
    assert not mac.is_loaded("gui/501")
    assert not (mac.folder / f"Users/ann/Library/LaunchAgents/{LABEL}.plist").exists()


def test_no_agent_beside_a_daemon(mac, install, address):
    """It says how to be rid of the daemon."""
    install()
    ended = install("--agent", address, caller="ann")
    assert ended.returncode == 1
    assert "sudo deploy/install --remove" in ended.stderr


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
