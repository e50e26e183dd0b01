"""Features, encoder, tokens, durations and times against transformers' own: tests/data/parakeet.npz.

Where NeMo differs from transformers, tests/data/README.md says how, and we do as NeMo.
"""

import mlx.core as mx
import numpy as np
import pytest

from tests.stage.random_parakeet import ARRAYS, CASES, by_row, pieces, write_folder
from worker.models.parakeet.backend import make_network
from worker.models.parakeet.buckets import bucket_of
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.requests import Recognize
from worker.models.parakeet.tdt import TdtStepper
from worker.models.parakeet.weights.load import load_weights

TINY = ["tdt", "tdt_few", "ctc"]
# Root mean square and largest distance. What is stored is float32 itself: the extractor's own values
# are up to 6e-5 from those of float64, where a bin hears hardly more than the guard of the logarithm.
FEATURES_RMS, FEATURES = 1e-5, 1e-4
STATES, LOGPROBS = 1e-4, 1e-4
FRAME_S = 0.01


@pytest.fixture(scope="module")
def network(tmp_path_factory, backend):
    """Return a function that loads a case's model once, by our loader from its files."""
    loaded = {}

    def load(name):
        if name not in loaded:
            folder = write_folder(tmp_path_factory.mktemp(name), CASES[name])
            weights = load_weights(str(folder), dtype=mx.float32)
            loaded[name] = make_network(weights, mx.float32, backend)
        return loaded[name]

    return load


@pytest.fixture(params=TINY)
def case(request):
    return request.param


def features_of(network, samples):
    """Return the features of pieces as rows of their own lengths."""
    if isinstance(network, NumpyParakeet):
        return network.features(samples)
    longest = max(network.config.num_frames(piece.size) for piece in samples)
    mel, num_mels = network.features(samples, bucket_of(longest))
    return [np.array(row)[:length] for row, length in zip(mel, num_mels.tolist(), strict=True)]


def states_of(network, samples):
    """Return the encoder's output for pieces as rows of their own lengths."""
    lengths = [network.config.num_frames(piece.size) for piece in samples]
    states = network.states(samples)
    return [np.array(row)[:length] for row, length in zip(states, lengths, strict=True)]


def labels_of(network, samples, slots):
    """Return the labels of pieces, TDT's through the stepper with so many slots."""
    if network.config.transducer is None:
        return network.label_ctc(samples)()
    stepper, found = TdtStepper(network, slots), {}
    for key, encoded in enumerate(network.encode(samples)):
        stepper.add(key, Recognize(encoded))
    while stepper.num_wanted:
        found |= dict(stepper.step())
    return [found[key] for key in range(len(samples))]


def assert_labels(found, rows):
    """Compare tokens, frames and durations exactly, and log-probabilities nearly."""
    for labels, row in zip(found, rows, strict=True):
        assert [label.token for label in labels] == row["tokens"]
        assert [label.frame for label in labels] == row["frames"]
        assert [label.duration for label in labels] == row["durations"]
        logprobs = [label.logprob for label in labels]
        np.testing.assert_allclose(logprobs, row["logprobs"], atol=LOGPROBS)


def test_features_are_those_of_its_extractor(case, network):
    """Real speech, silence, noise and 0.1 s, as one ragged batch; 80 and 128 mels."""
    stored, samples = CASES[case], pieces(CASES[case])
    rows = by_row("tdt_few" if case == "ctc" else case, "features", stored["num_mel_frames"])
    for found, expected in zip(features_of(network(case), samples), rows, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=FEATURES)
        assert np.sqrt(np.mean((found - expected) ** 2)) < FEATURES_RMS


def test_encoder_states_are_its_encoders(case, network):
    """The same batch through subsampling, positions, attention and convolutions."""
    rows = by_row(case, "encoded", CASES[case]["num_frames"])
    for found, expected in zip(states_of(network(case), pieces(CASES[case])), rows, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=STATES)


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_tokens_durations_and_times_are_its_generations(case, network, slots):
    """Whatever the number of rows that are stepped together."""
    assert_labels(labels_of(network(case), pieces(CASES[case]), slots), CASES[case]["rows"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shapes_of_the_06b(tmp_path):
    """24 layers of 1024, 8192 tokens: every 64th column of the states, each frame's norm, labels."""
    stored = CASES["full"]
    weights = load_weights(str(write_folder(tmp_path, stored)), dtype=mx.float32)
    full = make_network(weights, mx.float32)
    samples = pieces(stored)
    states = np.concatenate(states_of(full, samples))
    sampled = ARRAYS["full/encoded"]
    every = states.shape[1] // sampled.shape[1]
    np.testing.assert_allclose(states[:, ::every], sampled, rtol=0, atol=STATES)
    norms = np.linalg.norm(states, axis=-1)
    np.testing.assert_allclose(norms, ARRAYS["full/norms"], rtol=STATES)
    assert_labels(labels_of(full, samples, len(samples)), stored["rows"])


def test_times_are_in_seconds(case, network):
    """A frame lasts as many hops as the encoder joins."""
    encoder = CASES[case]["config"]["encoder_config"]
    assert network(case).config.frame_seconds == FRAME_S * encoder["subsampling_factor"]


def test_the_cases_reach_what_random_weights_rarely_do():
    """All durations, blanks of duration 0, labels that share a frame; and no near-tie."""
    for name, case in CASES.items():
        assert min(row["margin"] for row in case["rows"]) > 10 * LOGPROBS, name
    for name in ("tdt", "tdt_few"):
        rows = CASES[name]["rows"]
        durations = {duration for row in rows for duration in row["durations"]}
        assert durations == set(CASES[name]["config"]["durations"]), name
        assert sum(row["num_blanks_of_duration_0"] for row in rows), name
        assert any(len(set(row["frames"])) < len(row["frames"]) for row in rows), name
