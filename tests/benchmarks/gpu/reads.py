"""What it costs to read a step's few numbers while the device has the next steps to do, and to send audio.

    python -m tests.benchmarks.gpu.reads [--rows 192] [--steps 200]

On CUDA an array is read through managed memory: MLX allocates it, copies to it and waits, or takes one
that was read before, whose pages then move to and fro. `apart` reads two arrays, as a greedy step has;
`packed` joins them on the device first; `padded` to a size that no other array has, so that only one
piece of memory ever moves; `by_cpu` lets MLX's own CPU thread copy the joined one. For each: milliseconds
a step, and those of them in which the reading thread was busy with reading. `sent` is a block of 30 s of
audio that the device then sums up, as MLX does it and as we do: milliseconds a block, and of the thread.
"""

import time
from collections import deque

import mlx.core as mx
import numpy as np

from tests.benchmarks.gpu.shapes import RATE_HZ, WINDOW_S, leave, parser, tell
from worker.device.sending import send

WIDTH = {"turbo": 4096, "tiny": 64}
PRODUCTS = 6  # some milliseconds on an H200
AHEAD = 3
PADDED = 20_480  # 80 KB: MLX hands out larger arrays in pages of 16 KB, and smaller ones by size


def step(matrix, x):
    """Return a matrix that the next step starts from, and two arrays (rows,) to read."""
    for _ in range(PRODUCTS):
        x = (x @ matrix) * (1 / matrix.shape[0])
    return x, mx.argmax(x, axis=-1).astype(mx.int32), x.max(axis=-1).astype(mx.float32)


def packed(tokens, logprobs):
    return mx.stack([tokens, logprobs.view(mx.int32)])


def padded(tokens, logprobs):
    joined = packed(tokens, logprobs).reshape(-1)
    return mx.pad(joined, [(0, PADDED - joined.size)])


WAYS = {
    "apart": lambda tokens, logprobs: (tokens, logprobs),
    "packed": lambda tokens, logprobs: (packed(tokens, logprobs),),
    "padded": lambda tokens, logprobs: (padded(tokens, logprobs),),
    "by_cpu": lambda tokens, logprobs: (mx.add(packed(tokens, logprobs), 0, stream=mx.cpu),),
}


def measured(way, matrix, rows, steps):
    """Return (milliseconds a step, milliseconds of it that reading kept the thread busy)."""
    x, waiting, reading_s = mx.random.normal((rows, matrix.shape[0])), deque(), 0.0
    for number in range(2 * steps):
        if number == steps:  # the first half warms up
            started, reading_s = time.perf_counter(), 0.0
        x, tokens, logprobs = step(matrix, x)
        read = way(tokens, logprobs)
        mx.async_eval(x, *read)
        waiting.append(read)
        if len(waiting) > AHEAD:
            oldest = waiting.popleft()
            mx.eval(*oldest)
            began = time.perf_counter()
            for each in oldest:
                np.array(each).tolist()
            reading_s += time.perf_counter() - began
    return [round(1e3 * each / steps, 3) for each in (time.perf_counter() - started, reading_s)]


def sent(way, blocks):
    """Return (milliseconds a block, milliseconds of it that sending kept the thread busy)."""
    block, sums, sending_s = np.zeros(WINDOW_S * RATE_HZ, np.float32), [], 0.0
    for number in range(2 * blocks):
        if number == blocks:
            mx.eval(sums)
            started, sums, sending_s = time.perf_counter(), [], 0.0
        began = time.perf_counter()
        samples = way(block)
        sending_s += time.perf_counter() - began
        sums.append(samples.sum())
        mx.async_eval(sums[-1])
    mx.eval(sums)
    return [round(1e3 * each / blocks, 3) for each in (time.perf_counter() - started, sending_s)]


def main():
    flags = parser(__doc__)
    flags.add_argument("--rows", type=int, default=192)
    flags.add_argument("--steps", type=int, default=200)
    arguments = flags.parse_args()
    width = WIDTH[arguments.shapes]
    matrix = mx.random.normal((width, width))
    for name, way in WAYS.items():
        tell({name: measured(way, matrix, arguments.rows, arguments.steps)})
    for name, way in {"by MLX": mx.array, "by us": send}.items():
        tell({f"sent {name}": sent(way, arguments.steps)})
    leave()


if __name__ == "__main__":
    main()
