"""Both networks: they agree, padding changes nothing, and a batch equals its pieces alone exactly."""

import platform

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import InvalidSettings
from tests.stage.tiny_parakeets import quantized, random_parakeet, speech_like, tiny_config
from worker.models.parakeet.backend import make_network
from worker.models.parakeet.network import Parakeet
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.requests import Recognize
from worker.models.parakeet.tdt import TdtStepper

# In several buckets.
SECONDS = (0.1, 2.0, 1.1, 0.4, 5.0, 2.2, 0.004)
PIECES = [speech_like(seconds, seed) for seed, seconds in enumerate(SECONDS)]
KINDS = {
    "tdt": {},
    "tdt with biases": {"bias": True, "n_mels": 128},
    "ctc": {"ctc": True, "bias": True},
}


@pytest.fixture(scope="module", params=KINDS)
def networks(request):
    """Return NumPy's and MLX's network of the same weights."""
    weights = random_parakeet(tiny_config(**KINDS[request.param], vad=True))
    return NumpyParakeet(weights), Parakeet(weights)


def states(network, pieces):
    """Return the encoder's states of each piece, without padding."""
    return [
        np.array(each)[: network.config.num_frames(piece.size)]
        for piece, each in zip(pieces, network.states(pieces), strict=True)
    ]


def recognized(network, pieces, slots=3):
    """Return each piece's labels."""
    stepper = TdtStepper(network, slots)
    for key, encoded in enumerate(network.encode(pieces)):
        stepper.add(key, Recognize(encoded))
    found = {}
    while stepper.num_wanted:
        found |= dict(stepper.step())
    return [found[key] for key in range(len(pieces))]


def labels(network, pieces):
    return recognized(network, pieces) if network.config.transducer else network.label_ctc(pieces)()


def test_the_networks_agree(networks):
    """NumPy computes each piece unpadded: MLX's masks let no padding in."""
    for found, wanted in zip(*(states(each, PIECES) for each in networks), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_networks_find_the_same_labels(networks):
    """Tokens, frames and durations; log-probabilities nearly."""
    ours, theirs = (labels(each, PIECES) for each in networks)
    assert sum(map(len, ours)) > 20
    for found, wanted in zip(ours, theirs, strict=True):
        assert [(e.token, e.frame, e.duration) for e in found] == [
            (e.token, e.frame, e.duration) for e in wanted
        ]
        np.testing.assert_allclose(
            [each.logprob for each in found], [each.logprob for each in wanted], atol=1e-4
        )


def test_a_batch_equals_its_pieces_alone(networks):
    """Bit for bit: states, labels and their probabilities, and the speech that is heard."""
    for network in networks:
        together = states(network, PIECES)
        for piece, found in zip(PIECES, together, strict=True):
            assert np.array_equal(found, states(network, [piece])[0])
        assert labels(network, PIECES) == [labels(network, [piece])[0] for piece in PIECES]
        heard = network.hear_speech(PIECES)()
        for piece, found in zip(PIECES, heard, strict=True):
            assert np.array_equal(found, network.hear_speech([piece])()[0])


def test_pieces_of_several_blocks_are_one():
    """NumPy carries 192 frames at a time through a layer: 15 s."""
    weights = random_parakeet(tiny_config())
    pieces = [speech_like(31.0, 1), speech_like(15.4, 2)]
    ours, theirs = NumpyParakeet(weights), Parakeet(weights)
    [found, shorter], [wanted] = states(ours, pieces), states(theirs, pieces[1:])
    assert len(found) == 388
    np.testing.assert_allclose(shorter, wanted, atol=1e-4)
    assert np.array_equal(found, states(ours, pieces[:1])[0])


def test_the_order_of_pieces_does_not_matter(networks):
    """Nor who stands beside whom."""
    for network in networks:
        backwards = labels(network, PIECES[::-1])
        assert backwards[::-1] == labels(network, PIECES)


def test_both_hear_speech(networks):
    """One probability an encoder frame; nothing beyond the piece's end is heard."""
    ours, theirs = (network.hear_speech(PIECES)() for network in networks)
    for piece, found, wanted in zip(PIECES, ours, theirs, strict=True):
        assert found.shape == wanted.shape == (networks[0].config.num_frames(piece.size),)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert ((found > 0) & (found < 1)).all()


def test_labels_lie_within_their_piece(networks):
    """In order, with probabilities of at most 1, and no blank among them."""
    config = networks[0].config
    for piece, found in zip(PIECES, labels(networks[0], PIECES), strict=True):
        frames = [label.frame for label in found]
        assert frames == sorted(frames)
        assert all(0 <= frame < config.num_frames(piece.size) for frame in frames)
        assert all(0 <= label.token < config.blank and label.logprob <= 0 for label in found)


@pytest.mark.parametrize(("dtype", "tolerance"), [(mx.bfloat16, 0.05), (mx.float16, 0.005)])
def test_half_precision_is_close(dtype, tolerance):
    """bfloat16 has eight bits, float16 eleven; the heads stay float32."""
    weights = random_parakeet(tiny_config())
    exact, half = Parakeet(weights), Parakeet(weights, dtype)
    for found, wanted in zip(states_as_float(half), states(exact, PIECES[:3]), strict=True):
        assert np.abs(found - wanted).mean() < tolerance
    assert half.transducer.tokens.weight.dtype == half.transducer.embed.weight.dtype == mx.float32
    assert half.encode(PIECES[:1])[0].states.dtype == dtype


def states_as_float(network):
    found = [each.astype(mx.float32) for each in network.states(PIECES[:3])]
    lengths = [network.config.num_frames(piece.size) for piece in PIECES[:3]]
    return [np.array(each)[:length] for each, length in zip(found, lengths, strict=True)]


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_multiply_as_unpacked_ones(bits):
    """What a GPU computes with beside what a CPU unpacks: the same numbers."""
    packed = quantized(random_parakeet(tiny_config()), bits)
    on_gpu, on_cpu = Parakeet(packed), make_network(packed, mx.float32, "numpy")
    for found, wanted in zip(*(states(each, PIECES[:3]) for each in (on_gpu, on_cpu)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert [len(each) for each in recognized(on_gpu, PIECES[:3])]


def test_the_backend_is_chosen_where_a_network_is_made():
    """NumPy's on an x86 processor in float32, as Whisper's."""
    weights = random_parakeet(tiny_config())
    by_itself = NumpyParakeet if platform.machine() in {"x86_64", "AMD64"} else Parakeet
    assert isinstance(make_network(weights, mx.float32), by_itself)
    assert isinstance(make_network(weights, mx.float32, "mlx"), Parakeet)
    assert isinstance(make_network(weights, mx.bfloat16), Parakeet)
    with pytest.raises(InvalidSettings, match="bfloat16"):
        make_network(weights, mx.bfloat16, "numpy")


def test_no_piece_is_nothing_to_do(networks):
    """An empty batch is answered."""
    for network in networks:
        assert network.states([]) == []
