"""Rows that are sampled in tests: any parameters, logits, and the calls that the decoder makes."""

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st

from worker.device.filters import process_logits, sample_tokens
from worker.device.sampling import BatchedSampling
from worker.device.sampling_params import SamplingParams

VOCAB = 64

token_ids = st.integers(0, VOCAB - 1)
magnitudes = st.floats(-5, 5, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)
row_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.2, 1.0, 1.7]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    min_tokens_to_keep=st.integers(1, 5),
    top_k=st.sampled_from([0, 1, 7, VOCAB - 1]),
    xtc_probability=st.sampled_from([0.0, 0.5, 1.0]),
    xtc_threshold=st.sampled_from([0.0, 0.05, 0.5]),
    xtc_special_tokens=st.lists(token_ids, max_size=3).map(tuple),
    seed=st.integers(0, 2**64 - 1),
    logit_bias=st.dictionaries(token_ids, magnitudes, max_size=3),
    repetition_penalty=st.sampled_from([None, 0.0, 0.8, 1.0, 1.3]),
    repetition_context_size=st.integers(1, 30),
    presence_penalty=st.none() | magnitudes,
    presence_context_size=st.integers(1, 30),
    frequency_penalty=st.none() | magnitudes,
    frequency_context_size=st.integers(1, 30),
)


def random_logits(seed, rows=1, vocab=VOCAB, scale=3.0):
    """Return (rows, vocab) of normal logits."""
    return (np.random.default_rng(seed).standard_normal((rows, vocab)) * scale).astype(np.float32)


def log_softmax(logits):
    """Return normalised log-probabilities."""
    logits = mx.array(logits)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def column(value):
    """Return a parameter of a single row."""
    return mx.array([[value]])


def assert_same_bits(actual, expected):
    """Compare float32 arrays, signs of zero included."""
    actual, expected = np.array(actual), np.array(expected)
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


def process(sampling, logits, history=None, lengths=None):
    """Apply bias and penalties as the decoder does; without a history, to an empty one."""
    if history is None:
        history = mx.zeros((sampling.num_rows, 1), mx.int32)
        lengths = mx.zeros(sampling.num_rows, mx.int32)
    return process_logits(logits, history, lengths, sampling.arrays, sampling.stages)


def sample(sampling, logprobs, step):
    """Choose a token for each row as the decoder does."""
    return sample_tokens(logprobs, step, sampling.arrays, sampling.stages)


def draw(params, logprobs, step):
    """Sample one row on its own."""
    sampling = BatchedSampling([params], logprobs.shape[1])
    return sample(sampling, logprobs, mx.array([step])).item()
