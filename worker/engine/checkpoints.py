"""Checkpoints between a family and the farm: signed on their way out, checked on their way in.

A checkpoint comes from the server, where any program may have written it, and from whatever model
had the recording before. Decoding goes on only from one that is this model's own and plausible;
from any other the recording starts over, which costs time and never the text.
"""

import math
from dataclasses import replace

import structlog

from producer.result import Segment
from worker.engine.family import Family
from worker.engine.messages import Checkpoint, Writer

# Far beyond any recording that is taken: audio.max_file_seconds is 12 h by default.
MAX_SECONDS = 1e7
MEL_FRAMES_PER_S = 100
# A night's recording has some ten thousand segments, of at most 448 tokens.
MAX_SEGMENTS = 1_000_000
MAX_TOKENS = 10_000
MAX_CHARS = 100_000

_log = structlog.get_logger()


def writer_of(family: Family) -> Writer:
    """Return what a family's checkpoints are signed with."""
    return Writer(family.name, family.model.name, family.model.revision, family.num_vocab)


def signed(checkpoint: Checkpoint, family: Family) -> Checkpoint:
    """Return a checkpoint of this family as it leaves the engine."""
    return replace(checkpoint, writer=writer_of(family))


def usable(checkpoint: Checkpoint | None, family: Family) -> Checkpoint | None:
    """Return the checkpoint if this family can go on from it; None starts over."""
    if checkpoint is None:
        return None
    if checkpoint.writer != writer_of(family):
        _log.info("starts_over", reason="another model began it")
        return None
    if not _is_plausible(checkpoint, family.num_vocab):
        _log.warning("starts_over", reason="its checkpoint is damaged")
        return None
    return checkpoint


def _is_plausible(checkpoint: Checkpoint, num_vocab: int) -> bool:
    segments = checkpoint.segments
    return len(segments) <= MAX_SEGMENTS and all(
        _is_sane(segment, num_vocab) and segment.id == number
        for number, segment in enumerate(segments)
    )


def _is_sane(segment: Segment, num_vocab: int) -> bool:
    words = segment.words or []
    judged = (segment.avg_logprob, segment.compression_ratio)
    # Figures that not every family has.
    own = (segment.temperature, segment.no_speech_prob, segment.confidence)
    known = (figure for figure in own if figure is not None)
    return (
        max(len(segment.tokens), len(words), len(segment.flags)) <= MAX_TOKENS
        and len(segment.text) <= MAX_CHARS
        and all(0 <= token < num_vocab for token in segment.tokens)
        and 0 <= segment.seek <= MAX_SECONDS * MEL_FRAMES_PER_S
        and _are_times(segment.start, segment.end)
        and _are_times(*(time for word in words for time in (word.start, word.end)))
        and _are_finite(*judged, *known, *(word.probability for word in words))
    )


def _are_times(*seconds: float) -> bool:
    return all(0 <= second <= MAX_SECONDS for second in seconds)


def _are_finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
