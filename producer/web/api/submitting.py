"""Enqueue one recording for a request, as a batch's line and as a job."""

from typing import Any

import redis
from pydantic import ValidationError

from producer.archive.submit import submit_jobs
from producer.errors import NoWorker
from producer.job import Job, Options, invalid_options
from producer.pending import PendingJobs
from producer.queue import Submitted, submit
from producer.settings import Settings
from producer.states import ENDED_BADLY
from producer.traces import TraceParent
from producer.web.api.errors import Refusal
from producer.worker_watch import WorkerWatch

# Somebody took these back; who asks again wants them after all.
_TAKEN_BACK = ENDED_BADLY - {"failed"}


def job_for(settings: Settings, options: Options, model: str | None, **fields: Any) -> Job:
    """Return a job of a request; `fields` say where the audio is, and what it is called.

    Raises:
        Refusal: a field is out of bounds.
    """
    try:
        return Job(model=model, options=options, audio=settings.audio.for_job(), **fields)
    except ValidationError as error:
        raise Refusal(invalid_options("request", error)) from error


def enqueue(connection: redis.Redis, settings: Settings, job: Job, trace: TraceParent) -> Submitted:
    """Enqueue a job for which somebody waits: known work is not done again, unless it may do better.

    Raises:
        ScribefarmError: as `producer.queue.submit` raises.
    """
    # The most urgent queue, as for `scribefarm transcribe`.
    queue = settings.worker.queues[0]
    [submitted] = submit_jobs(connection, settings, [job], queue=queue, traceparent=trace)
    if submitted.state in _TAKEN_BACK:
        [submitted] = submit(
            connection, settings, [job], queue=queue, resubmit_failed=True, traceparent=trace
        )
    return submitted


class Patience:
    """An `on_look` of `Waiters.wait` that ends the wait when no worker could do the job for a lease."""

    def __init__(self, connection: redis.Redis, settings: Settings, job_id: str) -> None:
        self._watch = WorkerWatch(connection, settings, settings.worker.lease_s)
        self._job_id = job_id

    def __call__(self) -> None:
        """Look for live workers.

        Raises:
            NoWorker: none was alive for long enough; the job stays in the queue.
        """
        with PendingJobs([self._job_id]) as pending:
            try:
                self._watch(pending)
            except NoWorker as error:
                must = f"a worker must be alive; the job waits for one: /jobs/{self._job_id}"
                raise NoWorker("http", must) from error
