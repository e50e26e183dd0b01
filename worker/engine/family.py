"""What a family of speech models brings, for the engine to drive it. The engine owns this protocol.

A family is one folder of `worker/models/` and one line of `worker.models.MODELS`. It turns samples
into features, and a recording into requests; it computes its batched requests, and steps its rows.
The engine decides when, for whom and how many at once. worker/README.md has the recipe.

Every method is called from the engine's thread, the only one that may use the device, except where
it says otherwise.
"""

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from producer.job import Options
from producer.result import Model, Segment
from worker.audio.reader import Samples
from worker.engine.memory_plan import MemoryNeeds, MemoryPlan
from worker.engine.messages import Checkpoint
from worker.engine.parts import run_through
from worker.engine.requests import Batched, Requests, Rows
from worker.engine.speech import Speech

Replies: TypeAlias = Sequence[Any] | Callable[[], Sequence[Any]]
"""One reply a request, in order; or a function that waits for the device and returns them."""

Parts: TypeAlias = Generator[None, None, Replies]
"""Hands a batch to the device part by part, one each time it is resumed, and returns the replies."""


def handed_over(started: Replies | Parts) -> Replies:
    """Hand over all parts of a batch at once, and return its replies."""
    return run_through(started) if isinstance(started, Generator) else started


StepOutcome: TypeAlias = tuple[Hashable, Any]
"""The key that rows were added with, and their reply, or the `ScribefarmError` they ended with."""


class Features(Protocol):
    """What a model is given of one recording, computed while the recording is read."""

    def push(self, samples: Samples) -> None:
        """Take the next samples, shape (n,): mono, 16 kHz. Must not wait for the device.

        They may be kept as they are: nobody changes them any more.
        A `ScribefarmError` ends this recording and no other, here and in `finish`.
        """

    def finish(self) -> None:
        """Take note that the recording has ended; only then does `Transcription.requests` start."""


@dataclass
class Counts:
    """What a transcription has taken so far.

    Attributes:
        windows: Pieces of audio that were decoded.
        prompt_tokens: Tokens that were read; 0 for a model without prompts.
        generated_tokens: Tokens that were sampled, or labels that were found.
        skipped: Silent stretches that the family left out by itself, as (start, end) in seconds,
            in order.
    """

    windows: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    skipped: list[tuple[float, float]] = field(default_factory=list)


class Transcription(Protocol):
    """One recording on its way to text: no thread, no tensor, no batch in it."""

    segments: list[Segment]
    """Finished so far; times in seconds of the recording."""

    counts: Counts

    @property
    def text(self) -> str:
        """The whole text so far."""

    @property
    def language(self) -> str:
        """Code of the language that is transcribed."""

    @property
    def language_probability(self) -> float | None:
        """Of the language; None if it was not detected."""

    @property
    def flags(self) -> list[str]:
        """Every reason for a person to look at this recording, each once."""

    @property
    def seconds_done(self) -> float:
        """Seconds of the recording that need not be looked at again."""

    def requests(self, features: Any, speech: Speech) -> Requests[None]:
        """Go through the recording; `features` are this family's, finished.

        No work begins within `speech.skipped`, and no time moves for it.

        Yields requests, each answered before the next, and a `Checkpoint` wherever another worker
        could go on. What it raises ends this recording and no other; an error that is no
        `ScribefarmError` counts as a defect.
        """


def _all_alike(_request: Batched[Any]) -> None:
    """Return the one kind of requests that are all computed alike."""


@dataclass(frozen=True)
class Computation:
    """How one type of `Batched` request is computed.

    Attributes:
        start: Starts computing a batch. It returns the replies if they need no waiting (arrays that
            the device has yet to compute, handed back to it later), else a function that waits for
            them, which is called after the next step was started. Where a batch takes the device
            much longer than a step, it returns the batch's parts: rows are stepped between them. It
            raises `OutOfMemory` if the device has no room; the engine then tries fewer at once.
        batch_size: Most requests that are computed together.
        patience_steps: How many steps a request waits for others while rows are being stepped.
        kind_of: Says which requests belong together: a batch is of one kind.
        num_parts: In which a batch is handed over.
    """

    start: Callable[[list[Any]], Replies | Parts]
    batch_size: int
    patience_steps: int = 0
    kind_of: Callable[[Any], Hashable] = _all_alike
    num_parts: int = 1


class Stepper(Protocol):
    """A batch of rows that all advance by a step at a time, and join and leave at any step.

    Rows that join and leave together, such as the beams of a window, count as one.
    """

    @property
    def num_slots(self) -> int:
        """Most rows that are stepped together."""

    @property
    def num_active(self) -> int:
        """Rows that the next step advances."""

    @property
    def num_wanted(self) -> int:
        """Rows that are in the batch or wait for a slot."""

    @property
    def wait_s(self) -> float:
        """Seconds that the engine's thread has waited for the device here so far."""

    def add(self, key: Hashable, request: Rows[Any]) -> None:
        """Let a request's rows join as soon as there are slots; `step` returns them by `key`."""

    def step(self) -> list[StepOutcome]:
        """Advance all rows by one step, and return the requests whose rows have all ended.

        Raises:
            OutOfMemory: the device has no room; `shrink` may help.
            ScribefarmError: the model is broken for every row.
        """

    def drop(self, key: Hashable) -> None:
        """Let a request's rows leave, if it has any; `step` does not return them."""

    def shrink(self) -> bool:
        """Halve the slots and start all unfinished requests anew; False if there is one slot."""

    def reset(self) -> None:
        """Forget all rows."""


@dataclass(frozen=True)
class Rehearsal:
    """A window of silence and what becomes of it, by which a device is measured before `pin`.

    Attributes:
        encode: Computes so many windows together up to their first step, and waits for them; it
            returns what their rows are made of.
        patience_steps: As of the `Computation` that windows wait for.
        steps: That a window of speech takes; 0 without a stepper.
        stepper: Makes an empty stepper of so many slots, with so many steps ahead; None for a
            family without one.
        rows: Makes the request of a window's rows; they last for some tens of steps if they can.
    """

    encode: Callable[[int], Sequence[Any]]
    patience_steps: int = 0
    steps: int = 0
    stepper: Callable[[int, int], Stepper] | None = None
    rows: Callable[[Any], Rows[Any]] = lambda _encoded: Rows()


class Family(Protocol):
    """A loaded model of one family, ready to be pinned and driven."""

    name: str
    """The family's own name: its checkpoints carry it."""

    model: Model
    """Name, revision and dtype, as results carry them."""

    num_vocab: int
    """Token ids of its segments are below this; 0 for a family without token ids."""

    needs: MemoryNeeds
    """From which the plan is made that `pin` is given."""

    computations: Mapping[type[Batched[Any]], Computation]
    """Every type of `Batched` that its transcriptions ask for; there from `pin` on."""

    stepper: Stepper | None
    """Decodes its `Rows` requests; None for a family without them. There from `pin` on."""

    plan: MemoryPlan
    """What `pin` was given."""

    def rehearsal(self) -> Rehearsal | None:
        """Return by what a device is measured; None plans by memory alone. Called before `pin`."""

    def pin(self, plan: MemoryPlan) -> None:
        """Make batches of the plan's sizes, and compile what the first recording would wait for.

        Raises:
            OutOfMemory: even the planned batch does not fit.
        """

    def check(self, options: Options) -> None:
        """Refuse what this model cannot do, before a recording's file is touched.

        Raises:
            InvalidOptions: an option, language or task that the family or model does not have.
            OutOfRange: a token that its vocabulary does not have.
        """

    def features(self) -> Features:
        """Return the empty features of one recording."""

    def transcription(self, options: Options, checkpoint: Checkpoint | None) -> Transcription:
        """Return a recording's transcription, which goes on at the checkpoint if it has one.

        The engine gives it only checkpoints of this very model (`worker.engine.checkpoints`), whose
        token ids and times are in range. The rest of the state may be damaged, which counts as no
        checkpoint. `check` has passed the options.
        """

    def peak_memory_bytes(self) -> int:
        """Return the most device memory in use at once so far; called from any thread."""
