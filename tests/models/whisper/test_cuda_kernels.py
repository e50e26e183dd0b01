"""A network driven as on CUDA, whose kernels are played by their twins; the real ones: tests/cuda.

What is tested is everything around the kernels: that caches lie as they are written to, that rows
which join, leave and move keep them, and that nothing which varies is compiled in.
"""

import random

import mlx.core as mx
import numpy as np
import pytest

from tests.device.test_decoder import EOT, SOT, outcome, run_queue
from tests.stage.tiny_models import tiny_random_whisper
from worker.device.decoder import Decoder
from worker.device.row import Row
from worker.device.top_tokens import top_tokens
from worker.device.warm_up import warm_up
from worker.models.whisper import layers, step_kernels
from worker.models.whisper.cuda import attention, norm
from worker.models.whisper.cuda import top_tokens as cuda_top_tokens
from worker.models.whisper.network import Whisper


def contiguous(array):
    """Return an array as a kernel reads it, and whether MLX copied it for that."""
    mx.eval(array)
    held = np.asarray(array)
    return held if held.flags.c_contiguous else np.ascontiguousarray(held)


def play_add_and_norm(inputs, template):
    x, added, weight, bias = inputs
    total = x + added
    wide = mx.fast.layer_norm(total.astype(mx.float32), weight, bias, 1e-5)
    return total, wide.astype(template["OUT"])


def play_gelu(inputs, template):
    return (layers._gelu(inputs[0]),)


def play_own_attention(inputs, template):
    qkv, keys, values, positions = inputs
    _, k, v = layers.split_qkv(qkv, keys.shape[1])
    at = np.minimum(np.array(positions).reshape(-1), keys.shape[2] - 1)
    for cache, new in ((keys, k), (values, v)):
        # In their place, if they lie in one piece; else, as MLX would, in a copy that is forgotten.
        contiguous(cache)[np.arange(len(at)), :, at] = np.array(new)[:, :, 0]
    q = layers.split_heads(qkv[..., : qkv.shape[-1] // 3], keys.shape[1])
    mask = layers.up_to(mx.array(at)[:, None, None, None], keys.shape[2])
    return (layers.merge_heads(layers.attention(q, keys, values, mask)),)


def play_audio_attention(inputs, template):
    queries, keys, values = inputs
    q = layers.split_heads(queries, keys.shape[1])
    return (layers.merge_heads(layers.attention(q, keys, values, None)),)


def play_top_tokens(inputs, template):
    logits, *others = inputs
    names = (*cuda_top_tokens._OF_STATE, *cuda_top_tokens._OF_RULES)
    arrays = dict(zip(names, others, strict=True))
    for each in (logits, arrays["masks"]):
        mx.eval(each)
        assert np.asarray(each).strides[-1] == each.dtype.size
    first = arrays["begin"].min().item()
    arrays["tail_ids"] = mx.arange(min(first, logits.shape[1]), logits.shape[1])
    return top_tokens(logits, arrays, arrays, template["COUNT"], step_kernels.log_normalizer)


PLAYED = {
    "add_and_norm": play_add_and_norm,
    "gelu": play_gelu,
    "own_attention": play_own_attention,
    "audio_attention": play_audio_attention,
    "top_tokens": play_top_tokens,
}

KEPT = (
    attention._kernel,
    cuda_top_tokens._kernel,
    norm._add_and_norm_kernel,
    norm._gelu_kernel,
)


@pytest.fixture
def compiled(monkeypatch):
    """Play CUDA; return the kernels that were asked for, with what is compiled into them."""
    asked = set()

    def cuda_kernel(name, inputs, outputs, source, header="", **_):
        def call(*, inputs, template, grid, threadgroup, output_shapes, output_dtypes):
            asked.add((name, tuple(template), tuple(each.dtype for each in inputs)))
            assert all(size % each == 0 for size, each in zip(grid, threadgroup, strict=True))
            results = PLAYED[name](inputs, dict(template))
            shaped = [
                each.reshape(shape) for each, shape in zip(results, output_shapes, strict=True)
            ]
            assert [each.dtype for each in shaped] == list(output_dtypes)
            return shaped

        return call

    monkeypatch.setattr(mx.fast, "cuda_kernel", cuda_kernel)
    monkeypatch.setattr(layers, "on_cuda", lambda: True)
    monkeypatch.setattr(step_kernels, "on_cuda", lambda: True)
    for cached in KEPT:
        cached.cache_clear()
    yield asked
    for cached in KEPT:
        cached.cache_clear()


def rows_of(model, states):
    """Return windows with prompts of many lengths, up to where the context ends."""
    choose = random.Random(0)
    return [
        Row(
            prompt=(*range(1, choose.choice((3, 30, 200, 440))), SOT),
            encoder_states=states[number % len(states)],
            eos=frozenset([EOT]),
            max_tokens=choose.randint(1, 4),
            rules=model.default_rules,
        )
        for number in range(9)
    ]


def states_of(model):
    return list(model.encode_audio(mx.random.normal((3, 3000, 80), key=mx.random.key(1))))


def decoded(model, states):
    """Decode the windows, a few at once."""
    return run_queue(Decoder(model, 4), rows_of(model, states))


def test_rows_are_those_of_mlx_s_own_operations(compiled):
    """To the bit: a cache that were not written in its place would change every token after."""
    weights = tiny_random_whisper(heads=1, layers=1, dtype=mx.float16)
    played = Whisper(weights, mx.float16)
    plain = Whisper(weights, mx.float16)
    plain._kernels = step_kernels.PlainKernels()
    assert isinstance(played._kernels, step_kernels.CudaKernels)
    states = states_of(plain)
    assert np.allclose(np.array(states[0]), np.array(states_of(played)[0]), atol=2e-2)
    found, wanted = ([outcome(row) for row in decoded(model, states)] for model in (played, plain))
    assert [each[0] for each in found] == [each[0] for each in wanted]
    assert {name for name, *_ in compiled} == {*PLAYED}


def test_warming_up_compiles_all_that_decoding_needs(compiled, monkeypatch):
    """A kernel takes seconds to be compiled: the first recordings would wait."""
    for module in ("worker.device.warm_up", "worker.models.whisper.family"):
        monkeypatch.setattr(f"{module}.on_gpu", lambda: True)
    model = Whisper(tiny_random_whisper(heads=1, layers=1, dtype=mx.float16), mx.float16)
    states = states_of(model)
    decoder = Decoder(model, 4)
    warm_up(decoder, states[0], num_beams=2)
    built = set(compiled)
    assert len(built) <= 10
    run_queue(decoder, rows_of(model, states))
    assert set(compiled) == built


def test_heads_of_another_size_and_full_precision_are_left_to_mlx(compiled):
    """Tiny test models, and checkpoints that nobody has made yet."""
    for weights, dtype in (
        (tiny_random_whisper(dtype=mx.float16), mx.float16),
        (tiny_random_whisper(heads=1), mx.float32),
    ):
        kernels = Whisper(weights, dtype)._kernels
        assert type(kernels) is step_kernels.PlainKernels
    assert not compiled
