"""A stand-in Mac, and the server that its worker is to reach."""

import pytest

from tests.stage.farm import running_server
from tests.stage.stand_in_mac import PASSWORD, StandInMac


@pytest.fixture(scope="session")
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
    mac.kill_worker()


@pytest.fixture
def install(mac, address):
    """Return a function that installs the daemon with the password in the environment."""

    def run(*arguments, **options):
        return mac.install(*(arguments or [address]), **{"REDIS_PASSWORD": PASSWORD, **options})

    return run
