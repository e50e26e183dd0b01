"""Where somebody speaks, and which silences are skipped."""

import numpy as np
import pytest

from worker.audio.recording import load_audio
from worker.audio.voice_activity import (
    LEAST_SKIPPED_S,
    PADDING_S,
    VoiceActivity,
    silences,
)
from worker.cli.measure import clip

RATE_HZ = 16_000


def heard(samples, cuts=()):
    """Return what was heard of samples that come in pieces."""
    voices = VoiceActivity()
    for piece in np.split(samples, cuts):
        voices.push(piece)
    voices.finish()
    return voices


def hiss(seconds):
    """Return faint noise: -60 dB of full scale."""
    return np.random.default_rng(0).normal(0, 1e-3, int(seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def speech():
    """Return ten seconds of somebody speaking."""
    return load_audio(clip(), max_seconds=60)[0]


def test_speech_between_noises_is_found_where_it_is(speech):
    """To a few tenths of a second, at both ends."""
    voices = heard(np.concatenate([hiss(20), speech, hiss(20)]))
    end_s = 20 + len(speech) / RATE_HZ
    assert 20 <= voices.edges[0] < 20.7
    assert end_s - 1.2 < voices.edges[-1] <= end_s + 0.2
    assert voices.silence_share == pytest.approx(1 - voices.speech_s / voices.duration_s)
    assert voices.silence_share > 40 / voices.duration_s


def test_where_the_reader_cuts_its_blocks_changes_nothing(speech):
    """Not one bit: the same recording is always cut for the network in the same places."""
    samples = np.concatenate([speech, hiss(3)])
    whole = heard(samples)
    for cuts in ([1], [511, 512, 513], [100_000, 100_001], range(0, len(samples), 20_000)):
        pieces = heard(samples, list(cuts))
        assert (list(pieces.edges), pieces.snr_db) == (list(whole.edges), whole.snr_db)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(RATE_HZ * 3, np.float32), hiss(3), np.zeros(0, np.float32), hiss(0.001)],
    ids=["digital silence", "noise", "nothing", "16 samples"],
)
def test_nobody_speaks_in_noise_and_silence(samples):
    """No edges, and no ratio of what is not there."""
    voices = heard(samples)
    assert list(voices.edges) == []
    assert voices.snr_db is None
    assert voices.silence_share == (1.0 if len(samples) else None)
    assert silences(voices.edges, voices.duration_s) == [(0.0, round(len(samples) / RATE_HZ, 3))]


def test_the_ratio_of_speech_to_noise_is_about_what_was_mixed(speech):
    """Noise is added at a known power; the pauses of the speech itself are quiet."""
    voiced = heard(speech)
    is_spoken = np.zeros(len(speech), bool)
    for start, end in zip(voiced.edges[::2], voiced.edges[1::2], strict=True):
        is_spoken[int(start * RATE_HZ) : int(end * RATE_HZ)] = True
    power = float(np.mean(speech[is_spoken] ** 2))
    noise = np.random.default_rng(1).normal(0, np.sqrt(power / 100), 3 * len(speech))
    mixed = np.concatenate([speech * 0, speech, speech * 0]) + noise
    assert heard(mixed.astype(np.float32)).snr_db == pytest.approx(20, abs=1.5)


def test_long_silences_are_skipped_but_for_some_padding():
    """Between speech, before the first and behind the last; short ones are not."""
    least = LEAST_SKIPPED_S + PADDING_S
    edges = [10.0, 12.0, 12.0 + least + 0.001, 20.0, 20.0 + least - 0.1, 30.0]
    assert silences(edges, 60.0) == [
        (0.0, 10.0 - PADDING_S),
        (12.0, pytest.approx(12.001 + LEAST_SKIPPED_S)),
        (30.0, 60.0),
    ]


def test_speech_from_end_to_end_leaves_nothing_to_skip():
    """The start and the end of a recording are no silence."""
    assert silences([0.0, 60.0], 60.0) == []
    assert silences([LEAST_SKIPPED_S, 60.0], 60.0) == []
