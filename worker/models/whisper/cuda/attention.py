"""Attention of a decoder's step: few queries over many places, at the memory's speed.

Shapes: G windows of N queries each, H heads, S places, K = 64 numbers a head, D = H K.
"""

import functools
from typing import Any

import mlx.core as mx

from worker.models.whisper.cuda.norm import HEADER

HEAD_SIZE = 64
_THREADS = 256
# Places that a team has on their way at once, of keys and of values.
_AT_ONCE = 4

# A block reads one head of one window for all its queries. Eight threads read a place's 64 numbers,
# 16 bytes each, so that keys and values come at the memory's speed; 32 such teams share the places,
# each with a softmax of its own so far, which are put together at the end.
_ATTENTION = r"""
  constexpr int SIZE = 64, TEAMS = THREADS / 8;
  __shared__ float peaks[TEAMS], totals[TEAMS], sums[TEAMS][SIZE];
  const int head = blockIdx.x, window = blockIdx.y;
  const int team = threadIdx.x / 8, first = threadIdx.x % 8 * 8;
  const unsigned mates = 0xffu << (threadIdx.x % 32 / 8 * 8);
  const int places = keys_shape[2];
  SEEN
  const T* k = keys + (window * long(HEADS) + head) * places * SIZE + first;
  const T* v = values + (window * long(HEADS) + head) * places * SIZE + first;

  // Scores are powers of two: 2^(x log2(e)) is e^x.
  const float scale = 0.125f * 1.44269504f;
  float query[QUERIES][8], sum[QUERIES][8], peak[QUERIES], total[QUERIES];
#pragma unroll
  for (int n = 0; n < QUERIES; ++n) {
    const T* q = queries + (window * long(QUERIES) + n) * QUERY_STRIDE + head * SIZE + first;
    peak[n] = -INFINITY;
    total[n] = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      query[n][i] = static_cast<float>(q[i]) * scale;
      sum[n][i] = 0;
    }
  }

  for (int start = team; start < seen; start += TEAMS * AT_ONCE) {
    uint4 key[AT_ONCE], value[AT_ONCE];
#pragma unroll
    for (int u = 0; u < AT_ONCE; ++u) {
      const long at = min(start + u * TEAMS, seen - 1) * long(SIZE);
      key[u] = *reinterpret_cast<const uint4*>(k + at);
      value[u] = *reinterpret_cast<const uint4*>(v + at);
    }
#pragma unroll
    for (int n = 0; n < QUERIES; ++n) {
      float score[AT_ONCE], highest = peak[n];
#pragma unroll
      for (int u = 0; u < AT_ONCE; ++u) {
        const T* numbers = reinterpret_cast<const T*>(&key[u]);
        float dot = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) dot += query[n][i] * static_cast<float>(numbers[i]);
#pragma unroll
        for (int other = 4; other > 0; other /= 2) dot += __shfl_xor_sync(mates, dot, other);
        score[u] = start + u * TEAMS < seen ? dot : -INFINITY;
        highest = fmaxf(highest, score[u]);
      }
      const float kept = exp2f(peak[n] - highest);
      peak[n] = highest;
      total[n] *= kept;
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[n][i] *= kept;
#pragma unroll
      for (int u = 0; u < AT_ONCE; ++u) {
        const T* numbers = reinterpret_cast<const T*>(&value[u]);
        const float share = exp2f(score[u] - highest);
        total[n] += share;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[n][i] += share * static_cast<float>(numbers[i]);
      }
    }
  }

#pragma unroll
  for (int n = 0; n < QUERIES; ++n) {
    __syncthreads();
    if (first == 0) {
      peaks[team] = peak[n];
      totals[team] = total[n];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[team][first + i] = sum[n][i];
    __syncthreads();
    if (threadIdx.x < SIZE) {
      float highest = -INFINITY, all = 0, together = 0;
      for (int each = 0; each < TEAMS; ++each) highest = fmaxf(highest, peaks[each]);
      for (int each = 0; each < TEAMS; ++each) {
        const float share = exp2f(peaks[each] - highest);
        all += share * totals[each];
        together += share * sums[each][threadIdx.x];
      }
      read[((window * long(QUERIES) + n) * HEADS + head) * SIZE + threadIdx.x] =
          static_cast<T>(together / all);
    }
  }
"""


# A row's latest key and value are written to its place first, by the block that reads them.
_WRITE_LATEST = r"""
  const int place = min(positions[window], places - 1), seen = place + 1;
  if (threadIdx.x < 2 * SIZE) {
    const bool is_key = threadIdx.x < SIZE;
    const int at = threadIdx.x % SIZE;
    const long from = window * long(QUERY_STRIDE) + ((is_key ? 1 : 2) * HEADS + head) * SIZE + at;
    const long to = ((window * long(HEADS) + head) * places + place) * SIZE + at;
    const_cast<T*>(is_key ? keys : values)[to] = queries[from];
  }
  __syncthreads();
"""
_ALL_PLACES = "const int seen = places;"


@functools.cache
def _kernel(*, writes: bool) -> Any:
    inputs = ["queries", "keys", "values", *(["positions"] if writes else [])]
    name = "own_attention" if writes else "audio_attention"
    source = _ATTENTION.replace("SEEN", _WRITE_LATEST if writes else _ALL_PLACES)
    return mx.fast.cuda_kernel(name, inputs, ["read"], source, HEADER)


def own_attention(qkv: mx.array, keys: mx.array, values: mx.array, positions: mx.array) -> mx.array:
    """Write rows' latest keys and values to their caches; return what they read of them, (G, 1, D).

    The caches are written to where they are: MLX would copy them at every step, since steps that
    are still on their way hold them. Whoever reads them later must be handed to the same stream
    later, and MLX must not put kernels into CUDA graphs, which would order them by what it knows.

    Args:
        qkv: Queries, keys and values side by side, (G, 1, 3 D) half.
        keys: (G, H, S, K), held by nobody else.
        values: (G, H, S, K), held by nobody else.
        positions: Where the latest tokens belong, (G,) int32; places behind are not read.
    """
    read = _attention(_kernel(writes=True), [qkv, keys, values, positions])
    return read.reshape(qkv.shape[0], 1, -1)


def audio_attention(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """Return what windows read of their audio, (G, N, D).

    Args:
        queries: (G, N, D) half, of all rows of a window.
        keys: Of the window's audio, (G, H, S, K).
        values: Of the window's audio, (G, H, S, K).
    """
    return _attention(_kernel(writes=False), [queries, keys, values]).reshape(queries.shape)


def _attention(kernel: Any, inputs: list[mx.array]) -> mx.array:
    """Return what is read, (G N, D)."""
    queries, keys = inputs[:2]
    windows, heads, _, size = keys.shape
    num_queries = queries.shape[1]
    [read] = kernel(
        inputs=inputs,
        template=[
            ("T", keys.dtype),
            ("HEADS", heads),
            ("QUERIES", num_queries),
            ("QUERY_STRIDE", queries.shape[2]),
            ("THREADS", _THREADS),
            ("AT_ONCE", _AT_ONCE),
        ],
        grid=(heads * _THREADS, windows, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(windows * num_queries, heads * size)],
        output_dtypes=[keys.dtype],
    )
    result: mx.array = read
    return result
