"""`scribefarm web`: what is refused before anything listens, and a page that is served and ends."""

import signal

import httpx
import pytest

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--listen", "127.0.0.1:http"], "must be PORT, HOST:PORT or [IPV6]:PORT"),
        (["--listen", "0.0.0.0:0"], "needs --token-file beyond this machine"),
        (["--token-file", "short"], "at least 16 ASCII characters"),
        (["--token-file", "binary"], "must be a file with a token"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_listens(scribefarm, tmp_path, flags, said):
    """Exit code 2, and what is wrong with it."""
    (tmp_path / "short").write_text("secret\n")
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    done = scribefarm("web", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_the_page_is_served_and_ends(start_scribefarm, tmp_path):
    """With a token, if one is asked for; an address that is taken is refused."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    index = str(tmp_path / "index")
    process = start_scribefarm(
        "web", "--listen", "0", "--token-file", "token", SCRIBEFARM_WEB__INDEX_DIR=index
    )
    address = process.stderr.readline().split()[4].removesuffix(";")
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(address).status_code == 401
    known = {"Authorization": f"Bearer {TOKEN}"}
    assert "The farm" in httpx.get(address, headers=known).text
    taken = start_scribefarm("web", "--listen", address.removeprefix("http://").rstrip("/"))
    _, said = taken.communicate(timeout=60)
    assert (taken.returncode, "must be a free address of this machine" in said) == (2, True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
