"""Lanes that are transcribed apart: each text is the lane's own, whatever interrupts it."""

from dataclasses import replace

import numpy as np
import pytest

from producer.settings import Settings
from tests.engine.test_family_conformance import (
    ALL,
    DURATION_S,
    FAMILIES,
    answer,
    driven,
    options_of,
    samples,
)
from worker.audio.lanes import Lane
from worker.audio.read_ahead import LaneEnd
from worker.engine.checkpoints import usable
from worker.engine.lanes import LaneFeatures, LaneTranscription
from worker.engine.messages import Checkpoint
from worker.engine.speech import Speech
from worker.models.load import pin

BOTH = (LaneEnd(Lane(0, 1)), LaneEnd(Lane(1, 2)))


@pytest.fixture(scope="module", params=ALL)
def family(request):
    """Return each family in turn, pinned as the engine's loader pins it."""
    family = FAMILIES[request.param]()
    pin(family, Settings(worker={"slots": 2}))
    return family


LANES = np.stack([samples(220), samples(330) * np.float32(0.5)], axis=1)
BLOCKS = np.array_split(np.column_stack([LANES, LANES.mean(axis=1)]), 3)


def apart(family, checkpoint=None, lanes=BOTH, kind="channel"):
    """Transcribe the lanes of one recording."""
    features = LaneFeatures(family.features)
    for block in BLOCKS:
        features.push(block)
    features.finish()
    make = lambda own: family.transcription(options_of(family), own)  # noqa: E731
    transcription = LaneTranscription(make, kind, usable(checkpoint, family))
    return driven(family, transcription, features, lanes, DURATION_S)


def alone(family, column):
    """Transcribe one column as a recording of its own."""
    features = family.features()
    for block in BLOCKS:
        features.push(np.ascontiguousarray(block[:, column]))
    features.finish()
    return driven(family, family.transcription(options_of(family), None), features, Speech())[0]


def unlabelled(segments):
    return [each.model_copy(update={"channel": None, "id": n}) for n, each in enumerate(segments)]


def test_each_lane_has_the_text_that_it_has_as_a_recording_of_its_own(family):
    """Segments say their channel, lie in the order of time, and are numbered anew."""
    both, _ = apart(family)
    single = [alone(family, column) for column in (0, 1)]
    for number, own in enumerate(single, start=1):
        assert unlabelled(s for s in both.segments if s.channel == number) == own.segments
    starts = [segment.start for segment in both.segments]
    assert starts == sorted(starts)
    assert [segment.id for segment in both.segments] == [*range(len(both.segments))]
    assert both.counts.windows == sum(own.counts.windows for own in single)
    assert both.language == single[0].language
    assert both.seconds_done == pytest.approx(DURATION_S, abs=0.02)


def test_it_goes_on_from_each_checkpoint_to_the_same_text(family):
    """Also from within the second lane: the first is not transcribed again."""
    whole, checkpoints = apart(family)
    for passed, checkpoint in enumerate(checkpoints, start=1):
        resumed, rest = apart(family, checkpoint)
        assert resumed.segments == whole.segments
        assert resumed.text == whole.text
        assert resumed.language_probability == whole.language_probability
        assert len(rest) <= len(checkpoints) - passed + 1


@pytest.mark.parametrize(
    "damage",
    [
        {"state": {}},
        {"state": {"done": [], "number": 99, "state": {}}},
        {"state": {"done": [{"number": 7, "language": "en", "language_probability": None}],
                   "number": 1, "state": {}}},
        {"state": {"done": "all", "number": 1, "state": {}}},
    ],
)  # fmt: skip
def test_a_checkpoint_of_other_lanes_or_a_damaged_one_counts_as_none(family, damage):
    whole, checkpoints = apart(family)
    again, _ = apart(family, replace(checkpoints[0], **damage))
    assert again.segments == whole.segments


def test_the_mix_of_channels_that_are_one_sound_has_no_number(family):
    mix, _ = apart(family, lanes=(LaneEnd(Lane(2, 0)),))
    assert mix.segments == alone(family, 2).segments


def test_tracks_are_called_so(family):
    tracks, _ = apart(family, kind="track")
    assert {segment.track for segment in tracks.segments} == {1, 2}
    assert {segment.channel for segment in tracks.segments} == {None}


def test_progress_counts_the_lanes_that_are_done(family):
    """Half way through the second of two lanes three quarters are done."""
    seen = []
    features = LaneFeatures(family.features)
    for block in BLOCKS:
        features.push(block)
    features.finish()
    transcription = LaneTranscription(
        lambda own: family.transcription(options_of(family), own), "channel", None
    )
    requests, reply = transcription.requests(features, BOTH, DURATION_S), None
    while True:
        try:
            request = requests.send(reply)
        except StopIteration:
            break
        is_checkpoint = isinstance(request, Checkpoint)
        reply = None if is_checkpoint else answer(family, request)
        seen.append(transcription.seconds_done)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
