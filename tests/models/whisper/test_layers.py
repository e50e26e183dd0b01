"""The MLX network's layers: each way of computing them gives the same numbers."""

import math

import mlx.core as mx
import numpy as np
import pytest

from worker.models.whisper import layers
from worker.models.whisper.layers import gelu


def exact_gelu(x):
    return np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x])


@pytest.mark.parametrize("compute", [gelu, layers._compiled_gelu])
@pytest.mark.parametrize(("dtype", "relative"), [(mx.float16, 1e-3), (mx.float32, 1e-4)])
def test_gelu_keeps_what_is_left_below_zero(dtype, relative, compute):
    """1 + erf is near 0 there: nn.gelu of float16 is off by up to a third of the result."""
    x = mx.linspace(-3.5, 3.5, 1001).astype(dtype)
    wanted = exact_gelu(np.array(x.astype(mx.float32), np.float64))
    found = np.array(compute(x).astype(mx.float32))
    assert compute(x).dtype == dtype
    assert np.allclose(found, wanted, rtol=relative, atol=1e-6)


@pytest.mark.parametrize("num_beams", [2, 5])
def test_beams_read_the_same_through_masks_that_are_added(num_beams, monkeypatch):
    """As CUDA's kernels like them, in half precision: what no ancestor had weighs nothing."""
    keys = mx.random.split(mx.random.key(0), 4)
    length = 12
    q = mx.random.normal((2, 3, num_beams, 8), key=keys[0]).astype(mx.float16)
    shape = (2, 3, length * num_beams, 8)
    k, v = (mx.random.normal(shape, key=key).astype(mx.float16) for key in keys[1:3])
    ancestors = mx.random.randint(0, num_beams, (2, num_beams, length), key=keys[3])
    positions = mx.array([[4], [11]]) + mx.zeros((2, num_beams), mx.int32)
    mask = layers.own_and_ancestors(positions, ancestors)
    assert mask.sum(axis=-1).tolist() == [[[5] * num_beams], [[12] * num_beams]]
    wanted = layers.attention(q, k, v, mask)
    monkeypatch.setattr(layers, "on_cuda", lambda: True)
    found = layers.attention(q, k, v, mask)
    assert mx.allclose(found, wanted, rtol=1e-2, atol=2e-3).item()


def test_a_step_is_written_at_each_row_s_own_position():
    """And nowhere else."""
    rows = mx.random.normal((3, 2, 10, 4), key=mx.random.key(8))
    new = mx.random.normal((3, 2, 1, 4), key=mx.random.key(9))
    before, places = np.array(rows), [0, 9, 4]
    found = np.array(layers.put(rows, mx.array(places)[:, None, None, None], new))
    for row, place in enumerate(places):
        before[row, :, place] = np.array(new)[row, :, 0]
    assert np.array_equal(found, before)
