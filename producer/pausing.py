"""Pause one worker from afar, and let it go on.

A paused worker finishes what it has in hand and claims nothing more until it is resumed, or until
the time is over. The server keeps the pause under the worker's name without its start's own part, so
it outlives the worker: a service manager that starts it again starts a paused worker. Workers of the
same name, two on one machine, are paused together.
"""

import redis

from producer.connection import server_errors
from producer.draining import one_of
from producer.errors import NoWorker
from producer.roster import read_roster
from producer.scripts import Scripts
from producer.settings import Settings
from producer.worker_records import known_as


def pause_worker(
    connection: redis.Redis, settings: Settings, worker: str, duration_s: int | None = None
) -> str:
    """Let a worker claim nothing, for a time or until `resume_worker`; return what it is known as.

    Args:
        connection: To the server.
        settings: Of the farm.
        worker: Its name, with or without its start's part, or a beginning that no other's has.
        duration_s: None has no end.

    Raises:
        NoWorker: none is alive.
        InvalidOptions: none has that name, or several begin so.
        ServerUnreachable: no server answers.
    """
    names = {each.known_as for each in read_roster(connection, settings).alive}
    if not names:
        raise NoWorker("pause", "a worker must be alive")
    name = one_of(sorted(names), worker if worker in names else known_as(worker))
    _set(connection, name, is_paused=True, duration_s=duration_s)
    return name


def resume_worker(connection: redis.Redis, settings: Settings, worker: str) -> tuple[str, bool]:
    """Let a worker claim again, alive or not; return what it is known as, and whether it was paused.

    Raises:
        NoWorker: none is alive or paused.
        InvalidOptions: none that is alive or paused has that name, or several begin so.
        ServerUnreachable: no server answers.
    """
    roster = read_roster(connection, settings)
    names = {each.known_as for each in roster.alive} | roster.paused
    if not names:
        raise NoWorker("resume", "a worker must be alive or paused")
    name = one_of(sorted(names), worker if worker in names else known_as(worker))
    return name, _set(connection, name, is_paused=False)


def _set(
    connection: redis.Redis, name: str, *, is_paused: bool, duration_s: int | None = None
) -> bool:
    with server_errors(connection):
        return bool(
            Scripts(connection).run(
                "pause_worker", known_as=name, is_paused=is_paused, duration_s=duration_s
            )
        )
