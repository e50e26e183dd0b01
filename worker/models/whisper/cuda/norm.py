"""A residual stream's sum and its normalisation in one launch, and GELU at the memory's speed.

Shapes: D width.
"""

import functools
from typing import Any

import mlx.core as mx

from worker.models.numpy_math import GELU_P

_THREADS = 256
_ROWS_PER_BLOCK = _THREADS // 32
_PER_THREAD = 8

HEADER = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>

// Eight numbers that lie side by side are read and written at once.
template <typename T>
struct alignas(8 * sizeof(T) < 16 ? 8 * sizeof(T) : 16) Eight {
  T numbers[8];
};
"""

# A warp adds and normalises a row, which stays in its registers; rows are read once.
_ADD_AND_NORM = r"""
  constexpr int PARTS = (WIDTH / 8 + 31) / 32;
  const int row = blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= x_shape[0]) return;
  const long start = row * long(WIDTH);
  float held[PARTS][8];
  float sum = 0;
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    const int at = (part * 32 + lane) * 8;
    if (at >= WIDTH) continue;
    const auto own = *reinterpret_cast<const Eight<X>*>(x + start + at);
    const auto more = *reinterpret_cast<const Eight<T>*>(added + start + at);
    Eight<X> both;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      both.numbers[i] = static_cast<X>(
          static_cast<float>(own.numbers[i]) + static_cast<float>(more.numbers[i]));
      held[part][i] = static_cast<float>(both.numbers[i]);
      sum += held[part][i];
    }
    *reinterpret_cast<Eight<X>*>(total + start + at) = both;
  }
  for (int other = 16; other > 0; other /= 2) sum += __shfl_xor_sync(~0u, sum, other);
  const float mean = sum / WIDTH;
  float squares = 0;
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    if ((part * 32 + lane) * 8 >= WIDTH) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) squares += (held[part][i] - mean) * (held[part][i] - mean);
  }
  for (int other = 16; other > 0; other /= 2) squares += __shfl_xor_sync(~0u, squares, other);
  const float scale = rsqrtf(squares / WIDTH + 1e-5f);
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    const int at = (part * 32 + lane) * 8;
    if (at >= WIDTH) continue;
    const auto by = *reinterpret_cast<const Eight<T>*>(weight + at);
    const auto plus = *reinterpret_cast<const Eight<T>*>(bias + at);
    Eight<OUT> result;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      result.numbers[i] = static_cast<OUT>(
          (held[part][i] - mean) * scale * static_cast<float>(by.numbers[i])
          + static_cast<float>(plus.numbers[i]));
    }
    *reinterpret_cast<Eight<OUT>*>(normed + start + at) = result;
  }
"""

_GELU = r"""
  const long at = (blockIdx.x * long(THREADS) + threadIdx.x) * 8;
  if (at >= x_shape[0]) return;
  auto eight = *reinterpret_cast<const Eight<T>*>(x + at);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float number = static_cast<float>(eight.numbers[i]);
    const float squared = number * number;
    const float power = number * (POLYNOMIAL);
    eight.numbers[i] = static_cast<T>(__fdividef(number, 1.0f + __expf(power)));
  }
  *reinterpret_cast<Eight<T>*>(gated + at) = eight;
"""


def _polynomial(coefficients: tuple[float, ...]) -> str:
    """Return the source of P(x x) by Horner's scheme, the lowest power first."""
    lowest, *higher = (f"{each!r}f" for each in coefficients)
    return f"{lowest} + squared * ({_polynomial(coefficients[1:])})" if higher else lowest


@functools.cache
def _add_and_norm_kernel() -> Any:
    names = ["x", "added", "weight", "bias"], ["total", "normed"]
    return mx.fast.cuda_kernel("add_and_norm", *names, _ADD_AND_NORM, HEADER)


@functools.cache
def _gelu_kernel() -> Any:
    source = _GELU.replace("POLYNOMIAL", _polynomial(GELU_P))
    return mx.fast.cuda_kernel("gelu", ["x"], ["gated"], source, HEADER)


def fits(width: int) -> bool:
    """Return whether rows so wide can be read eight numbers at a time."""
    return width % _PER_THREAD == 0


def add_and_norm(
    x: mx.array, added: mx.array, weight: mx.array, bias: mx.array, dtype: mx.Dtype
) -> tuple[mx.array, mx.array]:
    """Return x + added, and its layer normalisation; numbers are summed in float32.

    Args:
        x: The residual stream, (..., D), half or float32; D is a multiple of eight.
        added: Of x's shape, half.
        weight: Of the normalisation, (D,), of the same type as what is added.
        bias: Of the normalisation, (D,), of the same type.
        dtype: Of what is normalised.

    Returns:
        The sum (..., D) in x's type, and it normalised.
    """
    width = x.shape[-1]
    rows = x.size // width
    total, normed = _add_and_norm_kernel()(
        inputs=[x.reshape(rows, width), added.reshape(rows, width), weight, bias],
        template=[
            ("WIDTH", width),
            ("ROWS_PER_BLOCK", _ROWS_PER_BLOCK),
            ("X", x.dtype),
            ("T", added.dtype),
            ("OUT", dtype),
        ],
        grid=(-(-rows // _ROWS_PER_BLOCK) * _THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[x.shape, x.shape],
        output_dtypes=[x.dtype, dtype],
    )
    return total, normed


def gelu(x: mx.array) -> mx.array:
    """Return the exact (erf) GELU of half numbers, as many as a multiple of eight.

    The normal distribution is 1 / (1 + exp(x P(x x))); see `worker.models.numpy_math`.
    """
    [gated] = _gelu_kernel()(
        inputs=[x.reshape(-1)],
        # Nothing that varies from batch to batch: each template is compiled for seconds.
        template=[("THREADS", _THREADS), ("T", x.dtype)],
        grid=(-(-x.size // _PER_THREAD // _THREADS) * _THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    result: mx.array = gated
    return result
