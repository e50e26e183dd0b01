"""Files of named tensors: whole, or refused before a tensor is read."""

import mlx.core as mx
import pytest

from producer.errors import InvalidModel
from worker.models.tensor_files import load_tensors, read_json

TENSORS = {"a": mx.arange(6).reshape(2, 3), "b": mx.zeros(4)}


@pytest.fixture(params=["tensors.npz", "tensors.safetensors"])
def file(request, tmp_path):
    """A file of two tensors, in either format."""
    path = tmp_path / request.param

    if path.suffix == ".npz":
        mx.savez(str(path), **TENSORS)
    else:
        mx.save_safetensors(str(path), TENSORS)
    return path


def test_a_whole_file_gives_its_tensors(file):
    """By name, with their values."""
    loaded = load_tensors(file)
    assert {name: array.tolist() for name, array in loaded.items()} == {
        name: array.tolist() for name, array in TENSORS.items()
    }


def test_a_truncated_file_is_refused_by_name(file):
    """Before a tensor is used."""
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InvalidModel, match=file.name):
        load_tensors(file)


@pytest.mark.parametrize("name", ["absent.npz", "absent.safetensors"])
def test_an_absent_file_is_refused_by_name(name, tmp_path):
    """A typed error, not the system's."""
    with pytest.raises(InvalidModel, match=name):
        load_tensors(tmp_path / name)


@pytest.mark.parametrize("text", ["", "[]", "1", "{"])
def test_json_must_be_an_object(text, tmp_path):
    """A config is read by its keys."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidModel, match="JSON"):
        read_json(tmp_path / "config.json")
