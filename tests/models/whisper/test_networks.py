"""The two networks of a checkpoint, NumPy's and MLX's: which is used, and that they agree."""

import platform
import time
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import InvalidSettings
from tests.data.recipes import synthetic_audio
from tests.stage.tiny_models import tiny_random_whisper
from worker.models.whisper.backend import make_network
from worker.models.whisper.network import Whisper
from worker.models.whisper.numpy_network import NumpyWhisper
from worker.models.whisper.weights.convert import dequantize, quantize

NETWORKS = {
    name: network(tiny_random_whisper(multilingual=True))
    for name, network in (("numpy", NumpyWhisper), ("mlx", Whisper))
}


def assert_same(compute):
    """Compare everything that both networks return, as NumPy's arrays."""
    for found, wanted in zip(*map(compute, NETWORKS.values()), strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-3, atol=1e-4)


def tokens_of(seed, *shape):
    return mx.array(np.random.default_rng(seed).integers(0, 50_000, shape), mx.int32)


def leaves(cache):
    return [array for pairs in cache.values() for pair in pairs for array in pair]


def test_both_know_the_checkpoint():
    """Sizes, tokens and rules do not depend on who computes."""
    numpy, mlx = NETWORKS.values()
    for name in (
        "n_mels",
        "num_vocab",
        "bos_token",
        "eos_token",
        "default_prompt",
        "default_rules",
    ):
        assert getattr(numpy, name) == getattr(mlx, name)
    assert numpy.context_length == mlx.context_length == 448


def test_both_hear_the_same():
    """Frames of samples, and the encoder's states of two windows."""
    samples = synthetic_audio("chirp", 40_000)
    mel = mx.array(np.random.default_rng(0).normal(0, 1, (2, 3000, 80)), mx.float32)
    assert_same(lambda network: [network.log_mel_frames(samples), network.encode_audio(mel)])


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [4, 40])
def test_both_decode_the_same(rows, length):
    """Prompts, then steps, each row at its own position: logits and every place of the cache."""
    states = mx.random.normal((rows, 1500, 64), key=mx.random.key(1))
    prompts, tokens = tokens_of(0, rows, length), tokens_of(1, 6, rows)
    # Rows have read two, three and four tokens of their prompts.
    at = mx.minimum(mx.arange(rows) + 1, 3)

    def compute(network):
        first, cache = network.prefill(states, prompts, mx.stack([at * 0, at], axis=1))
        cache, logits = network.resize_cache(cache, 48), []
        for step, each in enumerate(tokens):
            told, cache = network.decode_step(each, at + 1 + step, cache)
            logits.append(told)
        return [first, *logits, *leaves(cache)]

    assert_same(compute)


@pytest.mark.parametrize("network", NETWORKS)
def test_beams_read_what_their_ancestors_read(network):
    """A window's beams, which swap places, give what rows of their own tokens give: alone each."""
    model = NETWORKS[network]
    beams, length = 3, 4
    states = mx.random.normal((2, 1500, 64), key=mx.random.key(1))
    prompts, at = tokens_of(0, 2, length), mx.array([[0, 3], [0, 2]])
    first, cache = model.prefill(states, prompts, at)
    cache = model.resize_cache(model.fork_cache(cache, beams), 16 * beams)
    ancestors = np.zeros((2, beams, 16), np.int32)
    rows = [
        [prompts.tolist()[window][: end + 1]] * beams for window, (_, end) in enumerate(at.tolist())
    ]
    generator = np.random.default_rng(5)
    for step in range(5):
        sources = generator.integers(0, beams, (2, beams))
        tokens = generator.integers(0, 50_000, (2, beams))
        ancestors = np.take_along_axis(ancestors, sources[:, :, None], axis=1)
        rows = [
            [[*rows[window][source], int(token)] for source, token in zip(*both, strict=True)]
            for window, both in enumerate(zip(sources, tokens, strict=True))
        ]
        positions = at[:, 1:] + 1 + step + mx.zeros((2, beams), mx.int32)
        for window, position in enumerate(positions[:, 0].tolist()):
            ancestors[window, :, position] = np.arange(beams)
        told, cache = model.decode_step(
            mx.array(tokens.reshape(-1), mx.int32),
            positions.reshape(-1),
            cache,
            mx.array(ancestors.reshape(-1, 16)),
        )
    assert first.shape[0] == 2
    for row, logits in enumerate(told):
        window, beam = divmod(row, beams)
        own = mx.array([rows[window][beam]], mx.int32)
        last = mx.array([[0, own.shape[1] - 1]])
        wanted, _ = model.prefill(states[window : window + 1], own, last)
        np.testing.assert_allclose(np.array(logits), np.array(wanted[0, 1]), rtol=1e-3, atol=1e-4)


def test_both_align_the_same():
    """Scores of the alignment heads, and log-probabilities among text tokens."""
    states = mx.random.normal((2, 1500, 64), key=mx.random.key(1))
    assert_same(lambda network: network.align(states, tokens_of(2, 2, 45), 50_257))


def test_a_cache_shrinks_and_grows_without_losing_a_place():
    """Steps after both; rows stand in views of MLX's memory then."""
    states = mx.random.normal((2, 1500, 64), key=mx.random.key(1))

    def compute(network):
        _, cache = network.prefill(states, tokens_of(3, 2, 40), mx.zeros((2, 1), mx.int32))
        cache = network.resize_cache(network.resize_cache(cache, 20), 30)
        logits, cache = network.decode_step(tokens_of(4, 2), mx.array([9, 19]), cache)
        return [logits, *leaves(cache)]

    assert_same(compute)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    width=st.sampled_from([1, 2, 255, 256, 257, 1000, 51_864, 51_865]),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    forbidden=st.floats(0, 0.9),
    seed=st.integers(0, 1000),
)
def test_the_normaliser_is_the_float64_sum_to_rounding(width, scale, forbidden, seed):
    """For any width, flat or peaked, with most of the vocabulary forbidden."""
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal((3, width)) * scale).astype(np.float32)
    logits[:, 1:][generator.random((3, width - 1)) < forbidden] = -np.inf
    expected = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    actual = np.array(NETWORKS["numpy"].log_normalizer(mx.array(logits)))[:, 0]
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=5e-6)
    # MLX's CPU backend adds one by one.
    by_mlx = np.array(NETWORKS["mlx"].log_normalizer(mx.array(logits)))[:, 0]
    np.testing.assert_allclose(by_mlx, expected, rtol=2e-6, atol=5e-4)


def test_flat_logits_over_the_vocabulary_keep_their_tail():
    """Adding 51,864 equal numbers one by one in float32 loses 4e-4."""
    actual = np.array(NETWORKS["numpy"].log_normalizer(mx.zeros((2, 51_864))))
    np.testing.assert_allclose(actual, np.log(51_864), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("machine", "dtype", "backend", "kind"),
    [
        ("x86_64", mx.float32, "auto", NumpyWhisper),
        ("x86_64", mx.float32, "mlx", Whisper),
        ("x86_64", mx.float16, "auto", Whisper),
        ("x86_64", mx.bfloat16, "auto", Whisper),
        ("arm64", mx.float32, "auto", Whisper),
        ("arm64", mx.float32, "numpy", NumpyWhisper),
    ],
)
def test_numpy_computes_on_x86_in_float32_unless_told_otherwise(
    machine, dtype, backend, kind, monkeypatch
):
    """Arm processors have vector instructions in MLX; half precision is MLX's."""
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu, 0))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert type(make_network(tiny_random_whisper(width=16), dtype, backend)) is kind


def test_a_backend_that_cannot_work_is_refused_with_the_reason(monkeypatch):
    """Half precision, packed weights, a GPU."""
    weights = tiny_random_whisper()
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.cpu, 0))
    with pytest.raises(InvalidSettings, match=r"worker.backend.*float16 was asked for"):
        make_network(weights, mx.float16, "numpy")
    with pytest.raises(InvalidSettings, match=r"worker.backend.*packed"):
        make_network(quantize(weights, 4), mx.float32, "numpy")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu, 0))
    with pytest.raises(InvalidSettings, match=r"worker.backend.*GPU"):
        make_network(weights, mx.float32, "numpy")


@pytest.mark.parametrize("packed", ["all", "embedding", "mlp"])
def test_packed_weights_are_left_to_mlx(packed):
    """Also where only some layers of the decoder are packed."""
    weights = quantize(tiny_random_whisper(), 4)
    chosen = {"all": "", "embedding": "token_embedding", "mlp": "decoder.blocks.0.mlp"}[packed]
    arrays = dict(dequantize(weights, mx.float32).arrays)
    for name, array in weights.arrays.items():
        layer = name.rpartition(".")[0]
        if chosen in name and f"{layer}.scales" in weights.arrays:
            arrays[name] = array
    model = make_network(replace(weights, arrays=arrays), mx.float32)
    assert isinstance(model, Whisper)
    _, cache = model.prefill(mx.zeros((1, 1500, 64)), mx.array([[1, 2]]), mx.array([[1]]))
    logits, _ = model.decode_step(mx.array([3]), mx.array([1]), cache)
    assert mx.isfinite(logits).all().item()


def test_seconds_that_numpy_computes_are_counted():
    """The engine tells its own work from the device's by them; MLX's threads are waited for."""
    numpy, mlx = NETWORKS.values()
    before, started = numpy.busy_s, time.perf_counter()
    numpy.encode_audio(mx.zeros((1, 3000, 80)))
    assert 0 < numpy.busy_s - before <= time.perf_counter() - started
    assert mlx.busy_s == 0
