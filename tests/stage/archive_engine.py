"""A fake decoder on the real audio pipeline: reads each recording whole, and "hears" its samples.

What is wrong with a file is found by the real code. The text is a function of the samples alone, so
every result can be checked, also after deaths. `python -m tests.stage.archive_engine URL SETTINGS` runs
a farm worker with it.
"""

import contextlib
import hashlib
import os
import queue
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from pydantic import SecretStr

from producer import log
from producer.connection import connect
from producer.errors import Internal, ScribefarmError
from producer.result import Audio, Model, Segment, Timing, Transcript
from producer.settings import RedisSettings, Settings
from worker.audio.recording import open_recording
from worker.engine.messages import Done, EngineFigures, Event, Failed, Opened, Ticket
from worker.farm.farm_worker import FarmWorker

# Seconds of "work" a recording, so that a worker can be killed in the middle of it.
WORK_S = float(os.environ.get("ARCHIVE_ENGINE_WORK_S", "0"))


def heard(samples_sha256):
    """Return the text of a recording with these samples."""
    return f" heard {samples_sha256[:16]}"


def transcribe(path, max_seconds):
    """Return (text, header, duration_s) of a recording, or raise what is wrong with it."""
    digest = hashlib.sha256()
    recording = open_recording(path, max_seconds=max_seconds)
    for block in recording:
        digest.update(block.tobytes())
    return heard(digest.hexdigest()), recording.header, recording.duration_s


class ArchiveEngine:
    """Reads recordings in threads; each gives one segment, a quiet one is flagged."""

    model = Model(name="fake", revision="0", dtype="float32")
    num_lost_threads = 0
    figures = EngineFigures("fake", slots=8)
    can_read = True

    def __init__(self, settings, capacity=8):
        self.capacity = capacity
        self._settings = settings
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(max_workers=2)
        # Of each recording in flight: why it is to be dropped, if it is.
        self._in_flight: dict[str, ScribefarmError | None] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def submit(self, ticket: Ticket):
        with self._lock:
            self._in_flight[ticket.execution_id] = None
        self._pool.submit(self._run, ticket)

    def cancel(self, execution_id, error):
        with self._lock:
            if execution_id in self._in_flight:
                self._in_flight[execution_id] = error

    def poll(self, timeout_s):
        events = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        return events

    def stop(self):
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, ticket):
        self._events.put(Opened(ticket.execution_id, None))
        try:
            ending = Done(ticket.execution_id, self._transcript(ticket))
        except ScribefarmError as error:
            ending = Failed(ticket.execution_id, error)
        except Exception as error:
            defect = Internal("archive engine", "must not fail", repr(error))
            ending = Failed(ticket.execution_id, defect)
        with self._lock:
            cancelled = self._in_flight.pop(ticket.execution_id)
        if not self._stopped.is_set():
            self._events.put(Failed(ticket.execution_id, cancelled) if cancelled else ending)

    def _transcript(self, ticket):
        started = time.monotonic()
        audio = self._settings.audio
        limit_s = (
            audio.max_audio_seconds if audio.long_audio == "reject" else audio.max_file_seconds
        )
        text, header, duration_s = transcribe(ticket.job.source, limit_s)
        self._stopped.wait(WORK_S)
        segment = Segment(
            id=0,
            seek=0,
            start=0.0,
            end=round(duration_s, 3),
            text=text,
            tokens=[1],
            temperature=0.0,
            avg_logprob=-0.1,
            compression_ratio=1.0,
            no_speech_prob=0.0,
            flags=["low_confidence"] if "quiet" in str(ticket.job.source) else [],
        )
        return Transcript(
            job_id=ticket.job_id,
            text=text,
            language="en",
            segments=[segment],
            audio=Audio(
                duration_s=duration_s,
                sample_rate_hz=header.sample_rate_hz,
                channels=header.channels,
                format=header.format,
            ),
            model=self.model,
            timing=Timing(windows=1, decode_s=time.monotonic() - started),
        )


def main():
    url, document = sys.argv[1:]
    stored = Settings.model_validate_json(document)
    settings = stored.model_copy(update={"redis": RedisSettings(url=SecretStr(url))})
    log.configure(settings.log)
    worker = FarmWorker(ArchiveEngine(settings), settings, connect(settings), name="fake")
    return worker.run()


if __name__ == "__main__":
    sys.exit(main())
