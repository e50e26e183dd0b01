"""Lanes of one recording, such as its channels, transcribed one after the other to one transcript.

Each lane's text is what the lane gives as a recording of its own. The engine sees one recording:
its batches are filled by other recordings, as they always are.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from producer.result import Segment
from worker.audio.lanes import MAX_LANES
from worker.audio.read_ahead import LaneEnd
from worker.audio.reader import Samples
from worker.engine.family import Counts, Features, Transcription
from worker.engine.messages import Checkpoint
from worker.engine.requests import Requests
from worker.engine.speech import Speech, common

Kind = Literal["channel", "track"]
Number = Annotated[int, Field(ge=0, le=MAX_LANES)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LaneFeatures:
    """The features of each lane: a `worker.engine.family.Features`."""

    def __init__(self, make: Callable[[], Features]) -> None:
        self._make = make
        self.lanes: list[Features] = []

    def push(self, samples: Samples) -> None:
        """Take the next samples, shape (n, lanes), or (n,) of a recording with one lane."""
        columns = samples.T if samples.ndim > 1 else samples[None]
        if not self.lanes:
            self.lanes = [self._make() for _ in columns]
        for lane, column in zip(self.lanes, columns, strict=True):
            lane.push(column.copy())

    def finish(self) -> None:
        """Take note that the recording has ended."""
        for lane in self.lanes:
            lane.finish()


@dataclass(frozen=True)
class LaneDone:
    """What is known of a lane that is transcribed, beside its segments."""

    number: Number
    language: str
    language_probability: float | None
    skipped: tuple[tuple[Seconds, Seconds], ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint's `state` holds.

    Attributes:
        done: Lanes that need no more work.
        number: Of the lane that was being transcribed.
        state: Of its own checkpoint.
    """

    done: tuple[LaneDone, ...]
    number: Number
    state: dict[str, Any]

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


_RESUMED = TypeAdapter(Resumed)


class LaneTranscription:
    """The transcription of a recording whose lanes are transcribed apart.

    Args:
        make: Makes the transcription of one lane, which goes on at a checkpoint of its own.
        kind: What a lane is; its segments carry the number.
        checkpoint: Where an earlier run stood; one that is damaged, or of other lanes, counts as
            none.
    """

    def __init__(
        self,
        make: Callable[[Checkpoint | None], Transcription],
        kind: Kind,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._make = make
        self._kind = kind
        self._num_lanes, self._duration_s = 1, 0.0
        self._forget()
        if checkpoint is not None:
            self._resume(checkpoint)

    def _forget(self) -> None:
        self._done: dict[int, LaneDone] = {}
        self._segments: dict[int, list[Segment]] = {}
        self._number: int | None = None
        self._lane = self._make(None)
        self._counts = Counts()

    def _resume(self, checkpoint: Checkpoint) -> None:
        try:
            resumed = _RESUMED.validate_python(checkpoint.state)
        except ValidationError:
            return
        own: dict[int, list[Segment]] = {}
        for segment in checkpoint.segments:
            own.setdefault(getattr(segment, self._kind) or 0, []).append(segment)
        self._done = {lane.number: lane for lane in resumed.done}
        self._segments = {number: own.get(number, []) for number in self._done}
        self._number = resumed.number
        segments = tuple(_numbered(own.get(resumed.number, [])))
        self._lane = self._make(replace(checkpoint, segments=segments, state=resumed.state))

    @property
    def segments(self) -> list[Segment]:
        """Finished so far, of all lanes, by time."""
        return _numbered(sorted(self._all_segments(), key=attrgetter("start")))

    @property
    def text(self) -> str:
        """The text of all lanes so far, by time."""
        return "".join(segment.text for segment in self.segments)

    @property
    def counts(self) -> Counts:
        """What the lanes have taken so far; skipped is what all that are done have left out."""
        counts = _sum(self._counts, self._lane.counts)
        done = [lane.skipped for lane in self._done.values()]
        counts.skipped = list(common(*done))
        return counts

    @property
    def language(self) -> str:
        """Code of the language of the first lane that has text."""
        return self._main().language

    @property
    def language_probability(self) -> float | None:
        """Of that language; None if it was not detected."""
        return self._main().language_probability

    @property
    def flags(self) -> list[str]:
        """Every reason to look at this recording, each once."""
        done = (segment for lane in self._segments.values() for segment in lane)
        return sorted({*self._lane.flags, *(flag for each in done for flag in each.flags)})

    @property
    def seconds_done(self) -> float:
        """Seconds that need not be looked at again: the mean of the lanes."""
        return (len(self._done) * self._duration_s + self._lane.seconds_done) / self._num_lanes

    def requests(
        self,
        features: LaneFeatures,
        lanes: Sequence[LaneEnd],
        duration_s: float,
        *,
        skips_silence: bool = False,
    ) -> Requests[None]:
        """Go through the lanes, each as a recording of its own.

        Args:
            features: Finished.
            lanes: What is transcribed.
            duration_s: Of the recording.
            skips_silence: Whether the job asked for that.
        """
        self._num_lanes, self._duration_s = len(lanes), duration_s
        begun = {*self._done} if self._number is None else {*self._done, self._number}
        if not begun <= {end.lane.number for end in lanes}:
            self._forget()
        for end in lanes:
            number = end.lane.number
            if number in self._done:
                continue
            if number != self._number:
                self._number, self._lane = number, self._make(None)
            heard = Speech(end.speech, end.skipped, skips_silence)
            yield from self._follow(features.lanes[end.lane.column], heard)
            self._finish_lane(number)

    def _follow(self, features: Features, speech: Speech) -> Requests[None]:
        """Pass on what one lane asks for; its checkpoints become the recording's."""
        requests = self._lane.requests(features, speech)
        reply: object = None
        while True:
            try:
                request = requests.send(reply)
            except StopIteration:
                return
            if isinstance(request, Checkpoint):
                request = self._checkpoint(request)
            reply = yield request

    def _finish_lane(self, number: int) -> None:
        lane = self._lane
        self._segments[number] = self._labelled()
        self._done[number] = LaneDone(
            number, lane.language, lane.language_probability, tuple(lane.counts.skipped)
        )
        self._counts = _sum(self._counts, lane.counts)
        self._number, self._lane = None, self._make(None)

    def _checkpoint(self, inner: Checkpoint) -> Checkpoint:
        state = Resumed(tuple(self._done.values()), self._number or 0, dict(inner.state))
        return Checkpoint(
            tuple(_numbered(self._all_segments())),
            inner.language,
            _RESUMED.dump_python(state, mode="json"),
        )

    def _all_segments(self) -> list[Segment]:
        """Return the segments of all lanes, lane by lane."""
        return [each for lane in self._segments.values() for each in lane] + self._labelled()

    def _labelled(self) -> list[Segment]:
        """Return the present lane's segments with its number; that of the mix, 0, is not said."""
        label: dict[str, int | None] = {self._kind: self._number or None}
        return [segment.model_copy(update=label) for segment in self._lane.segments]

    def _main(self) -> LaneDone | Transcription:
        with_text = (lane for number, lane in self._done.items() if self._segments[number])
        return next(with_text, None) or next(iter(self._done.values()), self._lane)


def _numbered(segments: Iterable[Segment]) -> list[Segment]:
    return [segment.model_copy(update={"id": id_}) for id_, segment in enumerate(segments)]


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.windows + other.windows,
        one.prompt_tokens + other.prompt_tokens,
        one.generated_tokens + other.generated_tokens,
    )
