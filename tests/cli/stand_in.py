"""A worker without a model, for tests of commands."""

import threading
from datetime import UTC, datetime

from producer.connection import connect
from producer.errors import UnsupportedFormat
from producer.job import Job
from producer.keys import EVENTS_KEY, job_key, model_queue, queue_key, result_key
from producer.result import Audio, Failure, Model, Segment, Timing, Transcript, dump_result


def transcript_of(job_id, job):
    """Return a transcript that says which file it is of."""
    text = f" text of {job.path.name}"
    segment = Segment(
        id=0,
        seek=0,
        start=0.0,
        end=1.5,
        text=text,
        tokens=[1],
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )
    return Transcript(
        job_id=job_id,
        source=job.source,
        text=text,
        language="en",
        segments=[segment],
        audio=Audio(duration_s=1.5, sample_rate_hz=16_000, channels=1, format="WAV"),
        model=Model(name="m", revision="r", dtype="float32"),
        timing=Timing(),
    )


class StandIn:
    """Does what a farm worker does to the documented keys, without a model."""

    def __init__(self, settings):
        self._client = connect(settings)
        model = settings.model.name
        self._names = [
            each for name in settings.worker.queues for each in (name, model_queue(name, model))
        ]
        self._queues = [queue_key(name) for name in self._names]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.beat()
        self._thread.start()

    def beat(self):
        """Register and give a sign of life."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._client.sadd("rq:workers", "rq:worker:stand-in")
        record = {"last_heartbeat": stamp, "queues": ",".join(self._names)}
        self._client.hset("rq:worker:stand-in", mapping=record)

    def stop(self):
        """End after the job in hand."""
        self._stopping.set()
        self._thread.join()
        self._client.close()

    def result_of(self, job_id, job):
        """Return what became of a job that is not broken."""
        return transcript_of(job_id, job)

    def _run(self):
        while not self._stopping.is_set():
            self.beat()
            if popped := self._client.blpop(self._queues, timeout=0.1):
                self._do(popped[1].decode())

    def _do(self, job_id):
        from rq.job import Job as RqJob
        from rq.serializers import JSONSerializer

        read = RqJob.fetch(job_id, connection=self._client, serializer=JSONSerializer)
        job = Job.from_kwargs(read.kwargs)
        result = self.result_of(job_id, job)
        if "broken" in job.source:
            error = UnsupportedFormat("audio", "must be audio", job.path.name)
            result = Failure.from_error(job_id, error, source=job.source)
        status = "finished" if isinstance(result, Transcript) else "failed"
        with self._client.pipeline() as pipe:
            pipe.set(result_key(job_id), dump_result(result), ex=60)
            pipe.hset(job_key(job_id), "status", status)
            pipe.xadd(EVENTS_KEY, {"job_id": job_id, "status": result.status})
            pipe.execute()
