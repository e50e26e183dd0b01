"""Which models jobs wait for, and whether a live worker has them.

A model is written as in the name of its queue, `MODEL` or `MODEL@REVISION`: behind `QUEUE@`. Jobs
without a model are written as "": any worker takes them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import redis

from producer.connection import server_errors
from producer.keys import (
    QUEUES_KEY,
    job_key,
    models_key,
    queue_key,
    registry_key,
    split_queue,
)
from producer.settings_sources import variable_of

if TYPE_CHECKING:
    from producer.worker_records import WorkerRecord

# Jobs looked at to see whether anybody could do what is waited for; one of them is enough.
_NUM_LOOKED_AT = 50


def farm_queues(connection: redis.Redis, names: Iterable[str]) -> list[str]:
    """Return the queues of these names, and those of every model that has had jobs in them.

    Raises:
        redis.RedisError: the server did not answer.
    """
    served = list(names)
    keys = cast("set[bytes]", connection.smembers(QUEUES_KEY))
    known = {key.decode(errors="replace").removeprefix(queue_key("")) for key in keys}
    of_models = {name for name in known if split_queue(name).queue in served}
    return [*served, *sorted(of_models.difference(served))]


def count_jobs(
    connection: redis.Redis, names: Iterable[str]
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return how many jobs wait by queue, are in hand by queue, and wait by model.

    Args:
        connection: To the server.
        names: Queues without a model, such as `worker.queues`; each stands for all models' too.
    """
    bases = list(names)
    with server_errors(connection):
        queues = farm_queues(connection, bases)
        pipeline = connection.pipeline(transaction=False)
        for queue in queues:
            pipeline.llen(queue_key(queue))
            pipeline.zcard(registry_key("wip", queue))
        sizes = pipeline.execute()
    queued, running, by_model = dict.fromkeys(bases, 0), dict.fromkeys(bases, 0), Counter[str]()
    for queue, num_queued, num_running in zip(queues, sizes[::2], sizes[1::2], strict=True):
        base, _, model = queue.partition("@")
        queued[base] += num_queued
        running[base] += num_running
        by_model[model] += num_queued
    return queued, running, dict(+by_model)


def queued_by_model(connection: redis.Redis, names: Iterable[str]) -> dict[str, int]:
    """Return how many jobs wait in these queues by model, the models that are waited for only."""
    return count_jobs(connection, names)[2]


def batch_models(connection: redis.Redis, batch: str) -> list[str]:
    """Return the models that the files of a batch ask for, sorted."""
    with server_errors(connection):
        models: Any = connection.smembers(models_key(batch))
    return sorted(model.decode(errors="replace") for model in models)


def unserved(queued: Mapping[str, int], workers: Iterable["WorkerRecord"]) -> dict[str, int]:
    """Return the jobs, by model, that wait for a model that none of the workers has."""
    had = {model for worker in workers for model in models_of(worker)}
    return {model: num_jobs for model, num_jobs in queued.items() if model and model not in had}


def models_of(worker: "WorkerRecord") -> set[str]:
    """Return the models whose queues a worker serves; "" is any."""
    return {queue.partition("@")[2] for queue in worker.queues}


def unserved_lines(jobs: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each model that jobs wait for in vain, with the way to a worker of it."""
    for label, num_jobs in sorted(jobs.items()):
        _, model, revision = split_queue(f"@{label}")
        needed = f"{variable_of('model.name')}={model}"
        if revision is not None:
            needed += f" {variable_of('model.revision')}={revision}"
        wait = "1 job waits" if num_jobs == 1 else f"{num_jobs} jobs wait"
        yield (
            f"{wait} for {shown(label)}; no worker has it: start one: scribefarm-worker run"
            f" with {needed}"
        )


def shown(label: str) -> str:
    """Return a model for people, as `MODEL` or `MODEL at REVISION`."""
    _, model, revision = split_queue(f"@{label}")
    name = model or "the worker's model"
    return f"{name} at {revision}" if revision else name


def is_served(
    connection: redis.Redis, job_ids: Iterable[str], workers: Iterable["WorkerRecord"]
) -> bool:
    """Return whether a live worker can do one of the jobs, or has it in hand; a sample is looked at."""
    sample = [job_id for job_id, _ in zip(job_ids, range(_NUM_LOOKED_AT), strict=False)]
    had = {model for worker in workers for model in models_of(worker)}
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for job_id in sample:
            pipeline.hmget(job_key(job_id), "status", "origin")
        records = pipeline.execute()
    return bool(had) and any(
        status == b"started" or (origin or b"").decode(errors="replace").partition("@")[2] in had
        for status, origin in records
    )
