"""The page in a real browser: Chromium, without a window; what a person does, with mouse and keys.

Debian's package `chromium` is driven by Playwright. Where there is no Chromium the tests are skipped;
in CI its absence is an error.
"""

import os
import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from tests.stage.farm import wait_until
from tests.stage.shown_farm import answers, archive, submit
from tests.stage.told_engine import ToldEngine
from tests.web.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)
KNOWN_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def chromium():
    """Return a browser; nothing outside this machine is asked."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs Chromium: apt-get install chromium")
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        # Tests run as root in a container, where Chromium's sandbox does not start.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(page, expression):
    """Wait until something holds in the page; Playwright's own way needs eval, which we forbid."""
    wait_until(lambda: page.evaluate(expression), timeout_s=PATIENCE_MS / 1000)


class Visitor:
    """A person before a browser, and what the browser complains of."""

    def __init__(self, browser, url, **options):
        self.context = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.problems, self.asked = [], []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _note(self, message):
        if message.type in {"error", "warning"}:
            self.problems.append(message.text)

    def violations(self):
        """Return what axe finds serious on the page as it is now."""
        found = Axe().run(self.page, options={"runOnly": KNOWN_TAGS}).response["violations"]
        return [
            (each["id"], node["target"], node.get("failureSummary"))
            for each in found
            if each["impact"] in {"serious", "critical"}
            for node in each["nodes"]
        ]


@pytest.fixture
def visit(chromium):
    """Return a function that gives a visitor of an address; none may end with a problem."""
    visitors = []

    def visit(url, **options):
        visitors.append(Visitor(chromium, url, **options))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.context.close()
        assert visitor.problems == []


@pytest.fixture
def served(night, open_page):
    """Return the address of the page over a night that is over."""
    server = Served(open_page(night.farm, roots=[night.root]).app)
    yield server.url
    server.stop()


def test_a_night_is_watched_and_a_transcript_is_read(farm, open_page, visit, tmp_path):
    """Submit, see the page change, open a text, click a word, filter, download, find a phrase."""
    root = tmp_path / "archive"
    made = archive(root, num_files=8)
    server = Served(open_page(farm, roots=[root]).app)
    someone = visit(server.url, accept_downloads=True)
    page = someone.page
    try:
        # The page is open before anything is there.
        page.goto("/")
        expect(page.locator("#live-mark")).to_have_text("live")
        expect(page.locator("#batches")).to_contain_text("Nothing was submitted yet")
        page.evaluate("window.isTheSamePage = true")
        submit(farm, made, "interviews")
        expect(page.locator("#batches")).to_contain_text("interviews")
        farm.configure(queue={"max_attempts": 1})
        farm.start(ToldEngine(answers(made), capacity=4, work_s=3.0))
        expect(page.locator("#in-hand q").first).to_be_visible()
        expect(page.locator("#batches")).to_contain_text("12 of 12", timeout=60_000)
        expect(page.locator("#throughput rect.audio").first).to_be_attached()
        assert page.evaluate("window.isTheSamePage")

        # The batch: errors with advice, filtered by their code.
        page.get_by_role("link", name="interviews", exact=True).click()
        expect(page.locator("#batch-errors")).to_contain_text("Copy it again from the original")
        page.locator("select[name=code]").select_option("corrupt_audio")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("tbody th a[href^='/recording']")).to_have_count(2)
        page.get_by_role("link", name="All", exact=True).click()

        # A transcript: a marked word, a flagged passage; words lead the player.
        page.get_by_role("link", name=re.compile("tape 07")).click()
        expect(page.locator(".w.doubt")).to_have_text("keys.")
        expect(page.locator(".segment.flagged .tag")).to_have_text("low confidence")
        word = page.locator(".w", has_text="seventy-two")
        word.click()
        at = float(word.get_attribute("data-t"))
        until(page, f"Math.abs(document.getElementById('audio').currentTime - {at}) < 0.05")
        expect(word).to_have_class(re.compile(r"\bnow\b"))
        # The player follows: while it plays, the marked word moves on.
        page.evaluate("document.getElementById('audio').muted = true")
        page.evaluate("document.getElementById('audio').play()")
        expect(word).not_to_have_class(re.compile(r"\bnow\b"))
        assert page.evaluate("document.getElementById('audio').currentTime") > at

        with page.expect_download() as download:
            page.get_by_role("link", name="srt", exact=True).click()
        assert download.value.suggested_filename == "tape 07 side B.srt"
        assert "nobody kept the keys" in download.value.path().read_text()

        # A phrase, among all texts of the batch.
        page.get_by_role("link", name="Batch interviews").click()
        page.get_by_label("Find in its texts").fill('"nobody kept the keys"')
        page.get_by_role("button", name="Find").click()
        expect(page.locator("mark.hit").first).to_have_text("nobody kept the keys")
        page.locator(".results a").first.click()
        expect(page.locator("#hit")).to_be_in_viewport()
        # Nothing was asked of anybody else.
        assert [url for url in someone.asked if not url.startswith(server.url)] == []
    finally:
        someone.context.close()
        server.stop()


def test_keys_alone_suffice(night, served, visit):
    """From the farm to a word in a recording, without a mouse; the focus is always seen."""
    page = visit(served).page
    press = page.keyboard.press
    page.goto("/")
    press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    press("Enter")

    def tab_to(text):
        for _ in range(120):
            press("Tab")
            focused = page.evaluate("document.activeElement.textContent.trim()")
            if text in focused:
                outline = "getComputedStyle(document.activeElement).outlineStyle"
                assert page.evaluate(outline) != "none"
                return
        pytest.fail(f"no way to {text}")

    tab_to("interviews")
    press("Enter")
    page.wait_for_url("**/batch?name=interviews")
    tab_to("tape 07 side B")
    press("Enter")
    page.wait_for_url("**/recording?**")
    tab_to("00:0")
    press("ArrowDown")
    press("Enter")
    time_of = "Number(document.activeElement.dataset.t)"
    at = page.evaluate(time_of)
    assert at > 1
    until(page, f"Math.abs(document.getElementById('audio').currentTime - {at}) < 0.05")
    press("ArrowRight")
    until(page, f"document.getElementById('audio').currentTime > {at} + 0.1")
    press(" ")
    until(page, "!document.getElementById('audio').paused")
    press(" ")
    until(page, "document.getElementById('audio').paused")
    # One stop for the whole text: the next one is behind it.
    press("Tab")
    assert "All figures" in page.evaluate("document.activeElement.textContent")


def test_the_focus_stays_where_it_is_when_a_part_is_renewed(farm, open_page, visit, tmp_path):
    """A person who is about to press Enter is not thrown to the top."""
    made = archive(tmp_path / "archive", num_files=2)
    submit(farm, made, "interviews")
    server = Served(open_page(farm).app)
    someone = visit(server.url)
    page = someone.page
    try:
        page.goto("/")
        expect(page.locator("#live-mark")).to_have_text("live")
        page.locator("#batches a", has_text="interviews").focus()
        farm.configure(queue={"max_attempts": 1})
        farm.start(ToldEngine(answers(made)), burst=True).wait()
        expect(page.locator("#batches")).to_contain_text("6 of 6")
        assert page.evaluate("document.activeElement.textContent.trim()") == "interviews"
    finally:
        someone.context.close()
        server.stop()


def paths_of(night):
    """Return the pages that are looked at, by name."""
    jobs = night.jobs
    return {
        "farm": "/",
        "batches": "/all-batches",
        "batch": "/batch?name=interviews",
        "workers": "/workers",
        "found": "/search?batch=interviews&q=keys",
        "recording": f"/recording?job={jobs['interviews/1974/tape 07 side B.wav']}",
        "lanes": f"/recording?job={jobs['interviews/1974/tape 03 side B.wav']}",
        "failed": f"/recording?job={jobs['interviews/1974/damp.wav']}",
        "odd": f"/recording?job={jobs[night.odd[0][0]]}",
        "odd batch": "/batch?name=%3Cimg+src%3Dx+onerror%3D%22alert%281%29%22%3E",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(night, served, visit, scheme, width):
    """Every page, light and dark, on a desk and on a telephone."""
    size = {"width": width, "height": 844}
    someone = visit(served, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    shots = os.environ.get("WEB_SHOTS")
    for name, path in paths_of(night).items():
        someone.page.goto(path)
        assert someone.violations() == [], name
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert someone.page.evaluate(wide) <= 0, name
        if shots:
            file = f"{shots}/{name}-{width}-{scheme}.png"
            someone.page.screenshot(path=file, full_page=True)


def test_hostile_texts_run_nothing(night, served, visit):
    """Chromium itself finds no element and no script that is not ours: no dialog, no complaint."""
    someone = visit(served)
    dialogs = []
    someone.page.on("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    someone.page.goto("/")
    for name, *_ in night.odd:
        someone.page.goto(f"/recording?job={night.jobs[name]}")
        assert someone.page.locator("main script, main img, main b[onmouseover]").count() == 0
    assert dialogs == []
    assert [url for url in someone.asked if not url.startswith(served)] == []


def test_buttons_act_on_the_farm(farm, open_page, visit, tmp_path):
    """What a person may do is done by forms, which our own page may send."""
    made = archive(tmp_path / "archive", num_files=1)
    submit(farm, made, "interviews")
    farm.configure(queue={"max_attempts": 1})
    farm.start(ToldEngine(answers(made)), burst=True).wait()
    server = Served(open_page(farm, allow_actions=True).app)
    someone = visit(server.url)
    page = someone.page
    try:
        page.goto("/")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#farm-state")).to_contain_text("Paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("status").filter(has_text="The farm goes on.")).to_be_visible()
        page.goto("/batch?name=interviews")
        assert someone.violations() == []
        page.get_by_role("button", name="Retry corrupt_audio").click()
        expect(page.locator("#notice")).to_contain_text("2 recordings wait again.")
        expect(page.locator("#batch-state")).to_contain_text("2 of 5 recordings still to do")
        page.get_by_text("Cancel what is left").click()
        page.get_by_role("button", name="Cancel them").click()
        expect(page.locator("#batch-errors")).to_contain_text("cancelled: 2")
    finally:
        someone.context.close()
        server.stop()


def test_the_login_lets_a_browser_in(night, open_page, visit):
    """The cookie opens pages, the live stream and the player; without it there is the form."""
    server = Served(open_page(night.farm, roots=[night.root], token="t" * 32).app)
    someone = visit(server.url)
    page = someone.page
    try:
        page.goto("/workers")
        assert someone.violations() == []
        page.get_by_label("Token").fill("t" * 32)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/workers")
        expect(page.locator("#live-mark")).to_have_text("live")
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
    finally:
        someone.context.close()
        server.stop()
