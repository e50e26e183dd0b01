"""The likeliest tokens of each row after its rules, in one launch; see `worker.device.top_tokens`.

Shapes: B rows, V vocabulary.
"""

import functools
from typing import Any

import mlx.core as mx

from worker.device.rules import State

_THREADS = 1024
_OF_STATE = ("step", "ended", "ended_before", "last_timestamp")
_OF_RULES = ("masks", "mask_of_row", "on", "begin", "last_initial")

_HEADER = r"""
// Return the sum over all threads of a block; `shared` holds one number a warp.
__device__ inline float block_sum(float value, float* shared) {
  for (int other = 16; other > 0; other /= 2) value += __shfl_xor_sync(~0u, value, other);
  const int warps = blockDim.x / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0;
  for (int warp = 0; warp < warps; ++warp) value += shared[warp];
  return value;
}

struct Candidate {
  float value;
  int id;
};

// Of two candidates the likelier one; of equals the one with the lower id.
__device__ inline Candidate likelier(Candidate a, Candidate b) {
  return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
}

// Return the likeliest of all threads of a block; `shared` holds one candidate a warp.
__device__ inline Candidate block_likeliest(Candidate best, Candidate* shared) {
  for (int other = 16; other > 0; other /= 2) {
    best = likelier(best, Candidate{__shfl_xor_sync(~0u, best.value, other),
                                    __shfl_xor_sync(~0u, best.id, other)});
  }
  const int warps = blockDim.x / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = best;
  __syncthreads();
  best = shared[0];
  for (int warp = 1; warp < warps; ++warp) best = likelier(best, shared[warp]);
  return best;
}
"""

# A block reads one row of logits: once for the likeliest text and timestamp, once for their sums,
# and once more for each further token that is asked for.
_TOP_TOKENS = r"""
  __shared__ float shared[THREADS / 32];
  __shared__ Candidate candidates[THREADS / 32];
  const int row = blockIdx.x;
  const float* given = logits + row * logits_strides[0];
  auto of_row = [row](const auto* array, const auto& strides) { return array[row * strides[0]]; };
  const bool is_first = of_row(step, step_strides) == 0, has_rules = of_row(on, on_strides);
  const bool has_ended = of_row(ended, ended_strides);
  const bool is_paired = has_ended && of_row(ended_before, ended_before_strides);
  const bool is_unpaired = has_ended && !is_paired;
  const int mask = of_row(mask_of_row, mask_of_row_strides) + (is_first ? 1 : is_unpaired ? 2 : 0);
  const float* added = masks + mask * masks_strides[0];
  const int from = has_rules ? of_row(begin, begin_strides) : VOCABULARY;
  const int earliest = of_row(last_timestamp, last_timestamp_strides) + (is_unpaired ? 0 : 1);
  const int latest = is_first ? of_row(last_initial, last_initial_strides) : VOCABULARY;
  auto allowed = [&](int id) {
    const bool is_forbidden = id >= from && (is_paired || id < earliest || id > latest);
    return is_forbidden ? -INFINITY : given[id] + added[id];
  };

  Candidate text{-INFINITY, VOCABULARY}, time{-INFINITY, VOCABULARY};
  for (int id = threadIdx.x; id < VOCABULARY; id += THREADS) {
    const Candidate each{allowed(id), id};
    if (id < from) text = likelier(text, each); else time = likelier(time, each);
  }
  text = block_likeliest(text, candidates);
  time = block_likeliest(time, candidates);

  // A NaN is in no candidate, but in a sum.
  float text_sum = 0, time_sum = 0;
  for (int id = threadIdx.x; id < VOCABULARY; id += THREADS) {
    const float value = allowed(id);
    if (value == -INFINITY) continue;
    if (id < from) text_sum += expf(value - text.value); else time_sum += expf(value - time.value);
  }
  text_sum = block_sum(text_sum, shared);
  time_sum = block_sum(time_sum, shared);
  const float of_time = time_sum == 0 ? -INFINITY : time.value + logf(time_sum);
  const float of_text = text_sum == 0 ? -INFINITY : text.value + logf(text_sum);
  // A timestamp is due if all of them together are likelier than the likeliest text, which a NaN hides.
  const bool is_due = has_rules && of_time > text.value && !isnan(of_text);
  const float highest = fmaxf(of_time, of_text);
  const float of_all = is_due || of_text == -INFINITY ? of_time
      : of_time == -INFINITY ? of_text
      : highest + logf(expf(of_time - highest) + expf(of_text - highest));

  Candidate best = is_due ? time : likelier(text, time);
  for (int place = 0; place < COUNT; ++place) {
    if (place > 0) {
      const Candidate before = best;
      best = Candidate{-INFINITY, VOCABULARY};
      for (int id = threadIdx.x; id < VOCABULARY; id += THREADS) {
        const Candidate each{is_due && id < from ? -INFINITY : allowed(id), id};
        const bool is_after = each.value < before.value || (each.value == before.value && id > before.id);
        if (is_after) best = likelier(best, each);
      }
      best = block_likeliest(best, candidates);
    }
    if (threadIdx.x == 0) {
      values[row * COUNT + place] = best.value - of_all;
      tokens[row * COUNT + place] = min(best.id, VOCABULARY - 1);
    }
  }
"""


@functools.cache
def _kernel() -> Any:
    names = ["logits", *_OF_STATE, *_OF_RULES], ["values", "tokens"]
    # Rows may be further apart than they are long, and may all be the same.
    return mx.fast.cuda_kernel(
        "top_tokens", *names, _TOP_TOKENS, _HEADER, ensure_row_contiguous=False
    )


def top_tokens(
    logits: mx.array, state: State, rules: State, count: int
) -> tuple[mx.array, mx.array]:
    """Return each row's likeliest tokens; see `worker.device.top_tokens.top_tokens`, its twin.

    Numbers of a row of logits, and of a mask, must lie side by side.
    """
    num_rows, num_vocab = logits.shape
    inputs = [*(state[name] for name in _OF_STATE), *(rules[name] for name in _OF_RULES)]
    values, tokens = _kernel()(
        inputs=[logits, *inputs],
        template=[("VOCABULARY", num_vocab), ("COUNT", count), ("THREADS", _THREADS)],
        grid=(num_rows * _THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(num_rows, count)] * 2,
        output_dtypes=[mx.float32, mx.int32],
    )
    return values, tokens
