"""The network's layers: each way of computing them gives the same numbers."""

import math
import time
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from tests.stage.tiny_models import tiny_random_whisper
from worker.device import cpu_math
from worker.models.whisper import layers
from worker.models.whisper.layers import gelu
from worker.models.whisper.network import Whisper
from worker.models.whisper.weights.convert import dequantize, quantize


def exact_gelu(x):
    return np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x])


@pytest.mark.parametrize(("dtype", "relative"), [(mx.float16, 1e-3), (mx.float32, 1e-4)])
def test_gelu_keeps_what_is_left_below_zero(dtype, relative):
    """1 + erf is near 0 there: nn.gelu of float16 is off by up to a third of the result."""
    x = mx.linspace(-3.5, 3.5, 1001).astype(dtype)
    wanted = exact_gelu(np.array(x.astype(mx.float32), np.float64))
    found = np.array(gelu(x).astype(mx.float32))
    assert gelu(x).dtype == dtype
    assert np.allclose(found, wanted, rtol=relative, atol=1e-6)


@pytest.mark.parametrize("kind", ["free", "masked", "causal"])
def test_asking_twice_reads_the_same(kind):
    """The CUDA path for one query, which any backend can compute."""
    keys = mx.random.split(mx.random.key(0), 3)
    q = mx.random.normal((3, 2, 1, 8), key=keys[0])
    k, v = (mx.random.normal((3, 2, 20, 8), key=key) for key in keys[1:])
    lengths = mx.array([1, 7, 20])[:, None, None, None]
    is_seen = mx.arange(20)[None, None, None] < lengths
    mask = {"free": None, "masked": is_seen, "causal": "causal"}[kind]
    found = layers._single_query_on_cuda(q, k, v, mask)
    wanted = mx.fast.scaled_dot_product_attention(q, k, v, scale=8**-0.5, mask=mask)
    assert found.shape == (3, 2, 1, 8)
    assert mx.allclose(found, wanted, rtol=1e-5, atol=1e-6).item()


@pytest.mark.parametrize("num_queries", [1, 5, 96])
@pytest.mark.parametrize("rows", [1, 3])
def test_numpy_reads_as_the_fused_kernel_does(num_queries, rows, monkeypatch):
    """Rows shared out among threads, or heads and blocks of queries, the last one shorter."""
    monkeypatch.setattr(cpu_math, "QUERIES_PER_BLOCK", 40)
    keys = mx.random.split(mx.random.key(1), 3)
    q = mx.random.normal((rows, num_queries, 2, 16), key=keys[0]).swapaxes(1, 2)
    k, v = (mx.random.normal((rows, 2, 96, 16), key=key) for key in keys[1:])
    found = cpu_math.attention(q, k, v)
    wanted = mx.fast.scaled_dot_product_attention(q, k, v, scale=16**-0.5)
    assert found.shape == (rows, 2, num_queries, 16)
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 4, 96])
def test_numpy_reads_only_what_came_before(length, monkeypatch):
    """In blocks of queries, too."""
    monkeypatch.setattr(cpu_math, "QUERIES_PER_BLOCK", 40)
    keys = mx.random.split(mx.random.key(4), 3)
    q, k, v = (mx.random.normal((2, 2, length, 16), key=key) for key in keys)
    found = cpu_math.attention(q, k, v, "causal")
    wanted = mx.fast.scaled_dot_product_attention(q, k, v, scale=16**-0.5, mask="causal")
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", range(1, cpu_math.FEW_ROWS + 1))
@pytest.mark.parametrize("height", [1, 2, 1000, 5003])
def test_few_rows_are_multiplied_by_blocks_of_a_weight(num_rows, height):
    """Also where the blocks leave a rest, and where there is less than one block."""
    x = mx.random.normal((num_rows, 24), key=mx.random.key(2))
    weight = mx.random.normal((height, 24), key=mx.random.key(3))
    found = np.array(cpu_math.project(x, weight, weight.T), np.float64)
    wanted = np.array(x, np.float64) @ np.array(weight, np.float64).T
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 3, 8, 9])
@pytest.mark.parametrize(("size", "width"), [(24, 5), (24, 1001), (1001, 24), (1536, 1024)])
@pytest.mark.parametrize("is_laid_out", [False, True])
def test_a_linear_layer_gives_the_same_by_numpy(num_rows, size, width, is_laid_out):
    """However its weight lies in memory, shared out among threads or not, few rows and more."""
    mx.random.seed(num_rows)
    layer = layers.Linear(size, width)
    x = mx.random.normal((num_rows, 1, size))
    wanted = np.array(layer(x))
    if is_laid_out:
        layers.lay_out_for_numpy(layer)
        mx.eval(layer.weight)
        strides = np.asarray(layer.weight).strides
        assert strides == ((4, 4 * width) if width > size else (4 * size, 4))
    assert layer.weight.shape == (width, size)
    found = layer(np.array(x))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_normalised_row_is_the_same_by_numpy():
    """Also one that varies little about a large mean."""
    layer = layers.Norm(384)
    layer.weight, layer.bias = mx.random.normal((2, 384), key=mx.random.key(5))
    x = mx.random.normal((2, 1, 384), key=mx.random.key(6))
    x = mx.concatenate([x, 50 + 0.1 * x])
    np.testing.assert_allclose(layer(np.array(x)), np.array(layer(x)), rtol=1e-3, atol=1e-4)


def test_gelu_of_few_is_exact_too():
    """Far out on both sides as well."""
    x = np.linspace(-9, 9, 2001, dtype=np.float32)
    np.testing.assert_allclose(gelu(x), exact_gelu(x.astype(np.float64)), rtol=1e-4, atol=1e-6)


def test_a_query_sees_its_own_row_up_to_its_position():
    """The same places of the same rows, whichever library reads them."""
    keys = mx.random.split(mx.random.key(7), 3)
    q = mx.random.normal((3, 2, 1, 16), key=keys[0])
    k, v = (mx.random.normal((3, 2, 40, 16), key=key) for key in keys[1:])
    positions = mx.array([0, 12, 39])[:, None, None, None]
    mask = layers.up_to(positions, 40)
    wanted = mx.fast.scaled_dot_product_attention(q, k, v, scale=16**-0.5, mask=mask)
    mask = layers.up_to(np.array(positions), 40)
    assert isinstance(mask, np.ndarray)
    found = layers.attention(np.array(q), k, v, mask)
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-4, atol=1e-5)


def test_a_step_is_written_at_each_row_s_own_position():
    """In place where NumPy computes the step."""
    rows = mx.random.normal((3, 2, 10, 4), key=mx.random.key(8))
    new = mx.random.normal((3, 2, 1, 4), key=mx.random.key(9))
    positions = mx.array([0, 9, 4])[:, None, None, None]
    wanted = np.array(layers.put(rows + 0, positions, new))
    found = layers.put(rows, np.array(positions), np.array(new))
    assert found is rows
    assert np.array_equal(np.array(rows), wanted)
    assert np.array_equal(wanted[1, :, 9], np.array(new)[1, :, 0])


@pytest.mark.parametrize("rows", [1, 3])
def test_steps_by_numpy_give_what_mlx_gives(rows, monkeypatch):
    """Whole steps of the network: logits and cache, each row at its own position."""
    weights, drawn = tiny_random_whisper(), np.random.default_rng(0)
    prompts = mx.array(drawn.integers(0, 50_000, (rows, 4)), mx.int32)
    tokens = mx.array(drawn.integers(0, 50_000, (6, rows)), mx.int32)
    mel = mx.array(drawn.normal(0, 1, (rows, 3000, 80)), mx.float32)
    outcomes = []
    for by_numpy in (True, False):
        monkeypatch.setattr(cpu_math, "is_useful", lambda value=by_numpy: value)
        model = Whisper(weights)
        assert model.decoder.steps_in_numpy == by_numpy
        # Rows have read two, three and four tokens of their prompts.
        at = mx.minimum(mx.arange(rows) + 1, 3)
        _, cache = model.prefill(model.encode_audio(mel), prompts, at[:, None])
        cache, logits = model.resize_cache(cache, 12), None
        for step, each in enumerate(tokens):
            logits, cache = model.decode_step(each, at + 1 + step, cache)
        places = [np.array(array) for pair in cache["self"] for array in pair]
        outcomes.append([np.array(logits), *places])
    for found, wanted in zip(*outcomes, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("packed", ["all", "embedding", "mlp"])
def test_packed_weights_are_left_to_mlx(packed, monkeypatch):
    """Also where only some layers of the decoder are packed."""
    monkeypatch.setattr(cpu_math, "is_useful", lambda: True)
    weights = quantize(tiny_random_whisper(), 4)
    chosen = {"all": "", "embedding": "token_embedding", "mlp": "decoder.blocks.0.mlp"}[packed]
    arrays = dict(dequantize(weights, mx.float32).arrays)
    for name, array in weights.arrays.items():
        layer = name.rpartition(".")[0]
        if chosen in name and f"{layer}.scales" in weights.arrays:
            arrays[name] = array
    model = Whisper(replace(weights, arrays=arrays))
    assert not model.decoder.steps_in_numpy
    _, cache = model.prefill(mx.zeros((1, 1500, 64)), mx.array([[1, 2]]), mx.array([[1]]))
    logits, _ = model.decode_step(mx.array([3]), mx.array([1]), cache)
    assert mx.isfinite(logits).all().item()


def test_what_a_thread_cannot_do_is_heard_of(monkeypatch):
    """An error in any of the threads ends the call."""

    def fail(*_arguments):
        raise MemoryError

    monkeypatch.setattr(cpu_math, "_attend", fail)
    q = mx.zeros((2, 2, 96, 16))
    with pytest.raises(MemoryError):
        cpu_math.attention(q, q, q)


def test_the_stopwatch_counts_what_numpy_computes(monkeypatch):
    """The engine tells its own work from the device's by it; a call within one counts once."""
    monkeypatch.setattr(cpu_math, "is_useful", lambda: True)
    before = cpu_math.stopwatch.total_s
    started = time.perf_counter()
    read = cpu_math.stopwatch.counts(lambda x: cpu_math.attention(x, x, x))
    read(mx.zeros((1, 4, 500, 64)))
    assert 0 < cpu_math.stopwatch.total_s - before <= time.perf_counter() - started
