"""The address and the password that deploy/install is given, on a real server."""

import subprocess
import sys
import tomllib

import pytest

from tests.stage.farm import free_port
from tests.stage.stand_in_mac import PASSWORD, ROOT


@pytest.mark.parametrize(
    "given", ["http://farm:6379", "farm.example", "redis://", "rediss:/farm:1"]
)
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
    ended = install(REDIS_PASSWORD="wr0ng")
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
    for way in ("when asked", "--password-file", "REDIS_PASSWORD"):
        assert way in ended.stderr
    assert "s3cret" not in ended.stderr
    assert not any(line.startswith("uv") for line in mac.done)


def test_an_address_with_a_port_and_no_user_has_no_password(mac, server):
    """The colon of a port is no password, and nobody is asked for one."""
    ended = mac.install(f"redis://127.0.0.1:{server.port}/0")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert mac.settings()["redis"]["url"] == f"redis://127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_password_comes_from_a_file(mac, address, end):
    """With or without an end of its line; a path is the caller's."""
    (mac.folder / "secret file").write_text(PASSWORD + end)
    ended = mac.install(address, "--password-file", "secret file")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f":{PASSWORD}@" in mac.settings()["redis"]["url"]


def test_a_person_is_asked_for_the_password(mac, address):
    """What is typed is not shown; the second answer is for the power settings."""
    ended = mac.install(address, typed=f"{PASSWORD}\nn\n")
    assert ended.returncode == 0, ended.stderr
    assert f"password of {address}" in ended.stderr
    assert f":{PASSWORD}@" in mac.settings()["redis"]["url"]
    assert not any(line.startswith("pmset") for line in mac.done)


def test_an_address_without_a_user_can_have_a_password(tmp_path):
    """As for a server that knows one password and no users."""
    program, path = ROOT / "deploy/installer/files.py", tmp_path / "settings.toml"
    subprocess.run(
        [sys.executable, program, "settings", path, "--address", "redis://farm:6379/0"],
        input="of all\n", text=True, check=True,
    )  # fmt: skip
    written = tomllib.loads((tmp_path / "settings.toml.new").read_text())
    assert written["redis"]["url"] == "redis://:of%20all@farm:6379/0"


def test_no_draft_with_a_password_is_left(mac, address):
    """Also when the server refuses it."""
    mac.install(address, REDIS_PASSWORD="wr0ng")
    assert list((mac.folder / "Users/ann/.scribefarm").glob("settings*")) == []


def test_without_a_terminal_nobody_can_be_asked(mac, address):
    """A script learns what it has to give."""
    ended = mac.install(address)
    assert ended.returncode == 2
    assert "--password-file" in ended.stderr


def test_a_password_of_odd_characters_reaches_the_server(mac, server):
    """In a URL each of them would mean something."""
    odd = "p%:/?#[@]'\"\\é"
    ended = mac.install(f"redis://odd@127.0.0.1:{server.port}", REDIS_PASSWORD=odd)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_no_program_gets_the_password_as_an_argument(mac, install):
    """What the stand-ins were called with is all that `ps` could have shown."""
    install()
    assert PASSWORD not in (mac.folder / "done").read_text()
    assert PASSWORD not in mac.plist.read_text()
