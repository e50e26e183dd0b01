"""Clean-up of RQ's registries that RQ leaves to its own workers' maintenance."""

from collections.abc import Iterable

import redis
import structlog
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

_log = structlog.get_logger()


def clean_registries(connection: redis.Redis, queues: Iterable[str]) -> None:
    """Drop dead workers and expired jobs, queue dependents that a death left between two steps.

    Raises:
        redis.RedisError: the server did not answer.
    """
    for name in queues:
        each = Queue(name, connection=connection, serializer=JSONSerializer)
        clean_worker_registry(each)
        FinishedJobRegistry(queue=each).cleanup()
        FailedJobRegistry(queue=each).cleanup()
        try:
            ReadyJobRegistry(queue=each).cleanup()
        except redis.RedisError:
            raise
        except Exception:  # noqa: BLE001 - RQ may raise anything on a damaged job hash
            _log.exception("dependents_unreadable", queue=each.name)
