"""Who tells where a recording may be cut: the model's own head, the reader's ears, or ours."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from worker.audio.voice_activity import VoiceActivity
from worker.engine.requests import Compute, Requests, ask
from worker.engine.speech import Speech
from worker.models.parakeet.cut import RATE_HZ, Span, Voices
from worker.models.parakeet.requests import HearSpeech
from worker.models.parakeet.samples import Samples

# The head of parakeet-ultra as moondream runs it: over blocks of 120 s, a frame speaks from one half
# on, gaps shorter than 0.1 s are bridged and runs shorter than 0.1 s dropped.
BLOCK = 120 * RATE_HZ
ONSET = 0.5
LEAST_S = 0.1
# Silero's network over so much at once: some hundred milliseconds of host work.
_HEARD_AT_ONCE = 60 * RATE_HZ


def listen(
    features: Samples, speech: Speech, head_frame_s: float | None, duration: int
) -> Requests[Voices]:
    """Return where somebody speaks in a recording.

    Args:
        features: The recording's `Samples`.
        speech: What was heard while it was read.
        head_frame_s: Seconds of a frame of the model's head; None if the model has none.
        duration: Of the recording, in samples.
    """
    if head_frame_s is not None:
        return Voices((yield from _ask_head(features, head_frame_s, duration)))
    edges = speech.edges
    if edges is None:
        edges = yield from _hear(features, duration)
    return Voices([Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)])


def _ask_head(features: Samples, frame_s: float, duration: int) -> Requests[list[Span]]:
    speaks: list[tuple[float, bool]] = []
    for start in range(0, duration, BLOCK):
        block = features.samples(start, min(start + BLOCK, duration))
        probabilities = yield from ask(HearSpeech(block))
        begin_s = start / RATE_HZ
        speaks += [
            (begin_s + number * frame_s, probability >= ONSET)
            for number, probability in enumerate(probabilities.tolist())
        ]
    return spans_of(speaks, duration / RATE_HZ)


def spans_of(speaks: Sequence[tuple[float, bool]], duration_s: float) -> list[Span]:
    """Return the speech of frames, given when each begins and whether somebody speaks in it."""
    spans: list[Span] = []
    for start, end in _runs(speaks, duration_s):
        if spans and start - spans[-1].end < LEAST_S:
            spans[-1] = Span(spans[-1].start, end)
        else:
            spans.append(Span(start, end))
    return [span for span in spans if span.end - span.start >= LEAST_S]


def _runs(speaks: Sequence[tuple[float, bool]], duration_s: float) -> Iterator[Span]:
    begun: float | None = None
    for is_speech, run in groupby(speaks, key=lambda frame: frame[1]):
        start, _ = next(run)
        if is_speech:
            begun = start
        elif begun is not None:
            yield Span(begun, start)
            begun = None
    if begun is not None and begun < duration_s:
        yield Span(begun, duration_s)


def _hear(features: Samples, duration: int) -> Requests[Sequence[float]]:
    """Listen as the reader does where it was told not to (`audio.listen = false`)."""
    voices = VoiceActivity()
    for start in range(0, duration, _HEARD_AT_ONCE):
        end = min(start + _HEARD_AT_ONCE, duration)
        yield from ask(Compute(partial(_push, voices, features, start, end)))
    voices.finish()
    return voices.edges


def _push(voices: VoiceActivity, features: Samples, start: int, end: int) -> None:
    voices.push(features.samples(start, end))
