"""A farm for archive tests: server and workers in processes of their own, and the installed script."""

import json
import os
import subprocess
import sys
from pathlib import Path

from producer.batches.views import count, view_batch
from tests.stage.command import run_command
from tests.stage.farm import ROOT, Server, make_settings, wait_until
from tests.stage.made_archive import MAX_SECONDS

SCRIPT = Path(sys.executable).with_name("scribefarm")


class ArchiveFarm:
    """Runs `scribefarm` as people do, in a home folder of its own."""

    def __init__(self, folder, *, server_env=None, **settings):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.server = Server(folder / "server", env=server_env)
        audio = {"long_audio": "reject", "max_audio_seconds": MAX_SECONDS}
        self.settings = make_settings(self.server.url, **{"audio": audio, **settings})
        self.workers = []

    @property
    def environment(self):
        # The cache of hashes follows HOME, also on macOS.
        home = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache")}
        plain = {"COLUMNS": "200", "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        return {**os.environ, **self.settings.to_environment(), **home, **plain}

    @property
    def connection(self):
        return self.server.client

    def start(self, *arguments, stdin=subprocess.DEVNULL, **options):
        return subprocess.Popen(
            [SCRIPT, *map(os.fspath, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def run(self, *arguments, stdin=None, timeout_s=120, code=0):
        """Run a command and return (stdout, stderr); `code` is the exit code it must have."""
        process = run_command(
            [os.fsdecode(each) for each in arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=stdin or b"",
            timeout_s=timeout_s,
        )
        stdout, stderr = process.stdout.decode(), process.stderr.decode()
        if code is not None:
            assert process.returncode == code, (arguments, process.returncode, stdout, stderr)
        return stdout, stderr

    def run_json(self, *arguments, **options):
        """Return the lines of JSON that a command prints."""
        stdout, _ = self.run(*arguments, **options)
        return [json.loads(line) for line in stdout.splitlines() if line]

    def submit(self, *arguments, code=0):
        """Return the files and the summary of `submit --json`."""
        *files, summary = self.run_json("submit", "--json", *arguments, code=code)
        return files, summary

    def start_worker(self, work_s=0.0):
        log = (self.folder / "worker.log").open("ab")
        document = self.settings.model_dump_json(exclude={"redis"})
        command = [sys.executable, "-m", "tests.stage.archive_engine", self.server.url, document]
        environment = {**self.environment, "ARCHIVE_ENGINE_WORK_S": str(work_s)}
        with log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        self.workers.append(process)
        return process

    def counts(self, batch):
        return count(view_batch(self.connection, batch))

    def wait_done(self, batch, timeout_s=120):
        """Wait until every file of a batch has ended, and return its counts."""

        def done():
            counts = self.counts(batch)
            return None if counts.left else counts

        return wait_until(done, timeout_s, every_s=0.2)

    def kill_workers(self):
        for process in self.workers:
            process.kill()
            process.wait()
        self.workers.clear()

    def stop(self):
        self.kill_workers()
        self.server.stop()
