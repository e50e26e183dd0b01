"""A Mac as far as `deploy/install` sees one: launchd, users and power settings, in one folder.

The commands of a Mac are small scripts in tests/stage/mac; their clock moves only when the
installer sleeps. Python, packages, settings and the server are real.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABEL = "org.scribefarm.worker"
# Another one where there is one: MAC_BASH=/path/to/bash-3.2, which is macOS's.
BASH = os.environ.get("MAC_BASH", "/bin/bash")
# Of the test's server, for the user `worker`.
PASSWORD = "s3cret"
STARTED = '{"event": "worker_started", "level": "info"}\n'


class StandInMac:
    """One Mac; `ann` may use sudo and is logged in at the screen, `bob` is another user."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "tests" / "stage" / "mac", folder / "stubs")
        python = folder / "stubs" / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        for name in ("jobs", "sessions", "Users/ann", "Users/bob", "Users/root"):
            (folder / name).mkdir(parents=True)
        (folder / "sessions" / "501").touch()
        (folder / "clock").write_text("0")
        self.worker_says(STARTED)

    def worker_says(self, lines):
        """Prepare what the next worker writes into its log."""
        (self.folder / "worker_says").write_text(lines)

    def set(self, name, value=""):
        """Write one of the stand-ins' facts: drain_s, state, no_packages, real_worker."""
        (self.folder / name).write_text(str(value))

    def sleep_really(self):
        """Let the installer wait as on a Mac, for a worker that is a real process."""
        (self.folder / "stubs" / "sleep").write_text('#!/bin/sh\nexec /bin/sleep "$1"\n')

    def install(self, *arguments, caller="root", typed=None, **env):
        """Run the installer to its end, with sudo as `ann` unless there is another caller.

        `typed` is what a person at a terminal answers; without it there is no terminal.
        """
        with contextlib.ExitStack() as files:
            terminal = subprocess.DEVNULL
            if typed is not None:
                person, terminal = os.openpty()
                files.callback(os.close, person)
                files.callback(os.close, terminal)
                os.write(person, typed.encode())
            return self._install(arguments, terminal, caller, env)

    def _install(self, arguments, stdin, caller, env):
        variables = {**os.environ, **self.environment(caller), **env}
        if caller == "root":
            variables.setdefault("SUDO_USER", "ann")
        return subprocess.run(
            [BASH, ROOT / "deploy" / "install", *map(str, arguments)],
            stdin=stdin, env=variables, cwd=self.folder, capture_output=True, text=True,
            timeout=100, start_new_session=True, check=False,
        )  # fmt: skip

    def environment(self, caller):
        """Return what a caller's shell on this Mac has."""
        return {
            "PATH": f"{self.folder / 'stubs'}:/usr/bin:/bin",
            "HOME": str(self.folder / "Users" / caller),
            "MAC": str(self.folder),
            "MAC_ROOT": str(self.folder),
            "CALLER": caller,
        }

    def kill_worker(self):
        """End the worker that was really started last, if there is one."""
        if (pid := self.folder / "pid").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGKILL)

    @property
    def done(self):
        """What was done, in order, one line each."""
        path = self.folder / "done"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def clock_s(self):
        return int((self.folder / "clock").read_text())

    @property
    def plist(self):
        return self.folder / "Library" / "LaunchDaemons" / f"{LABEL}.plist"

    @property
    def log(self):
        return self.folder / "Library" / "Logs" / "scribefarm" / "worker.log"

    def settings(self, user="ann"):
        """Return what the worker's settings file says."""
        path = self.folder / "Users" / user / ".scribefarm" / "settings.toml"
        return tomllib.loads(path.read_text())

    def is_loaded(self, domain="system"):
        job = self.folder / "jobs" / f"{domain}_{LABEL}".replace("/", "_")
        return job.exists() and not job.with_name(job.name + ".leaves").exists()
