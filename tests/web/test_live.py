"""Open pages are told what changes, all of them by one reader."""

import json

import httpx
import pytest

from producer.web.live import Topic
from producer.web.parts import PARTS
from tests.stage.fake_engine import FakeEngine
from tests.stage.farm import Farm, Server, wait_until
from tests.stage.shown_farm import answers, archive, submit
from tests.stage.told_engine import ToldEngine
from tests.web.conftest import Served


@pytest.fixture
def serve(monkeypatch):
    """Return a function that serves an app; looks are quick."""
    monkeypatch.setattr("producer.web.live.TICK_S", 0.1)
    served = []

    def serve(app):
        served.append(Served(app))
        return served[-1]

    yield serve
    for each in served:
        each.stop()


def news(lines):
    """Yield the parts that come over a stream."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_page_is_told_what_changes_and_nothing_else(farm, open_page, tmp_path, serve):
    """Parts come by the ids of their elements; those that stay as they are do not come again."""
    made = archive(tmp_path / "archive", num_files=3)
    submit(farm, made, "interviews")
    page = open_page(farm)
    url = serve(page.app).url
    with httpx.stream("GET", f"{url}/live?topic=batch&name=interviews", timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        told = news(stream.iter_lines())
        first = next(told)
        assert set(first) == {*PARTS["batch"], "notice"} - ({"notice"} - set(first))
        assert "7 of 7 recordings still to do" in first["batch-state"]
        farm.configure(queue={"max_attempts": 1})
        farm.start(ToldEngine(answers(made)), burst=True).wait()
        for parts in told:
            if "Done: 7 recordings." in parts.get("batch-state", ""):
                break
        assert "corrupt_audio: 2" in parts["batch-errors"]


def test_all_browsers_share_one_reader(farm, open_page, serve):
    """Twenty pages cost the server as much as one."""
    page = open_page(farm)
    url = serve(page.app).url
    looks = []
    really_read = page.web.feed._reader.read
    page.web.feed._reader.read = lambda watched: looks.append(watched) or really_read(watched)
    with httpx.Client(timeout=20) as client:
        streams = [client.stream("GET", f"{url}/live?topic=farm") for _ in range(5)]
        told = [news(stream.__enter__().iter_lines()) for stream in streams]
        assert all(set(PARTS["farm"]) <= set(next(each)) for each in told)
        num_before = len(looks)
        wait_until(lambda: len(looks) > num_before + 3)
        assert len(page.web.feed._listeners) == 5
        for stream in streams:
            stream.__exit__(None, None, None)
    wait_until(lambda: not page.web.feed._listeners)
    num_looks = len(looks)
    wait_until(lambda: not page.web.feed._sent)
    assert len(looks) <= num_looks + 2


def test_a_server_that_goes_away_is_said_and_comes_back(tmp_path, open_page, serve):
    """The page stands still and says so; afterwards it goes on by itself."""
    server = Server(tmp_path / "server")
    farm = Farm(server.url)
    page = open_page(farm)
    url = serve(page.app).url
    try:
        with httpx.stream("GET", f"{url}/live?topic=farm", timeout=30) as stream:
            told = news(stream.iter_lines())
            next(told)
            server.kill()
            assert any("does not answer" in parts.get("notice", "") for parts in told)
            assert httpx.get(f"{url}/workers", timeout=30).status_code == 503
            server.start()
            assert any(parts.get("notice") == "" for parts in told)
    finally:
        farm.stop()
        server.stop()


def test_what_is_asked_of_the_stream_is_bounded(page, monkeypatch):
    """No page, no stream; and no more of them than a machine can bear."""
    assert page.get("/live?topic=nonsense").status_code == 404
    monkeypatch.setattr("producer.web.live._MAX_LISTENERS", 0)
    assert page.get("/live?topic=farm").status_code == 503


def test_a_worker_is_followed_while_it_works(farm, open_page, serve):
    """Its figures are those of its heartbeats."""
    worker = farm.start(FakeEngine(2))
    page = open_page(farm)
    name = wait_until(lambda: [each.name for each in page.web.feed.view().workers])[0]
    url = serve(page.app).url
    with httpx.stream("GET", f"{url}/live?topic=worker&name={name}", timeout=20) as stream:
        assert "idle" in next(news(stream.iter_lines()))["worker-figures"]
    assert name in page.html("/workers")
    worker.stop()
    assert Topic("worker", name).name == name
