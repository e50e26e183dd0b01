"""The HTTP front on a port of its own, in a thread; and a real worker with a real model beside it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn

from producer.connection import connect
from producer.fleet import live_workers
from producer.web.access import Access
from producer.web.app import create_app
from tests.stage.farm import wait_until

SCRIPTS = Path(sys.executable).parent


class HttpFront:
    """Serves the app over real sockets until it is stopped."""

    def __init__(self, settings, *, token=None, allow_actions=False):
        self._index = Path(tempfile.mkdtemp(prefix="sf-index-"))
        web = settings.web.model_copy(update={"index_dir": self._index})
        self.settings = settings = settings.model_copy(update={"web": web})
        self.connection = connect(settings)
        access = Access.of(token)
        self.app = create_app(self.connection, settings, access=access, allow_actions=allow_actions)
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self.port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self.app, log_config=None, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [bound]})
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self):
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.app.state.web.index.close()
        self.connection.close()
        shutil.rmtree(self._index)


class RealWorker:
    """The installed worker as a process, with a packaged model."""

    def __init__(self, settings, log, name="real"):
        self.log = log
        environment = {key: text for key, text in os.environ.items() if "SCRIBEFARM" not in key}
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [SCRIPTS / "scribefarm-worker", "run", "--name", name],
                env=environment | settings.to_environment(),
                stderr=stderr,
            )
        self._settings, self._name = settings, name

    def wait_until_alive(self, timeout_s=60.0):
        with connect(self._settings) as connection:
            wait_until(
                lambda: any(
                    worker.name.startswith(self._name)
                    for worker in live_workers(connection, self._settings)
                ),
                timeout_s,
            )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
