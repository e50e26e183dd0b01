"""Checkpoints that nobody should go on from: another model's, or with values out of range."""

import math
from dataclasses import replace

import pytest

from producer.result import Segment, Word
from tests.stage.fake_family import FakeFamily
from worker.engine.checkpoints import signed, usable
from worker.engine.messages import Checkpoint
from worker.farm.job_hash import dump_checkpoint, read_checkpoint

FAMILY = FakeFamily()
SEGMENT = Segment(
    id=0,
    seek=0,
    start=0.0,
    end=2.0,
    text=" two",
    tokens=[FAMILY.num_vocab - 1],
    temperature=0.0,
    avg_logprob=-0.1,
    compression_ratio=1.0,
    no_speech_prob=0.0,
    words=[Word(word=" two", start=0.5, end=1.5, probability=0.9)],
)


def checkpoint(**changed):
    """Return a signed checkpoint of one segment, with these of its fields changed."""
    segment = SEGMENT.model_copy(update=changed)
    return signed(Checkpoint((segment,), "en", {}), FAMILY)


def word(**changed):
    return [SEGMENT.words[0].model_copy(update=changed)]


def test_what_was_signed_and_stored_is_read_and_used():
    """The way of every checkpoint: engine, JSON in the server, engine."""
    written = checkpoint()
    read = read_checkpoint(dump_checkpoint(written).encode())
    assert read == written
    assert usable(read, FAMILY) == written
    assert usable(None, FAMILY) is None


@pytest.mark.parametrize(
    "changed", [{"family": "x"}, {"model": "base"}, {"revision": "1"}, {"num_vocab": 51_865}]
)
def test_another_writer_means_to_start_over(changed):
    """The ids of one vocabulary are other words in the next."""
    written = checkpoint()
    assert usable(replace(written, writer=replace(written.writer, **changed)), FAMILY) is None
    assert usable(replace(written, writer=None), FAMILY) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": [FAMILY.num_vocab]},
        {"tokens": [-7]},
        {"tokens": [10**30]},
        {"tokens": [1] * 10_001},
        {"text": "x" * 100_001},
        {"id": 1},
        {"seek": -1},
        {"seek": 10**30},
        {"start": -0.1},
        {"start": math.nan},
        {"end": math.inf},
        {"end": 1e12},
        {"avg_logprob": math.nan},
        {"compression_ratio": math.inf},
        {"no_speech_prob": -math.inf},
        {"temperature": math.nan},
        {"words": word(start=-1.0)},
        {"words": word(end=math.inf)},
        {"words": word(probability=math.nan)},
        {"words": word() * 10_001},
    ],
)
def test_values_out_of_range_mean_to_start_over(changed):
    """Ids past the vocabulary would be read past the end of the embedding, or kill the worker."""
    assert usable(checkpoint(**changed), FAMILY) is None


def test_a_checkpoint_of_an_earlier_version_starts_over():
    """It did not say whose tokens it held."""
    stored = b'{"segments": [], "language": "en", "state": {"family": "whisper", "seek": 3000}}'
    assert usable(read_checkpoint(stored), FAMILY) is None
