"""Which recording gets what of the device next: the engine's policy, without its threads.

```
turn:   step    -> every row of the stepper one step further
        replies -> what is ready goes back to its recording, which asks for the next thing
        parts   -> of batches that are under way; all of them, if the device is idle
        batches -> full batches of what waits longest; whatever waits, if the device is idle
```

Batches come last: while they are handed over, the device has a step to do.
"""

from collections.abc import Callable
from typing import Any

import structlog

from producer.errors import DeviceLost, Internal, OutOfMemory, ScribefarmError
from worker.engine.batches import Batches
from worker.engine.checkpoints import signed
from worker.engine.family import Family
from worker.engine.messages import Checkpoint, Done, Event, Failed
from worker.engine.requests import Batched, Compute, Request, Rows
from worker.engine.stats import EngineStats
from worker.engine.times import RECEIVE_S
from worker.engine.track import Track

_log = structlog.get_logger()


class Schedule:
    """Drives many transcriptions over one family; all methods in one thread, none of them waits.

    Args:
        family: Pinned.
        emit: Takes each recording's events; `Done` or `Failed` is its last.
        compute: Runs host work elsewhere, and `advance`s or `fail`s the track with the result in
            this thread.
        stats: Counted up.

    Attributes:
        tracks: The recordings that are held, by execution id.
    """

    def __init__(
        self,
        family: Family,
        emit: Callable[[Event], None],
        compute: Callable[[Track, Compute[Any]], None],
        stats: EngineStats,
    ) -> None:
        self._family = family
        self._stepper = family.stepper
        self._emit = emit
        self._compute = compute
        self._stats = stats
        self._batches = Batches(family, self, stats)
        self.tracks: dict[str, Track] = {}

    @property
    def is_idle(self) -> bool:
        """Return whether a turn would do nothing."""
        has_rows = self._stepper is not None and self._stepper.num_wanted > 0
        return self._batches.are_done and not has_rows

    @property
    def receiving_s(self) -> float:
        """Return how long audio may be taken before the next turn: the device must not run dry.

        What was just handed over of a batch gives time, and so do places that no row takes: a step
        costs about the same without them, and what would take them waits to be received.
        """
        behind_batch_s = self._batches.share_handed_over * self._family.plan.receiving_s
        return max(RECEIVE_S, behind_batch_s, self._empty_share * self._stats.step.last_s)

    @property
    def _empty_share(self) -> float:
        """Return the share of the stepper's places that no row takes; 0 without a stepper."""
        stepper = self._stepper
        return 0.0 if stepper is None else 1 - stepper.num_active / stepper.num_slots

    def add(self, track: Track) -> None:
        """Hold a recording, which `advance` starts once its audio was read."""
        self.tracks[track.key] = track

    def turn(self) -> None:
        """Give each part of the device its next work, and each recording what is ready for it.

        Raises:
            DeviceLost: no recording can be worked on here any more.
            Exception: a defect of the family's; what happens to a single recording is emitted.
        """
        with self._stats.step:
            self._step()
        with self._stats.reply:
            self._batches.read_replies()
        with self._stats.batch:
            self._batches.hand_over()

    def advance(self, track: Track, reply: object = None) -> None:
        """Send a recording what it waited for, and take what it asks for next."""
        if track.requests is None or not self.is_held(track):
            return
        try:
            request = track.requests.send(reply)
            while isinstance(request, Checkpoint):
                self._emit(track.progress(signed(request, self._family)))
                request = next(track.requests)
            self._take(track, request)
        except StopIteration:
            self._finish(track)
        except DeviceLost:
            raise
        except ScribefarmError as error:
            self.fail(track, error)
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("transcription failed", **track.ticket.named())
            self.fail(track, Internal("transcription", "must not fail", repr(error)))

    def is_held(self, track: Track) -> bool:
        """Return whether a recording has not left."""
        return self.tracks.get(track.key) is track

    def fail(self, track: Track, error: ScribefarmError) -> None:
        """Let one recording leave with an error; the others do not notice."""
        if self.is_held(track):
            self._leave(track)
            self._emit(Failed(track.key, error))

    def close(self) -> None:
        """Give up all recordings without a word: none is read any further."""
        for track in self.tracks.values():
            track.reading.stop()

    def _take(self, track: Track, request: Request[Any]) -> None:
        match request:
            case Batched():
                self._batches.add(track, request)
            case Rows() if self._stepper is not None:
                self._stepper.add(track.key, request)
            case Compute():
                self._compute(track, request)
            case _:
                raise TypeError(f"no family of ours computes {type(request).__name__}")

    def _step(self) -> None:
        """Advance every row, and start what ended rows and waiting ones make possible."""
        stepper = self._stepper
        if stepper is None:
            return
        self._stats.steps += stepper.num_active > 0
        self._stats.row_steps += stepper.num_active
        waited_s = stepper.wait_s
        try:
            ended = stepper.step()
        except OutOfMemory as error:
            _log.warning("out of memory", slots=stepper.num_slots)
            if not stepper.shrink():
                self._fail_all(error)
            return
        except DeviceLost:
            raise
        except ScribefarmError as error:
            self._fail_all(error)
            return
        self._stats.device_wait_s += stepper.wait_s - waited_s
        for key, outcome in ended:
            track = self.tracks[str(key)]
            if isinstance(outcome, ScribefarmError):
                self.fail(track, outcome)
            else:
                self.advance(track, outcome)

    def _fail_all(self, error: ScribefarmError) -> None:
        """Let every recording leave that has begun: the device failed, and may fail again."""
        if self._stepper is not None:
            self._stepper.reset()
        for track in list(self.tracks.values()):
            if track.requests is not None:
                self.fail(track, error)

    def _finish(self, track: Track) -> None:
        if track.audio is None:
            return
        family = self._family
        transcript = track.transcript(track.audio, family.model, family.peak_memory_bytes())
        self._leave(track)
        self._emit(Done(track.key, transcript))

    def _leave(self, track: Track) -> None:
        del self.tracks[track.key]
        track.reading.stop()
        self._batches.drop(track)
        if self._stepper is not None:
            self._stepper.drop(track.key)
