"""Products, sums and attention in NumPy: MLX and float64 give the same numbers."""

import math
import os
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from worker.models import numpy_math
from worker.models.numpy_layers import (
    MOST_BY_COLUMNS,
    Linear,
    Norm,
    by_columns,
    for_few_rows,
    linear_for_few_rows,
)
from worker.models.numpy_math import (
    FEW_ROWS,
    GELU_BLOCK,
    MANY_ROWS,
    Threads,
    attend_by,
    attention,
    blocks,
    gather,
    gelu,
    product,
)

THREADS = Threads(3)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def minus_infinity(where):
    return np.where(where, np.float32(-np.inf), np.float32(0))


def read_by_mlx(q, k, v, mask=None):
    """Return the heads of MLX's fused attention merged; queries are scaled already."""
    read = mx.fast.scaled_dot_product_attention(*map(mx.array, (q, k, v)), scale=1.0, mask=mask)
    return np.array(read.swapaxes(1, 2).reshape(q.shape[0], q.shape[2], -1))


@pytest.mark.parametrize("num_queries", [1, 5, 96])
@pytest.mark.parametrize("rows", [1, 3])
def test_numpy_reads_as_the_fused_kernel_does(num_queries, rows, monkeypatch):
    """Rows shared out among threads, or heads and blocks of queries, the last one shorter."""
    monkeypatch.setattr(numpy_math, "QUERIES_PER_BLOCK", 40)
    q = normal(0, rows, num_queries, 2, 16).swapaxes(1, 2)
    k, v = normal(1, rows, 2, 96, 16), normal(2, rows, 2, 96, 16)
    found = attention(q, k, v, None, THREADS)
    assert found.shape == (rows, num_queries, 32)
    np.testing.assert_allclose(found, read_by_mlx(q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 4, 96])
def test_numpy_reads_only_what_came_before(length, monkeypatch):
    """In blocks of queries, too."""
    monkeypatch.setattr(numpy_math, "QUERIES_PER_BLOCK", 40)
    q, k, v = normal(3, 3, 2, 2, length, 16)
    later = minus_infinity(np.triu(np.ones((length, length), bool), 1))
    found = attention(q, k, v, later, THREADS)
    np.testing.assert_allclose(found, read_by_mlx(q, k, v, "causal"), rtol=1e-4, atol=1e-5)


def test_a_query_sees_its_own_row_up_to_its_position():
    """The same places of the same rows, whichever library reads them."""
    q, k, v = normal(4, 3, 2, 1, 16), normal(5, 3, 2, 40, 16), normal(6, 3, 2, 40, 16)
    unseen = np.arange(40) > np.array([0, 12, 39])[:, None, None, None]
    found = attention(q, k, v, minus_infinity(unseen), THREADS)
    wanted = read_by_mlx(q, k, v, mx.array(~unseen))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [*range(1, FEW_ROWS + 2), MANY_ROWS, MANY_ROWS + 1])
@pytest.mark.parametrize("height", [1, 2, 1000, 5003])
@pytest.mark.parametrize("is_by_columns", [False, True])
def test_rows_are_multiplied_by_blocks_of_a_weight(num_rows, height, is_by_columns):
    """Also where the blocks leave a rest, and where there is less than one block."""
    x, weight = normal(2, num_rows, 24), normal(3, height, 24)
    wanted = x.astype(np.float64) @ weight.astype(np.float64).T
    found = product(x, by_columns(weight) if is_by_columns else weight, THREADS)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, 3, 8, 9])
@pytest.mark.parametrize(("size", "width"), [(24, 5), (24, 1001), (1001, 24), (1536, 1024)])
@pytest.mark.parametrize("lay_out", [by_columns, for_few_rows])
def test_a_linear_layer_gives_what_mlx_gives(num_rows, size, width, lay_out):
    """However its weight lies in memory, shared out among threads or not, few rows and more."""
    mx.random.seed(num_rows)
    theirs = nn.Linear(size, width)
    x = normal(num_rows, num_rows, 1, size)
    ours = Linear(lay_out(np.array(theirs.weight)), np.array(theirs.bias))
    wanted = np.array(theirs(mx.array(x)))
    np.testing.assert_allclose(ours(x, THREADS), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.alone(x[:, 0]), wanted[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_rows", [1, MOST_BY_COLUMNS, MOST_BY_COLUMNS + 1, 9])
@pytest.mark.parametrize(("size", "width", "is_copied"), [(24, 1001, True), (1001, 24, False)])
def test_a_tall_weight_has_a_copy_for_the_fewest_rows(num_rows, size, width, is_copied):
    """They read it, and all others the weight itself; what they get is the same."""
    weight, bias = normal(1, width, size), normal(2, width)
    layer = linear_for_few_rows(weight, bias)
    assert (layer.columns is not None) is is_copied
    x = normal(3, num_rows, size)
    np.testing.assert_allclose(layer(x, THREADS), x @ weight.T + bias, rtol=1e-4, atol=1e-4)
    if is_copied:
        marked = Linear(np.zeros_like(weight), bias, layer.columns)
        reads_copy = not np.array_equal(
            marked(x, THREADS), np.broadcast_to(bias, (num_rows, width))
        )
        assert reads_copy is (num_rows <= MOST_BY_COLUMNS)


def test_a_normalised_row_is_what_mlx_gives():
    """Also one that varies little about a large mean."""
    theirs = nn.LayerNorm(384)
    theirs.weight, theirs.bias = mx.array(normal(5, 2, 384))
    x = normal(6, 2, 1, 384)
    x = np.concatenate([x, 50 + np.float32(0.1) * x])
    found = Norm(np.array(theirs.weight), np.array(theirs.bias))(x)
    np.testing.assert_allclose(found, np.array(theirs(mx.array(x))), rtol=1e-3, atol=1e-4)


@np.errstate(over="ignore")
def test_gelu_is_exact_in_float32():
    """The distribution within 1e-7; far out on both sides as well; in more than one block."""
    x = np.linspace(-9, 9, GELU_BLOCK + 5, dtype=np.float32)
    wanted = np.array([value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()])
    found = gelu(x.copy())
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    far = np.abs(x) > 0.1
    np.testing.assert_allclose(found[far] / x[far], wanted[far] / x[far], atol=1e-7)
    assert gelu(np.array([-1e4, 0.0, 1e4], np.float32)).tolist() == [0.0, 0.0, 1e4]


def test_what_a_thread_cannot_do_is_heard_of():
    """An error in any of the threads ends the call."""

    def fail(part):
        if part.start == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        THREADS.run(fail, [(part,) for part in blocks(9, 1)])


def test_every_part_is_computed_once_and_by_the_caller_too():
    """More parts than threads, and a single one."""
    for length in (1, 2, 50):
        done = []
        THREADS.run(
            lambda part, done=done: done.append(part.start), [(p,) for p in blocks(length, 1)]
        )
        assert sorted(done) == list(range(length))


def test_a_query_is_weighed_as_it_is_alone():
    """To the bit, whatever the weights of the query beside it are."""
    weights, v = normal(7, 2, 1, 20), normal(8, 2, 20, 4)
    weights[1] += 500
    together, alone = np.empty((2, 1, 4), np.float32), np.empty((1, 1, 4), np.float32)
    numpy_math.attend_by(weights.copy(), v, None, together)
    numpy_math.attend_by(weights[:1].copy(), v[:1], None, alone)
    assert np.array_equal(together[0], alone[0])


@pytest.mark.parametrize("shift", [0, 59, 61, -61, 500, -500])
def test_weights_of_any_size_are_shared_out(shift):
    """As without the shift, where exp alone would be infinite, or nothing."""
    weights, v = normal(7, 3, 20) + np.float32(shift), normal(8, 20, 4)
    exact = np.exp(weights.astype(np.float64) - shift)
    wanted = exact @ v / exact.sum(axis=-1, keepdims=True)
    read = np.empty((3, 4), np.float32)
    attend_by(weights, v, None, read)
    np.testing.assert_allclose(read, wanted, rtol=1e-3, atol=1e-4)


def test_places_are_gathered_row_by_row():
    """Each row's own, in any order, of several caches at once."""
    caches = normal(9, 2, 3, 2, 11, 4)
    places = np.array([[0, 10, 5], [7, 7, 1], [2, 3, 4]])
    for found, cache in zip(gather(caches, places, THREADS), caches, strict=True):
        for row, at in enumerate(places):
            np.testing.assert_array_equal(found[row], cache[row][:, at])


def test_numpy_multiplies_in_the_thread_that_asks_once_a_model_is_open():
    """In a process of its own, whatever the environment says: readers and listeners multiply, too."""
    code = (
        "import numpy, threadpoolctl\n"
        "from producer.errors import InvalidModel\n"
        "from producer.settings import Settings\n"
        "from worker.models.load import open_family\n"
        "counts = lambda: [each['num_threads'] for each in threadpoolctl.threadpool_info()"
        " if 'numpy' in each['filepath']]\n"
        "before = counts()\n"
        "try:\n"
        "    open_family(Settings(model={'name': '/nowhere'}))\n"
        "except InvalidModel:\n"
        "    print(before, counts())\n"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[2] [1]\n"
