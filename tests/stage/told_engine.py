"""An engine that says what it was told to: a transcript or an error for each source.

The farm around it is the real one, so results, counts and events come as they always do.
"""

import contextlib
import queue
import threading
import time

from producer.errors import Internal, ScribefarmError
from producer.result import Timing, Transcript
from tests.stage.fake_engine import MODEL
from worker.engine.messages import Checkpoint, Done, EngineFigures, Failed, Opened, Progress


class ToldEngine:
    """Answers a job by its source: `answers[source]`; takes `work_s` over each."""

    model = MODEL
    num_lost_threads = 0
    figures = EngineFigures("told", slots=8)
    can_read = True

    def __init__(self, answers, *, capacity=4, work_s=0.0):
        self.answers, self.capacity, self.work_s = answers, capacity, work_s
        self._events = queue.SimpleQueue()
        self._cancelled = {}
        self._stopped = threading.Event()

    def submit(self, ticket):
        self._events.put(Opened(ticket.execution_id, None))
        threading.Thread(target=self._run, args=(ticket,), daemon=True).start()

    def cancel(self, execution_id, error):
        self._cancelled[execution_id] = error

    def poll(self, timeout_s):
        events = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        return events

    def stop(self):
        self._stopped.set()

    def _run(self, ticket):
        answer = self.answers.get(
            ticket.job.source, Internal("told engine", "must be told", ticket.job.source)
        )
        is_text = isinstance(answer, Transcript)
        for step in range(1, 11):
            if self.work_s and is_text:
                total_s = answer.audio.duration_s
                done = [each for each in answer.segments if each.end <= total_s * step / 10]
                checkpoint = Checkpoint(segments=tuple(done), language=answer.language)
                self._events.put(
                    Progress(ticket.execution_id, total_s * step / 10, total_s, checkpoint)
                )
            self._stopped.wait(self.work_s / 10)
        if error := self._cancelled.get(ticket.execution_id):
            self._events.put(Failed(ticket.execution_id, error))
        elif isinstance(answer, ScribefarmError):
            self._events.put(Failed(ticket.execution_id, answer))
        else:
            timing = Timing(windows=1, decode_s=time.monotonic() % 1)
            own = {"job_id": ticket.job_id, "model": MODEL, "timing": timing}
            own["source"] = answer.source or ticket.job.source
            self._events.put(Done(ticket.execution_id, answer.model_copy(update=own)))


def work_off(farm, answers, **options):
    """Let a worker do all that waits, and end."""
    worker = farm.start(ToldEngine(answers, **options), burst=True)
    assert worker.wait() == 0
