"""Runs `scribefarm` in processes that need not import it first: each is a fork of one that has.

A command is a process of its own here, as it is for a person; only the second is spared in which
Python loads the packages. The process that is forked has one thread, whatever the tests have.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from multiprocessing.reduction import DupFd

from producer.cli.commands import COMMANDS

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["producer.__main__", *sorted({command.module for command in COMMANDS})]
)


def run_command(arguments, *, env, cwd, stdin=b"", timeout_s=120.0):
    """Run `scribefarm` with `arguments` (str) to its end; what it prints is bytes.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    with ExitStack() as files:
        streams = [files.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        given, *printed = streams
        given.write(stdin)
        given.seek(0)
        handles = [DupFd(stream.fileno()) for stream in streams]
        process = _FORKS.Process(target=_be_scribefarm, args=(arguments, env, cwd, handles))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout_s)
        for stream in printed:
            stream.seek(0)
        stdout, stderr = (stream.read() for stream in printed)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _be_scribefarm(arguments, env, cwd, handles):
    """Become the command; runs in the forked process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, handle in enumerate(handles):
        os.dup2(handle.detach(), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = ["scribefarm", *arguments]
    from producer.__main__ import main

    main()
