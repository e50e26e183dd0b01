"""The name of every Redis key, for producer and worker.

Keys under `rq:` have RQ 3.0's layout, so any RQ program can read them; keys under `scribefarm:` are
ours. The scripts build the same names in `lua/prelude.lua`, from the same two prefixes.
"""

from typing import NamedTuple
from urllib.parse import quote, unquote

# RQ's own, written here since RQ takes long to import (tests/farm/test_rq_contract.py).
RQ_KEY_PREFIX = "rq"
FARM_KEY_PREFIX = "scribefarm"

# A stream: see `producer.events`.
EVENTS_KEY = f"{FARM_KEY_PREFIX}:events"
# Batch names by the time of their last submission, pruned by queue.result_ttl_s.
BATCHES_KEY = f"{FARM_KEY_PREFIX}:batches"
QUEUES_KEY = f"{RQ_KEY_PREFIX}:queues"
WORKERS_KEY = f"{RQ_KEY_PREFIX}:workers"
# While it exists, no worker claims a job; `rq suspend` sets it too.
SUSPENDED_KEY = f"{RQ_KEY_PREFIX}:suspended"

# What each worker says of itself, by name: JSON as in `producer.worker_records`.
FACTS_KEY = f"{FARM_KEY_PREFIX}:workers"
# Workers by the time at which their leases run out, and those that were lost by when; for a day.
ROSTER_KEY = f"{FARM_KEY_PREFIX}:roster"
LOST_KEY = f"{FARM_KEY_PREFIX}:lost_workers"
# Paused workers, by name without their start's part, and until when; "inf" is until somebody resumes
# them, a year at most after the last pause.
PAUSED_KEY = f"{FARM_KEY_PREFIX}:paused"
# Counters and histograms of all that ended, until nothing ends for a year: see `producer.metrics`.
METRICS_KEY = f"{FARM_KEY_PREFIX}:metrics"
# Starts of machines by when a worker of theirs was last heard; a start not heard of for a week goes.
BOOTS_KEY = f"{FARM_KEY_PREFIX}:boots"
# What stands as it is in the name of a model's queue, beside letters and digits.
_PLAIN = "/._-+"


class QueueName(NamedTuple):
    """The parts of a queue's name; without a model its jobs are for any worker."""

    queue: str
    model: str | None = None
    revision: str | None = None


def model_queue(queue: str, model: str | None, revision: str | None = None) -> str:
    """Return the name of the queue for jobs of one model: `default@base`, `default@base@1a5afae`.

    In model and revision all but ASCII letters, digits and `/._-+` is percent-encoded.
    """
    return "@".join([queue, *(_encoded(part) for part in (model, revision) if part is not None)])


def split_queue(name: str) -> QueueName:
    """Return what `model_queue` put together."""
    queue, *parts = name.split("@", 2)
    return QueueName(queue, *(unquote(part) for part in parts))


def _encoded(part: str) -> str:
    return quote(part, safe=_PLAIN).replace("~", "%7E")


def result_key(job_id: str) -> str:
    """Key of a job's result, JSON as in `producer.result`; expires after queue.result_ttl_s."""
    return f"{FARM_KEY_PREFIX}:result:{job_id}"


def progress_key(job_id: str) -> str:
    """Key of the hash with a running job's progress; expires after queue.job_ttl_s."""
    return f"{FARM_KEY_PREFIX}:progress:{job_id}"


def checkpoint_key(job_id: str) -> str:
    """Key of the JSON from which another worker goes on; expires after queue.job_ttl_s."""
    return f"{FARM_KEY_PREFIX}:checkpoint:{job_id}"


def upload_key(audio_sha256: str) -> str:
    """Key of the hash with an uploaded file's pieces; expires after audio.upload_ttl_s."""
    return f"{FARM_KEY_PREFIX}:upload:{audio_sha256}"


def http_key(kind: str, name: str) -> str:
    """Key of what the HTTP front keeps: its files, its batches, its uploads; all expire."""
    return f"{FARM_KEY_PREFIX}:http:{kind}:{name}"


def batch_key(batch: str) -> str:
    """Key of a batch's hash, name -> job id; expires after queue.result_ttl_s."""
    return f"{FARM_KEY_PREFIX}:batch:{batch}"


def counts_key(batch: str) -> str:
    """Key of the hash with a batch's counts, kept by the scripts; expires with the batch."""
    return f"{FARM_KEY_PREFIX}:counts:{batch}"


def ended_key(batch: str) -> str:
    """Key of the hash with a record of each job of a batch that ended; expires with the counts."""
    return f"{FARM_KEY_PREFIX}:ended:{batch}"


def models_key(batch: str) -> str:
    """Key of the set of models that a batch asks for, as `MODEL@REVISION`; expires with it."""
    return f"{FARM_KEY_PREFIX}:models:{batch}"


def submission_key(batch: str) -> str:
    """Key of what the batch's last submission left out, and why; expires with the batch."""
    return f"{FARM_KEY_PREFIX}:submission:{batch}"


def submitting_key(batch: str) -> str:
    """Key that is there while files are being submitted to a batch; expires if that dies."""
    return f"{FARM_KEY_PREFIX}:submitting:{batch}"


def reported_key(batch: str) -> str:
    """Key of the time of the last report on a batch; expires as a batch does."""
    return f"{FARM_KEY_PREFIX}:reported:{batch}"


def work_key(day: int) -> str:
    """Key of the hash with what the farm did on a day since the epoch, in UTC; for eight days."""
    return f"{FARM_KEY_PREFIX}:work:{day}"


def job_key(job_id: str) -> str:
    """Key of RQ's job hash."""
    return f"{RQ_KEY_PREFIX}:job:{job_id}"


def rq_results_key(job_id: str) -> str:
    """Key of RQ's own stream of outcomes of a job."""
    return f"{RQ_KEY_PREFIX}:results:{job_id}"


def queue_key(queue: str) -> str:
    """Key of RQ's list of waiting job ids."""
    return f"{RQ_KEY_PREFIX}:queue:{queue}"


def registry_key(registry: str, queue: str) -> str:
    """Key of an RQ registry: `wip`, `finished`, `failed`, `canceled`, `scheduled`, `deferred`."""
    return f"{RQ_KEY_PREFIX}:{registry}:{queue}"


def worker_key(worker: str) -> str:
    """Key of the hash with a worker's record: heartbeat, queues, counters."""
    return f"{RQ_KEY_PREFIX}:worker:{worker}"


def worker_executions_key(worker: str) -> str:
    """Key of the set of executions that a worker holds, as `job id:execution id`."""
    return f"{RQ_KEY_PREFIX}:worker:{worker}:executions"


def execution_key(job_id: str, execution_id: str) -> str:
    """Key of the hash of one execution of a job."""
    return f"{RQ_KEY_PREFIX}:execution:{job_id}:{execution_id}"


def executions_key(job_id: str) -> str:
    """Key of the sorted set of a job's executions, by the time at which each expires."""
    return f"{RQ_KEY_PREFIX}:executions:{job_id}"
