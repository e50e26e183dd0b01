"""The engine: recordings in, transcripts out, many at once over one pinned model.

One thread owns the device and runs this loop; audio is read in threads of its own, a few blocks
ahead. Policy only: no tensor is touched here, and no Redis.

```
        receive -> new recordings, blocks of audio, cancellations
loop:   encode  -> a batch of the windows that wait, oldest first
        step    -> every row of the batch one token further
        reply   -> what is ready goes back to its recording, which asks for the next thing
```
"""

import gc
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog

from producer.errors import Internal, InvalidOptions, OutOfMemory, ScribefarmError
from producer.result import Audio, Model, Timing, Transcript
from producer.settings import Settings
from worker.audio.read_ahead import End, Reading
from worker.audio.reader import Samples
from worker.engine.messages import Checkpoint, Done, Event, Failed, Progress, Ticket
from worker.engine.requests import Align, Compute, Decode, DetectLanguage, Encode
from worker.engine.track import Device, EngineStats, Recording
from worker.models.whisper.transcription import Transcription

IDLE_S = 1.0  # an idle engine looks for work at once when called; this bounds a missed wake-up
RECEIVE_S = 0.005  # taking audio is stopped after so long, for the next step's sake
# A window waits at most so many steps for others to be encoded with it.
PATIENCE_STEPS = 16

_log = structlog.get_logger()


class Engine:
    """Drives many transcriptions over one device; see `worker.engine.messages.Engine` for its methods.

    Args:
        settings: Caps, threads and memory.
        load: Makes the device, in the engine's own thread: only that thread may ever use it.

    Raises:
        ScribefarmError: what `load` raised.
    """

    def __init__(self, settings: Settings, load: Callable[[Settings], Device]) -> None:
        self._settings = settings
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._recordings: dict[str, Recording] = {}
        self._to_encode: deque[tuple[Recording, Encode]] = deque()
        self._to_detect: list[tuple[Recording, DetectLanguage]] = []
        self._to_align: list[tuple[Recording, Align]] = []
        self._replies: list[tuple[list[Recording], Callable[[], list[Any]]]] = []
        self.stats = EngineStats()
        self._is_stopping = False
        self._broken: ScribefarmError | None = None
        self._audio_threads = ThreadPoolExecutor(settings.audio.threads, "audio")
        self._side_thread = ThreadPoolExecutor(1, "side")
        self._is_loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load,), name="engine", daemon=True)
        self._thread.start()
        self._is_loaded.wait()
        if self._broken is not None:
            raise self._broken
        self.capacity = self._device.num_slots + self._device.encode_batch

    # Called from any thread.

    @property
    def model(self) -> Model:
        """The pinned model."""
        return self._device.model

    def submit(self, ticket: Ticket) -> None:
        """Take a recording; its `Done` or `Failed` follows in `poll`, exactly once."""
        self._inbox.put(partial(self._admit, ticket))

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        """Drop a recording; it ends as `Failed(error)` unless it was done already."""
        self._inbox.put(partial(self._cancel, execution_id, error))

    def poll(self, timeout_s: float) -> list[Event]:
        """Return what happened since the last call; wait up to `timeout_s` for the first event.

        Raises:
            ScribefarmError: the engine is broken and takes no more work.
        """
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            pass
        if not events and self._broken is not None:
            raise self._broken
        return events

    def stop(self) -> None:
        """Give up all work, without events, and end the engine's threads."""
        self._is_stopping = True
        self._inbox.put(lambda: None)
        self._thread.join()

    # Everything below runs in the engine's thread.

    def _run(self, load: Callable[[Settings], Device]) -> None:
        try:
            self._device = load(self._settings)
            gc.freeze()  # the model and the modules stay: no need to look at them again and again
            self._is_loaded.set()
            while not self._is_stopping:
                self._timed("receive_s", self._receive)
                self._timed("encode_s", self._encode)
                self._timed("step_s", self._step)
                self._timed("reply_s", self._reply)
        except ScribefarmError as error:
            self._broken = error
        except Exception as error:  # noqa: BLE001 the farm must hear of it
            _log.exception("engine broken")
            self._broken = Internal("engine", "must not fail", repr(error))
        finally:
            for recording in self._recordings.values():
                recording.reading.stop()
            self._audio_threads.shutdown(wait=False, cancel_futures=True)
            self._side_thread.shutdown(wait=False, cancel_futures=True)
            self._is_loaded.set()

    def _timed(self, share: str, run: Callable[[], None]) -> None:
        started = time.perf_counter()
        run()
        setattr(self.stats, share, getattr(self.stats, share) + time.perf_counter() - started)

    def _receive(self) -> None:
        """Do what other threads asked for; wait for it only if there is nothing else to do.

        Stops after `RECEIVE_S`: the rows must not run out of steps meanwhile.
        """
        try:
            if self._is_idle():
                started = time.perf_counter()
                message = self._inbox.get(timeout=IDLE_S)
                waited_s = time.perf_counter() - started
                self.stats.idle_s += waited_s
                self.stats.receive_s -= waited_s
                message()
            until = time.perf_counter() + RECEIVE_S
            while time.perf_counter() < until:
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _is_idle(self) -> bool:
        waiting = self._to_encode or self._to_detect or self._to_align or self._replies
        return not waiting and self._device.num_rows_wanted == 0

    def _admit(self, ticket: Ticket) -> None:
        """Check what is asked and start reading; a wrong job fails before its file is touched."""
        try:
            asked, pinned = ticket.job.model, self._device.model
            if asked not in {None, pinned.name}:
                raise InvalidOptions("job: model", f"this worker has {pinned.name}", asked)
            transcription = Transcription(
                ticket.job.options, self._device.limits, ticket.checkpoint
            )
        except ScribefarmError as error:
            self._events.put(Failed(ticket.execution_id, error))
            return
        deliver = partial(self._deliver, ticket.execution_id)
        reading = Reading(ticket.job.source, self._settings.audio, deliver)
        self._recordings[ticket.execution_id] = Recording(
            ticket, transcription, reading, self._device.log_mel()
        )
        self._audio_threads.submit(reading.run)

    def _deliver(self, execution_id: str, piece: Samples | End | ScribefarmError) -> None:
        """Pass on what a reading thread has; runs in that thread."""
        self._inbox.put(partial(self._take_audio, execution_id, piece))

    def _take_audio(self, execution_id: str, piece: Samples | End | ScribefarmError) -> None:
        recording = self._recordings.get(execution_id)
        if recording is None:
            return
        if isinstance(piece, ScribefarmError):
            self._fail(recording, piece)
        elif isinstance(piece, End):
            recording.audio, recording.audio_prep_s = piece.audio, piece.busy_s
            recording.mel.finish()
            recording.windows = recording.transcription.windows(recording.mel.content_frames)
            recording.started = time.monotonic()
            self._advance(recording, None)
        else:
            recording.mel.push(piece)
            recording.reading.take()

    def _cancel(self, execution_id: str, error: ScribefarmError) -> None:
        recording = self._recordings.get(execution_id)
        if recording is not None:
            self._fail(recording, error)

    def _advance(self, recording: Recording, reply: Any) -> None:
        """Send a recording what it waited for, and take what it asks for next."""
        if recording.windows is None or not self._is_alive(recording):
            return
        try:
            request = recording.windows.send(reply)
            while isinstance(request, Checkpoint):
                self._report(recording, request)
                request = next(recording.windows)
            self._take_request(recording, request)
        except StopIteration:
            self._finish(recording)
        except ScribefarmError as error:
            self._fail(recording, error)
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("transcription failed", job_id=recording.ticket.job_id)
            self._fail(recording, Internal("transcription", "must not fail", repr(error)))

    def _take_request(self, recording: Recording, request: Any) -> None:
        match request:
            case Encode():
                self._to_encode.append((recording, request))
            case Decode():
                self._device.decode(recording.ticket.execution_id, request)
            case DetectLanguage():
                self._to_detect.append((recording, request))
            case Align():
                self._to_align.append((recording, request))
            case Compute():
                self._side_thread.submit(self._compute, recording, request)

    def _compute(self, recording: Recording, request: Compute) -> None:
        """Run something beside the decode; runs in the side thread."""
        try:
            result = request.run()
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("computation failed", job_id=recording.ticket.job_id)
            failed = Internal("transcription", "must not fail", repr(error))
            self._inbox.put(partial(self._fail, recording, failed))
        else:
            self._inbox.put(partial(self._advance, recording, result))

    def _encode(self) -> None:
        """Encode the windows that waited longest, once there are enough of them."""
        for recording, _ in self._to_encode:
            recording.waited += 1
        if not self._should_encode():
            return
        batch = [
            self._to_encode.popleft()
            for _ in range(min(self._device.encode_batch, len(self._to_encode)))
        ]
        try:
            states = self._device.encode([(recording.mel, asked) for recording, asked in batch])
        except OutOfMemory as error:
            self._encode_less(batch, error)
            return
        self.stats.encoder_batches += 1
        self.stats.windows += len(batch)
        for (recording, _), window_states in zip(batch, states, strict=True):
            recording.waited = 0
            self._advance(recording, window_states)

    def _should_encode(self) -> bool:
        """Full batches are faster; nobody waits long for one, and an idle device takes any."""
        if not self._to_encode:
            return False
        oldest, _ = self._to_encode[0]
        is_full = len(self._to_encode) >= self._device.encode_batch
        return is_full or self._device.num_active == 0 or oldest.waited > PATIENCE_STEPS

    def _encode_less(self, batch: list[tuple[Recording, Encode]], error: OutOfMemory) -> None:
        """Try again with half the windows, then with half the rows, then give up."""
        self._to_encode.extendleft(reversed(batch))
        if self._device.encode_batch > 1:
            self._device.encode_batch //= 2
        elif not self._device.shrink():
            for recording, _ in list(batch):
                self._fail(recording, error)

    def _step(self) -> None:
        """Advance every row, and start what ended rows and other windows wait for."""
        self.stats.steps += self._device.num_active > 0
        self.stats.row_steps += self._device.num_active
        waited_s = self._device.wait_s
        try:
            ended = self._device.step()
        except OutOfMemory as error:
            _log.warning("out of memory", slots=self._device.num_slots)
            if not self._device.shrink():
                self._fail_all(error)
            return
        except ScribefarmError as error:
            self._fail_all(error)
            return
        self.stats.device_wait_s += self._device.wait_s - waited_s
        for execution_id, outcome in ended:
            recording = self._recordings[execution_id]
            if isinstance(outcome, ScribefarmError):
                self._fail(recording, outcome)
            else:
                self._advance(recording, outcome)

    def _reply(self) -> None:
        """Read what was started a step ago, then start what was asked since."""
        ready, self._replies = self._replies, []
        for recordings, read in ready:
            for recording, reply in zip(recordings, read(), strict=True):
                self._advance(recording, reply)
        detecting, self._to_detect = self._to_detect, []
        aligning, self._to_align = self._to_align, []
        self._start(self._device.detect_language, detecting)
        self._start(self._device.align, aligning)

    def _start(
        self,
        compute: Callable[[list[Any]], Callable[[], list[Any]]],
        asked: list[tuple[Recording, Any]],
    ) -> None:
        size = self._device.encode_batch
        for first in range(0, len(asked), size):
            batch = asked[first : first + size]
            read = compute([request for _, request in batch])
            self._replies.append(([recording for recording, _ in batch], read))

    def _report(self, recording: Recording, checkpoint: Checkpoint) -> None:
        audio = recording.audio
        self._events.put(
            Progress(
                recording.ticket.execution_id,
                recording.transcription.seconds_done,
                audio.duration_s if audio else 0.0,
                checkpoint,
            )
        )

    def _finish(self, recording: Recording) -> None:
        transcription, audio = recording.transcription, recording.audio
        if audio is None:
            return
        transcript = Transcript(
            job_id=recording.ticket.job_id,
            text=transcription.text,
            language=transcription.language or "en",
            language_probability=transcription.language_probability,
            segments=transcription.segments,
            audio=audio,
            model=self._device.model,
            timing=self._timing(recording, audio),
            flags=transcription.flags,
        )
        self._leave(recording)
        self._events.put(Done(recording.ticket.execution_id, transcript))

    def _timing(self, recording: Recording, audio: Audio) -> Timing:
        """Return where a recording's time went; token rates are over its time in the decode."""
        transcription = recording.transcription
        decode_s = max(1e-9, time.monotonic() - recording.started)
        total_s = recording.audio_prep_s + decode_s
        return Timing(
            audio_prep_s=round(recording.audio_prep_s, 3),
            decode_s=round(decode_s, 3),
            total_s=round(total_s, 3),
            windows=transcription.num_windows,
            prompt_tokens=transcription.num_prompt_tokens,
            generated_tokens=transcription.num_generated_tokens,
            prompt_tokens_per_s=round(transcription.num_prompt_tokens / decode_s, 1),
            generated_tokens_per_s=round(transcription.num_generated_tokens / decode_s, 1),
            peak_memory_bytes=self._device.peak_memory_bytes(),
            real_time_factor=round(audio.duration_s / total_s, 2),
        )

    def _fail(self, recording: Recording, error: ScribefarmError) -> None:
        """Let one recording leave with an error; the others do not notice."""
        if not self._is_alive(recording):
            return
        self._leave(recording)
        self._events.put(Failed(recording.ticket.execution_id, error))

    def _fail_all(self, error: ScribefarmError) -> None:
        """Let every recording leave that has begun: the device failed, and may fail again."""
        self._device.reset()
        for recording in list(self._recordings.values()):
            if recording.windows is not None:
                self._fail(recording, error)

    def _leave(self, recording: Recording) -> None:
        del self._recordings[recording.ticket.execution_id]
        recording.reading.stop()
        self._device.drop(recording.ticket.execution_id)
        self._to_encode = deque(item for item in self._to_encode if item[0] is not recording)

    def _is_alive(self, recording: Recording) -> bool:
        return self._recordings.get(recording.ticket.execution_id) is recording
