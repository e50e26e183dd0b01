"""deploy/install on a stand-in Mac: the first run, updates, and what ends without a worker."""

import plistlib
import stat
from pathlib import Path

import pytest

from tests.stage.farm import free_port
from tests.stage.stand_in_mac import LABEL, PASSWORD, STARTED


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_worker_that_does_not_end_keeps_its_packages(mac, install):
    """launchd kills after 90 s; when even that fails, a person has to look."""
    install()
    mac.set("drain_s", 1000)
    ended = install()
    assert ended.returncode == 1
    assert "does not end within 120 s" in ended.stderr
    assert "no new one started: run this again" in ended.stderr
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


def test_an_update_needs_no_argument_and_keeps_the_settings(mac, install, address):
    """Address, password, model, the user and lines of one's own stay as they were."""
    install(address, "owner/model", "--user", "bob")
    path = mac.folder / "Users/bob/.scribefarm/settings.toml"
    path.write_text(path.read_text() + '\n# ours\n[audio]\nroots = ["/archive"]\n')
    before = path.read_text()
    ended = mac.install()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert path.read_text() == before
    assert plistlib.loads(mac.plist.read_bytes())["UserName"] == "bob"


def test_another_model_or_address_is_written_where_it_belongs(mac, install, address):
    """Also into a file that lacks the key or the whole section."""
    install()
    path = mac.folder / "Users/ann/.scribefarm/settings.toml"
    path.write_text("[redis] # the farm\nsocket_timeout_s = 3.0\n[worker]\nslots = 4\n")
    assert install(address, "owner/other").returncode == 0
    settings = mac.settings()
    assert settings["redis"]["url"].endswith(address.partition("@")[2])
    assert settings["redis"]["socket_timeout_s"] == 3.0
    assert settings["model"] == {"name": "owner/other"}
    assert settings["worker"] == {"slots": 4}
    assert "# the farm" in path.read_text()


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
        (STARTED + "error [server_unreachable] NOPERM\n", "running", "NOPERM"),
        pytest.param("", "spawn scheduled", "does not stay alive", marks=pytest.mark.slow),
        pytest.param("", "running", "did not say within 180 s", marks=pytest.mark.slow),
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
def test_a_pinned_revision_is_fetched_and_forgotten_with_its_model(mac, install, address):
    """It is a commit of that model and of no other."""
    install(address, "owner/model")
    path = mac.folder / "Users/ann/.scribefarm/settings.toml"
    path.write_text(path.read_text() + 'revision = "abc"\n')
    assert mac.install().returncode == 0
    assert "scribefarm-worker models fetch owner/model --revision abc" in mac.done
    assert install(address, "owner/other").returncode == 0
    assert mac.settings()["model"] == {"name": "owner/other"}


@pytest.mark.parametrize(
    "written",
    ['redis.url = "redis://x"\n', 'redis = { url = "redis://x" }\n', "[redis\n", "redis = 3\n"],
)
def test_settings_of_a_form_of_their_own_are_left_alone(mac, install, address, written):
    """A line-wise change would break them; a person is asked instead."""
    install()
    path = mac.folder / "Users/ann/.scribefarm/settings.toml"
    path.write_text(written)
    ended = install(address, "owner/other")
    assert ended.returncode == 2
    assert "write redis.url and model.name by hand" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert path.read_text() == written
    assert mac.is_loaded()


@pytest.mark.slow
def test_the_installed_worker_is_a_real_one(mac, install, address):
    """The launchd file's own command, the settings and the log, with the packaged tiny.en."""
    mac.set("real_worker")
    mac.sleep_really()
    ended = install(address, "tiny.en")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "worker_started" in mac.log.read_text()
