"""Jobs whose audio is known by hash, for tests of the queue that need no files."""

import hashlib

from rq import Queue
from rq.serializers import JSONSerializer

from producer.errors import Internal
from producer.job import Job
from producer.keys import (
    EVENTS_KEY,
    job_key,
    model_queue,
    queue_key,
    registry_key,
    result_key,
)
from producer.result import Failure, dump_result

# Where jobs of the default model wait.
DEFAULT_QUEUE = model_queue("default", "tiny.en")


def job(number=0, **fields):
    """Return a job whose audio is known by hash, so that no file is needed."""
    audio = hashlib.sha256(str(number).encode()).hexdigest()
    return Job(source=f"/archive/{number}.wav", audio_sha256=audio, **fields)


def jobs(num_jobs, **fields):
    """Return `num_jobs` different jobs."""
    return [job(number, **fields) for number in range(num_jobs)]


def fail(connection, job_id, status="failed"):
    """End a job as a worker does: state, registry and result together."""
    failure = Failure.from_error(job_id, Internal("worker", "a defect", 1))
    with connection.pipeline() as pipe:
        pipe.hset(job_key(job_id), "status", status)
        pipe.zadd(registry_key("failed", DEFAULT_QUEUE), {job_id: 2**40})
        pipe.lrem(queue_key(DEFAULT_QUEUE), 0, job_id)
        pipe.set(result_key(job_id), dump_result(failure), ex=3600)
        pipe.xadd(EVENTS_KEY, {"job_id": job_id, "status": "failed"})
        pipe.execute()
    return failure


def waiting(connection, name=DEFAULT_QUEUE):
    """Return the waiting job ids as RQ sees them."""
    return Queue(name, connection=connection, serializer=JSONSerializer).get_job_ids()
