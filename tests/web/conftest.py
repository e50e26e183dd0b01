"""A farm whose night is over, asked as a browser asks it."""

import contextlib
import socket
import threading

import pytest
import uvicorn
from starlette.testclient import TestClient

from producer.settings import AudioSettings, WebSettings
from producer.web.access import Access
from producer.web.app import create_app
from tests.stage.farm import Farm, Server, wait_until
from tests.stage.shown_farm import answers, archive, submit
from tests.stage.told_engine import ToldEngine
from tests.web.hostile import BATCH, hostile

BASE = "http://127.0.0.1:8723"


class Page:
    """The app over a farm, and a client that asks it as a browser on this machine does."""

    def __init__(self, farm, folder, *, roots=(), token=None, hosts=(), allow_actions=False, **web):
        self.farm, self.connection = farm, farm.connection
        self.settings = farm.settings.model_copy(
            update={
                "web": WebSettings(index_dir=folder / "index", **web),
                "audio": AudioSettings(roots=tuple(roots)),
            }
        )
        self.app = create_app(
            farm.connection,
            self.settings,
            access=Access.of(token, hosts),
            allow_actions=allow_actions,
        )
        self.web = self.app.state.web
        self.client = TestClient(self.app, base_url=BASE, follow_redirects=False)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def html(self, path, **parameters):
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.text

    def index(self, batch):
        """Let the index have all of a batch, as its thread does in a while."""
        self.web.indexer.look_at(batch, 5.0)
        while self.web.indexer.step() or not self.web.indexer.has_texts(batch):
            pass

    def close(self):
        self.client.close()
        self.web.index.close()


class Served:
    """The app behind the real server, on a port of its own."""

    def __init__(self, app):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self):
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        assert not self._thread.is_alive()


class DoneNight:
    """A server, an archive on disk, and two batches that were worked off; nobody changes them."""

    def __init__(self, folder):
        self.server = Server(folder / "server")
        self.farm = Farm(self.server.url)
        self.root = folder / "archive"
        self.made = archive(self.root, num_files=12)
        self.odd = hostile(self.root)
        self.jobs = submit(self.farm, self.made, "interviews") | submit(self.farm, self.odd, BATCH)
        engine = ToldEngine(answers([*self.made, *self.odd]), capacity=16)
        self.farm.configure(queue={"max_attempts": 1})
        assert self.farm.start(engine, burst=True).wait() == 0

    def stop(self):
        self.farm.stop()
        self.server.stop()


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """Return a night that is over, for all tests that only look."""
    night = DoneNight(tmp_path_factory.mktemp("night"))
    yield night
    night.stop()


@pytest.fixture
def open_page(tmp_path):
    """Return a function that opens the page over a farm."""
    with contextlib.ExitStack() as stack:

        def open_page(farm, **options):
            page = Page(farm, tmp_path, **options)
            stack.callback(page.close)
            return page

        yield open_page


@pytest.fixture
def page(night, open_page):
    """Return the page over the night, as `scribefarm web` opens it by default."""
    return open_page(night.farm, roots=[night.root])
