"""Ask one worker, by its name or the beginning of it, to finish what it has and end."""

import redis
from rq.command import send_shutdown_command

from producer.connection import server_errors
from producer.errors import InvalidOptions, NoWorker
from producer.fleet import live_workers
from producer.hints import hint
from producer.settings import Settings
from producer.worker_records import known_as


def drain(connection: redis.Redis, settings: Settings, worker: str) -> str:
    """Ask a worker to drain, and return its whole name.

    It claims nothing more, has `worker.grace_s` to finish, and hands the rest back with its
    progress. The command is RQ's own, so stock workers of our queues obey it too.

    Args:
        connection: To the server.
        settings: Of the farm.
        worker: Its name, or a beginning that no other worker's name has.

    Raises:
        NoWorker: none is alive.
        InvalidOptions: none has that name, or several begin so.
        ServerUnreachable: no server answers.
    """
    names = [view.name for view in live_workers(connection, settings)]
    if not names:
        raise NoWorker("drain", "a worker must be alive")
    name = one_of(names, worker)
    with server_errors(connection):
        send_shutdown_command(connection, name)
    return name


def one_of(names: list[str], asked: str) -> str:
    """Return the worker's name that was asked for, or begins as it.

    Raises:
        InvalidOptions: none has that name, with the one that was meant or those that there are; or
            several begin so.
    """
    if asked in names:
        return asked
    begin_so = [name for name in names if asked and name.startswith(asked)]
    if len(begin_so) == 1:
        return begin_so[0]
    if begin_so:
        raise InvalidOptions("WORKER", f"must be one of {', '.join(begin_so)}", asked)
    # A name ends with a dash and eight characters of this start's own, which nobody types.
    more = hint(asked, map(known_as, names)) or f"; alive are {', '.join(names)}"
    raise InvalidOptions("WORKER", f"must be the name of a worker{more}", asked)
