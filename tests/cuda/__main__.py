"""Compare each CUDA kernel with its twin in MLX's own operations, on random and on hostile numbers.

    python -m tests.cuda [add_and_norm gelu own_attention audio_attention top_tokens sending]

Prints a line a comparison; ends with 1 at the first that fails. It needs an NVIDIA GPU, so that no
suite of a machine without one runs it.
"""

import os
import sys

import mlx.core as mx
import numpy as np
from mlx import nn

from producer.job import Options
from worker.device.backend import on_cuda, set_up_cuda
from worker.device.rules import NO_RULES, BatchedRules
from worker.device.sending import PINNED_BYTES, PinnedRing, _ring, send
from worker.models.whisper import layers
from worker.models.whisper.layers import Norm, up_to
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.step_kernels import CudaKernels, Places, PlainKernels
from worker.models.whisper.tokenizer import Tokenizer

PLAIN, CUDA = PlainKernels(), CudaKernels()
NUM_VOCAB = 51_866
HALVES = (mx.float16, mx.bfloat16)
# A unit in the last place of a number of about 2.
STEP_OF = {mx.float16: 2e-3, mx.bfloat16: 1.6e-2, mx.float32: 1e-5}


def close(name, found, wanted, tolerance):
    """Compare arrays and print the largest distance; NaN must be where it is wanted."""
    found, wanted = (np.array(each.astype(mx.float32)) for each in (found, wanted))
    assert found.shape == wanted.shape, (name, found.shape, wanted.shape)
    with np.errstate(invalid="ignore"):
        away = np.where(found == wanted, 0, np.abs(found - wanted) / np.maximum(1, np.abs(wanted)))
    alike = np.isnan(found) == np.isnan(wanted)
    largest = np.nanmax(np.where(np.isnan(wanted), 0, away))
    print(f"{name}: {largest:.1e}", flush=True)
    assert alike.all(), name
    assert largest <= tolerance, (name, largest, tolerance)


def check_add_and_norm():
    """Every width of OpenAI's models, streams in float32 and in half."""
    for width in (384, 512, 768, 1024, 1280):
        for dtype in HALVES:
            for stream, kind in (
                (mx.float32, Norm),
                (mx.float32, nn.LayerNorm),
                (dtype, nn.LayerNorm),
            ):
                norm = kind(width)
                norm.weight = mx.random.normal((width,)).astype(dtype)
                norm.bias = mx.random.normal((width,)).astype(dtype)
                x = (mx.random.normal((37, 3, width)) * 3).astype(stream)
                added = mx.random.normal((37, 3, width)).astype(dtype)
                wanted, found = (each.add_and_norm(x, added, norm) for each in (PLAIN, CUDA))
                name = f"add and norm {width} {stream} {dtype} {kind.__name__}"
                assert [each.dtype for each in found] == [each.dtype for each in wanted], name
                close(f"{name}: sum", found[0], wanted[0], 0)
                close(f"{name}: normed", found[1], wanted[1], 2 * STEP_OF[found[1].dtype])


def check_gelu():
    """Every half number there is, in float16; a wide range in bfloat16."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = mx.array(every[np.isfinite(every)]).reshape(-1, 8)
    for x in (finite, mx.linspace(-90, 90, 4096).astype(mx.bfloat16)):
        close(f"gelu {x.dtype}", layers.gelu(x), layers._compiled_gelu(x), STEP_OF[x.dtype])
    # What is left below zero is small: of that, too, no more than the last place is off.
    small = mx.linspace(-3.5, -0.01, 4096).astype(mx.float16)
    found, wanted = (
        each(small).astype(mx.float32) for each in (layers.gelu, layers._compiled_gelu)
    )
    close("gelu below zero, by its size", found / wanted, mx.ones(4096), 2e-3)


def check_own_attention():
    """Several steps after each other, each row at its own place, at the last place and beyond."""
    choose = np.random.default_rng(0)
    for places in (128, 256, 448):
        for dtype in HALVES:
            shape = (48, 6, places, 64)
            held = [[mx.random.normal(shape).astype(dtype) for _ in range(2)]]
            held.append(
                [mx.array(np.array(each.astype(mx.float32))).astype(dtype) for each in held[0]]
            )
            at = choose.integers(0, places, (48, 1))
            at[:3] = [[0], [places - 1], [places - 3]]
            for step in range(5):
                here = mx.array(np.minimum(at + step, places - 1).astype(np.int32))
                qkv = mx.random.normal((48, 1, 3 * 6 * 64)).astype(dtype)
                mask = up_to(here[:, :, None, None], places)
                read = []
                for each, kernels in zip(held, (PLAIN, CUDA), strict=True):
                    result = kernels.read_text(
                        qkv, *each, Places(here, here[:, :, None, None], mask)
                    )
                    mx.eval(result)
                    read.append(result[0])
                    each[:] = result[1:]
                close(f"own attention {places} {dtype} step {step}", *read[::-1], STEP_OF[dtype])
            close(f"own keys {places} {dtype}", held[1][0], held[0][0], 0)
            close(f"own values {places} {dtype}", held[1][1], held[0][1], 0)


def check_audio_attention():
    """One query and two; scores near and far apart."""
    for queries in (1, 2):
        for dtype in HALVES:
            for scale in (1, 8):
                q = (mx.random.normal((24, queries, 20 * 64)) * scale).astype(dtype)
                keys, values = (
                    mx.random.normal((24, 20, 1500, 64)).astype(dtype) for _ in range(2)
                )
                wanted, found = (each.read_audio(q, keys, values) for each in (PLAIN, CUDA))
                close(
                    f"audio attention {queries} {dtype} x{scale}", found, wanted, 2 * STEP_OF[dtype]
                )


def check_top_tokens():
    """All rules, none, ties, rows that stand apart in memory, and rows that hold no numbers."""
    tokenizer = Tokenizer(NUM_VOCAB, "en", "transcribe")
    for trial in range(8):
        choose = np.random.default_rng(trial)
        rules = [
            row_rules(tokenizer, Options()) if choose.random() < 0.7 else NO_RULES
            for _ in range(64)
        ]
        rules = BatchedRules(rules, NUM_VOCAB).arrays
        begin = tokenizer.timestamp_begin
        logits = choose.normal(0, 3, (64, NUM_VOCAB + 6)).astype(np.float32)
        logits[:, begin:] += choose.normal(2, 2, (64, 1))
        if trial % 2:
            logits = np.round(logits)
        logits[5], logits[6, 100], logits[7], logits[8, 3] = np.nan, np.nan, -np.inf, np.inf
        state = {
            "step": choose.integers(0, 3, 64).astype(np.int32),
            "ended": choose.random(64) < 0.5,
            "ended_before": choose.random(64) < 0.5,
            "last_timestamp": choose.integers(begin - 1, begin + 300, 64).astype(np.int32),
        }
        state = {name: mx.array(each) for name, each in state.items()}
        given = mx.array(logits)[:, :NUM_VOCAB]
        for count in (1, 6):
            wanted, found = (each.top_tokens(given, state, rules, count) for each in (PLAIN, CUDA))
            values, ids = (np.array(each) for each in wanted)
            is_good = np.isfinite(values[:, :1])
            rows = np.flatnonzero(is_good[:, 0])
            assert 30 < len(rows) < 64, len(rows)
            assert (np.isfinite(np.array(found[0])[:, 0]) == is_good[:, 0]).all(), trial
            name = f"top {count} tokens, trial {trial}"
            close(name, found[0][mx.array(rows)], wanted[0][mx.array(rows)], 1e-5)
            told = np.array(found[1])
            assert ((told >= 0) & (told < NUM_VOCAB)).all(), name
            alike = (told == ids)[rows] | ~np.isfinite(values[rows])
            assert alike.all(), (name, np.argwhere(~alike)[:5])


def check_sending():
    """All sizes, and more than the ring holds, while the device is far behind."""
    assert isinstance(_ring(), PinnedRing)
    choose = np.random.default_rng(0)
    late = mx.random.normal((8192, 8192))
    for _ in range(8):
        late = late @ late / 8192
    mx.async_eval(late)
    sizes = [1, 3, 4, 5, 480_240, 481_000, 7, *choose.integers(1, 600_000, 60).tolist()]
    sizes += [PINNED_BYTES // 8, PINNED_BYTES // 8 + 1, 30 * 480_000, 2 * 480_000]
    given = [choose.random(size, np.float32) for size in sizes]
    held = np.empty(max(sizes), np.float32)
    found = []
    for numbers in given:
        held[: numbers.size] = numbers  # as a reader's memory, which is used again at once
        found.append(send(held[: numbers.size]))
    for numbers, each in zip(given, found, strict=True):
        assert np.array_equal(np.array(each), numbers), numbers.size
    shaped = given[-1].reshape(2, 3, -1)
    assert np.array_equal(np.array(send(shaped)), shaped)
    print(f"sending: {len(sizes)} sizes are equal", flush=True)


def main():
    set_up_cuda(mx.float16)
    if not on_cuda():
        sys.exit("an NVIDIA GPU and MLX's CUDA build are needed")
    checks = {
        "add_and_norm": check_add_and_norm,
        "gelu": check_gelu,
        "own_attention": check_own_attention,
        "audio_attention": check_audio_attention,
        "top_tokens": check_top_tokens,
        "sending": check_sending,
    }
    asked = sys.argv[1:] or list(checks)
    for name in asked:
        checks[name]()
    print(f"like their twins: {', '.join(asked)}", flush=True)
    os._exit(0)  # MLX's CUDA build may abort in its own exit handlers


if __name__ == "__main__":
    main()
