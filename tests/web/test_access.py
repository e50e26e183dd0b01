"""Who is let in: hosts, sites and the token."""

import re
import time

import pytest

from producer.web.access import Access, next_page

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8723",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#localhost",
        "",
        "[::1",
        "localhost:8723, evil.example",
    ],
)
def test_a_forged_host_is_refused(page, host):
    """A name that was made to point to us is none of ours: DNS rebinding."""
    answer = page.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "interviews" not in answer.text


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8723", "localhost", "LOCALHOST:1", "[::1]:8723", "10.0.0.7", "farm.example."],
)
def test_addresses_and_our_own_names_are_known(night, open_page, host):
    """Nobody can rebind a number."""
    known = open_page(night.farm, hosts=["Farm.example"])
    expected = 421 if host.endswith(".") else 200
    assert known.get("/workers", headers={"Host": host}).status_code == expected


def test_a_second_host_is_refused(page):
    """Two Host headers are an attempt to be taken for another."""
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert page.client.get("/", headers=headers).status_code in {400, 421}


ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "http://localhost:8723"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
]


@pytest.mark.parametrize("headers", ELSEWHERE)
@pytest.mark.parametrize("path", ["/actions/pause", "/actions/retry", "/logout", "/login"])
def test_another_site_changes_nothing(night, open_page, headers, path):
    """A form on another page that a person has open is refused, whatever its origin."""
    page = open_page(night.farm, allow_actions=True)
    answer = page.client.post(path, headers=headers, data={"batch": "interviews"})
    assert answer.status_code == 403
    assert not night.farm.connection.exists("rq:suspended")


def test_another_site_cannot_read_or_embed(page):
    """Its scripts, players and frames get nothing; a link to a page of ours opens it."""
    for mode, to in (("no-cors", "audio"), ("cors", "empty"), ("navigate", "iframe")):
        asked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": to}
        assert page.get("/", headers=asked).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.get("/", headers={**link, "Sec-Fetch-Dest": "document"}).status_code == 200
    assert page.get("/", headers={"Origin": "https://evil.example"}).status_code == 403


PATHS = ["/", "/batch?name=interviews", "/audio?job=x", "/live?topic=farm", "/download?job=x"]


@pytest.mark.parametrize("path", [*PATHS, "/search?batch=interviews", "/nothing", "/v1/models"])
def test_without_the_token_nothing_is_told(night, open_page, path):
    """A program is refused; a browser is led to the login."""
    page = open_page(night.farm, token=TOKEN)
    answer = page.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    led = page.get(path, headers={"Accept": "text/html"})
    assert led.status_code == 303
    assert led.headers["location"].startswith("/login?next=%2F")
    assert page.client.post("/actions/pause").status_code == 401


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_a_wrong_token_is_none(night, open_page, given):
    """Nor is a cookie that somebody made up."""
    page = open_page(night.farm, token=TOKEN)
    assert page.get("/", headers={"Authorization": given}).status_code == 401
    for cookie in (TOKEN, "9999999999.x.y", "..", f"{int(time.time()) + 99}..", "é"):
        header = f"scribefarm={cookie}".encode()
        assert page.get("/", headers={"Cookie": header}).status_code == 401


def test_the_token_opens_for_programs_and_browsers(night, open_page):
    """As a bearer, or by the login form as a cookie that does not tell it and expires."""
    page = open_page(night.farm, token=TOKEN)
    assert page.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    wrong = page.client.post("/login", data={"token": "nonsense", "next": "/workers"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    right = page.client.post("/login", data={"token": TOKEN, "next": "/workers"})
    assert (right.status_code, right.headers["location"]) == (303, "/workers")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert page.get("/workers").status_code == 200
    page.client.post("/logout")
    assert page.get("/workers").status_code == 401


def test_a_cookie_of_yesterday_or_of_another_token_opens_nothing(monkeypatch):
    """It is signed with the token, and holds its end."""
    access, other = Access.of(TOKEN), Access.of(TOKEN[::-1])
    cookie = access.cookie()
    assert access.is_cookie(cookie)
    assert not other.is_cookie(cookie)
    assert not access.is_cookie(re.sub(r"^\d", "9", cookie))
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert not access.is_cookie(cookie)


@pytest.mark.parametrize(
    "asked",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\n/x",
        "",
    ],
)
def test_the_login_leads_nowhere_else(asked):
    """`next` is a page of ours or the farm."""
    assert next_page(asked) == "/"
    assert next_page("/batch?name=a") == "/batch?name=a"


def test_every_answer_carries_its_headers(page):
    """Also errors, files of ours, and what is downloaded."""
    for path in ("/", "/nothing", "/static/page.css", "/static/../app.py", "/live?topic=x"):
        headers = page.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy


def test_pages_hold_no_script_and_no_style_of_their_own(page):
    """What the policy forbids is not tried: no console is full of refusals."""
    for path in ("/", "/batch?name=interviews", "/workers", "/search?batch=interviews&q=a"):
        text = page.get(path).text
        assert re.findall(r"<script(?! src=\"/static/)", text) == []
        assert re.findall(r"\s(style|on\w+)=\"", text) == []
        assert re.findall(r"(?:src|href)=\"(?:https?:)?//", text) == []


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"]
)
def test_no_file_of_ours_is_given_away(page, path):
    """Static files are those of one folder."""
    assert page.get(path).status_code == 404
