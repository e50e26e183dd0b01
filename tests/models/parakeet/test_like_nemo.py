"""Where NeMo decodes otherwise than transformers, we do as NeMo: tests/data/parakeet_nemo.json."""

import json
from collections import Counter

import mlx.core as mx
import numpy as np
import pytest

from tests.stage.random_parakeet import CASES, DATA, pieces, write_folder
from worker.models.parakeet.backend import make_network
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.requests import Recognize
from worker.models.parakeet.tdt import TdtStepper
from worker.models.parakeet.weights.load import load_weights

NEMO = json.loads((DATA / "parakeet_nemo.json").read_text(encoding="utf-8"))["cases"]
CAPPED = NEMO["tdt"]["capped"]


@pytest.fixture(scope="module")
def capped(tmp_path_factory, backend):
    """Return the case `tdt` with durations that are no indices, and few labels a frame at most."""
    tuned = CASES["tdt"]["tuned"] | {"durations": CAPPED["duration_biases"]}
    case = CASES["tdt"] | {"tuned": tuned}
    folder = write_folder(tmp_path_factory.mktemp("capped"), case, **CAPPED["changes"])
    return make_network(load_weights(str(folder), dtype=mx.float32), mx.float32, backend)


def test_durations_are_values_and_frames_hold_few_labels(capped):
    """A duration index means what `durations` says; after max_symbols labels a frame is left."""
    stepper, found = TdtStepper(capped, 4), {}
    for key, encoded in enumerate(capped.encode(pieces(CASES["tdt"]))):
        stepper.add(key, Recognize(encoded))
    while stepper.num_wanted:
        found |= dict(stepper.step())
    for row, expected in enumerate(CAPPED["rows"]):
        assert [label.token for label in found[row]] == expected["tokens"]
        assert [label.frame for label in found[row]] == expected["frames"]
        assert [label.duration for label in found[row]] == expected["durations"]
    most = max(max(Counter(row["frames"]).values(), default=0) for row in CAPPED["rows"])
    assert most == CAPPED["changes"]["max_symbols_per_step"]
    assert max(max(row["durations"], default=0) for row in CAPPED["rows"]) == 8


def test_one_frame_has_features(capped):
    """Its deviation is 0, as NeMo takes it, and not transformers' NaN."""
    samples = pieces(CASES["tdt"])[0][:300]
    if isinstance(capped, NumpyParakeet):
        (features,) = capped.features([samples])
    else:
        features = np.array(capped.features([samples], 8)[0])[0, :1]
    assert np.isfinite(features).all()


def test_nemo_and_transformers_agree_elsewhere():
    """The witness has the same features, nearly the same states, and the same labels."""
    for name, case in NEMO.items():
        assert case.get("features_apart", 0) == 0, name
        assert case["states_apart"] < 1e-4, name
        if "frames_tokens" in case:
            continue
        assert case["labels_equal_transformers"], name
        assert case["tokens_and_frames_are_equal_alone_and_together"], name
