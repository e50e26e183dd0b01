"""Log-mel spectrograms against openai-whisper's own: tests/data/log_mel.npz."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.data.recipes import synthetic_audio
from tests.stage.log_mel import FRAMES
from worker.models.mel import mel_filterbank
from worker.models.whisper.log_mel import N_FFT, LogMel

VECTORS = np.load(Path(__file__).parents[2] / "data" / "log_mel.npz")
CASES = json.loads(str(VECTORS["cases"]))
# decode() of one padded clip is another input than transcribe()'s; its content is `speech_3s`.
SYNTHETIC = [name for name, case in CASES.items() if "synthetic" in case]
SPEECH = ["speech_3s", "speech_whole"]
WINDOW_FRAMES = 3000
TOLERANCE = 1e-4


def check(samples, name, n_mels, network):
    """Compare every stored frame: content by windows, what follows it by the language window."""
    log_mel = LogMel(partial(FRAMES[network], n_mels=n_mels), n_mels)
    for start in range(0, len(samples), 77_777):
        log_mel.push(samples[start : start + 77_777])
    log_mel.finish()
    content = CASES[name]["content_frames"]
    assert content == log_mel.content_frames
    num_compared = 0
    for column, frame in enumerate(VECTORS[f"{name}/{n_mels}/frames"]):
        if frame < content:
            window = log_mel.window(frame - frame % WINDOW_FRAMES)
        elif frame < WINDOW_FRAMES:
            window = log_mel.language_window()
        else:
            continue
        expected = VECTORS[f"{name}/{n_mels}/log_mel"][:, column]
        actual = np.array(window)[frame % WINDOW_FRAMES]
        np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)
        num_compared += 1
    assert num_compared >= 6


@pytest.mark.parametrize("network", FRAMES)
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SYNTHETIC)
def test_made_recordings_have_the_references_spectrogram(name, n_mels, network):
    """Silence, clipping, tails of any length, exactly 30 s, the maximum at the very end."""
    check(
        synthetic_audio(CASES[name]["synthetic"], CASES[name]["num_samples"]), name, n_mels, network
    )


@pytest.mark.archive
@pytest.mark.parametrize("network", FRAMES)
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SPEECH)
def test_speech_has_the_references_spectrogram(name, n_mels, network, shared_data):
    """Three seconds of a chapter, and all of it, normalised by the loudest bin of the whole."""
    samples, _ = soundfile.read(shared_data / CASES[name]["path"], dtype="float32")
    check(samples[: CASES[name]["num_samples"]], name, n_mels, network)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_filter_bank_is_the_one_whisper_ships(n_mels):
    """Slaney's triangles, computed, equal the stored ones to float32 rounding."""
    expected = VECTORS[f"filters/{n_mels}"]
    np.testing.assert_allclose(mel_filterbank(N_FFT, n_mels).T, expected, atol=1e-8, rtol=0)
