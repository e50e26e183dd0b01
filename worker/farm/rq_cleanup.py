"""Clean-up of RQ's registries that RQ leaves to its own workers' maintenance."""

from collections.abc import Iterable

import redis
import structlog
from rq.queue import Queue
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from producer.server_replies import is_not_now

_log = structlog.get_logger()


def clean_registries(connection: redis.Redis, queues: Iterable[str]) -> None:
    """Drop dead workers and expired jobs, queue dependents that a death left between two steps.

    What RQ does not get through, because other programs' entries are damaged, is logged and left.

    Raises:
        redis.RedisError: the server takes nothing now.
    """
    for name in queues:
        each = Queue(name, connection=connection, serializer=JSONSerializer)
        try:
            clean_worker_registry(each)
            FinishedJobRegistry(queue=each).cleanup()
            FailedJobRegistry(queue=each).cleanup()
            ReadyJobRegistry(queue=each).cleanup()
        except Exception as error:
            if is_not_now(error):
                raise
            _log.exception("registry_unreadable", queue=each.name)
