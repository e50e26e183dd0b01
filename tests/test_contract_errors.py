"""The contract's errors as callers meet them; worker/CONTRACT.md lists the contract."""

import json
import math
import pickle

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import ScribefarmError
from tests.stage.toy_model import NUM_VOCAB, ScriptedModel, ToyModel, toy_audio
from worker.device.decode_request import RowRules
from worker.device.sampling_params import SamplingParams, pair_logit_bias
from worker.generate import SttGenConfig, stt_generate


def write(path, num_samples, rate_hz=16_000, value=0.1):
    soundfile.write(path, np.full(num_samples, value, np.float32), rate_hz, subtype="FLOAT")
    return path


def logits(*shape, value=0.0):
    """Return a run whose second step has logits of this shape."""
    model = ScriptedModel([5, lambda: mx.full(shape, value)])
    return lambda _: list(stt_generate(model, None, states=toy_audio(1)))


def call(make=None, **config):
    """Return a run over a file that `make` writes."""
    return lambda folder: stt_generate(
        ToyModel(),
        make(folder / "a.wav") if make else folder / "absent.wav",
        SttGenConfig(**config),
    )


# What goes wrong, its code, its value.
WRONG = {
    "sampler": (lambda _: SamplingParams(top_p=1.5), "out_of_range", 1.5),
    "lists of biases": (lambda _: pair_logit_bias([1, 2], [0.5]), "length_mismatch", 1),
    "vocabulary": (call(sampling=SamplingParams(top_k=99)), "out_of_range", 99),
    "suppressed id": (call(rules=RowRules(suppress=(99,))), "out_of_range", 99),
    "cap": (call(max_audio_seconds=-1.0), "out_of_range", -1.0),
    "resampler": (call(resampler="cubic"), "invalid_options", "cubic"),
    "no file": (call(), "source_not_found", "No such file or directory"),
    "duration": (
        call(lambda path: write(path, 20_000), max_audio_seconds=1.0),
        "out_of_range",
        1.25,
    ),
    "rate": (
        call(lambda path: write(path, 9_000, 8_000), auto_resample=False),
        "out_of_range",
        8_000,
    ),
    "NaN in the file": (call(lambda path: write(path, 900, value=np.nan)), "non_finite", math.nan),
    "no samples": (call(lambda path: write(path, 0)), "empty_input", 0),
    "too short to frame": (call(lambda path: write(path, 159)), "empty_input", 159),
    "rank of logits": (logits(1, 1, NUM_VOCAB), "rank_mismatch", (1, 1, NUM_VOCAB)),
    "rows of logits": (logits(3, NUM_VOCAB), "length_mismatch", (3, NUM_VOCAB)),
    "vocabulary of logits": (logits(1, 0), "empty_input", (1, 0)),
    "NaN logits": (logits(1, NUM_VOCAB, value=math.nan), "non_finite", math.nan),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_error_says_where_what_and_which_value_and_keeps_it(name, tmp_path):
    """Its code is stable; pickle and JSON give all of it back."""
    provoke, code, value = WRONG[name]
    with pytest.raises(ScribefarmError) as caught:
        provoke(tmp_path)
    error = caught.value
    assert error.code == code
    assert error.context
    assert error.constraint
    assert repr(error.value) == repr(value)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.context, copy.constraint) == (
        type(error),
        error.context,
        error.constraint,
    )
    assert repr(copy.value) == repr(value)
    stored = ScribefarmError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(stored) is type(error)
    assert str(stored).partition(" (got")[0] == str(error).partition(" (got")[0]
    assert error.to_dict()["message"] == str(error)
    assert not error.retryable


odd_numbers = st.sampled_from([-1, 0, 1, 2, 1e30, 1e-30, math.nan, math.inf, -math.inf, "1", None])
odd_fields = st.dictionaries(
    st.sampled_from(
        [
            "temperature",
            "top_p",
            "min_p",
            "min_tokens_to_keep",
            "top_k",
            "xtc_probability",
            "xtc_threshold",
            "seed",
            "repetition_penalty",
            "repetition_context_size",
            "presence_penalty",
            "presence_context_size",
            "frequency_penalty",
            "frequency_context_size",
        ]
    ),
    odd_numbers | st.floats() | st.integers(-5, 100),
    max_size=2,
)


configurations = st.fixed_dictionaries(
    {},
    optional={
        "sampling": odd_fields,
        "max_tokens": st.integers(-1, 8),
        "eos": st.frozensets(st.integers(-1, NUM_VOCAB + 1), max_size=3),
        "prompt": st.lists(st.integers(-1, NUM_VOCAB), max_size=460).map(tuple),
        "max_audio_seconds": st.floats() | st.sampled_from([0.5, 1.0, 30.0]),
        "rules": st.lists(st.integers(-1, NUM_VOCAB), max_size=3).map(tuple).map(RowRules),
    },
)


def decode(path, asked):
    """Return the steps, or the error's code."""
    try:
        if "sampling" in asked:
            asked = asked | {"sampling": SamplingParams(**asked["sampling"])}
        return list(stt_generate(ToyModel(), path, SttGenConfig(**asked)))
    except ScribefarmError as error:
        return error.code


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(asked=configurations)
def test_any_configuration_is_refused_by_type_or_gives_tokens(tmp_path, asked):
    """No other exception, no more steps than asked, no token that may not be sampled."""
    path = tmp_path / "second.wav"
    steps = decode(path if path.exists() else write(path, 16_000), asked)
    if isinstance(steps, str):
        assert steps in {"out_of_range", "empty_input", "length_mismatch"}
        return
    assert 1 <= len(steps) <= asked.get("max_tokens", 224)
    allowed = set(range(NUM_VOCAB)) - set(asked.get("rules", RowRules()).suppress)
    assert all(step.token in allowed and math.isfinite(step.logprob) for step in steps)
    assert [step.finish_reason is not None for step in steps] == [False] * (len(steps) - 1) + [True]
