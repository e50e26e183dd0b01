"""A checkpoint is data: whatever else its pickle asks for is refused before it is called."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import InvalidModel
from tests.stage.torch_checkpoints import checkpoint_zip, torch_checkpoint
from worker.models.parakeet.weights.torch_file import TorchFile

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1.5, -2], np.float16),
    "count": np.array(7, np.int64),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


def opened(data):
    return TorchFile(io.BytesIO(data), "it.ckpt")


def global_of(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def test_tensors_are_read_as_they_are():
    """Types, shapes and strides."""
    file = opened(torch_checkpoint(TENSORS))
    assert file.names == list(TENSORS)
    for name, wanted in TENSORS.items():
        found = np.array(file.array(name))
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


CALLS = {
    "system": Call(os.system, "touch {path}"),
    "eval": Call(eval, "open({path!r}, 'w')"),
    "getattr": Call(getattr, OrderedDict, "fromkeys"),
    "open": Call(open, "{path}", "w"),
    "partial": Call(OrderedDict.fromkeys, [1]),
}


@pytest.mark.parametrize("name", CALLS)
def test_code_is_refused_before_it_runs(name, tmp_path):
    """Not one of these is called, wherever in the state it stands."""
    path = tmp_path / "made"
    call = CALLS[name]
    call = Call(
        call.function,
        *(
            each.format(path=str(path)) if isinstance(each, str) else each
            for each in call.arguments
        ),
    )
    for state in (call, {"a": call}, OrderedDict(a=[call])):
        with pytest.raises(InvalidModel, match="tensors alone"):
            opened(checkpoint_zip(pickle.dumps(state, protocol=2), {}))
    assert not path.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        global_of("os", "system") + b".",
        global_of("torch", "load") + b".",
        global_of("torch._utils", "_rebuild_tensor_v2.__globals__") + b".",
        global_of("collections", "OrderedDict.__init__") + b".",
        global_of("torch", "FloatStorage") + b")R.",
        global_of("torch", "FloatStorage") + b")\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"I1\n.",
        b"(lp0\n.",
        b"",
        b"garbage",
    ],
)
def test_names_and_nonsense_are_refused(pickled):
    """Also those that reach for what the allowed ones hold."""
    with pytest.raises(InvalidModel, match=r"it\.ckpt"):
        opened(checkpoint_zip(pickled, {}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_archive_is_refused(data):
    """Among it the format of torch before 1.6."""
    with pytest.raises(InvalidModel, match="tensors alone"):
        opened(data)


def test_other_byte_orders_are_refused():
    """Numbers would be nonsense."""
    data = torch_checkpoint(TENSORS).replace(b"little", b"bigbig")
    with pytest.raises(InvalidModel, match=r"it\.ckpt"):
        opened(data)


def test_a_storage_that_is_too_short_is_named():
    """By the tensor."""
    data = io.BytesIO(torch_checkpoint({"a": np.zeros(8, np.float32)}))

    with zipfile.ZipFile(data) as archive:
        pickled = archive.read("archive/data.pkl")
    for storages in ({"0": b"\0" * 28}, {}):
        file = opened(checkpoint_zip(pickled, storages))
        with pytest.raises(InvalidModel, match=r"it\.ckpt: a"):
            file.array("a")


def rebuilt(offset, shape, strides):
    """Return a pickle of a tensor of 4 numbers with a place of its own."""
    storage = b"(X\x07\x00\x00\x00storage" + global_of("torch", "FloatStorage")
    storage += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    inner = b"".join(pickle.dumps(each, protocol=2)[2:-1] for each in (offset, shape, strides))
    call = global_of("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + inner
    call += b"\x89" + global_of("collections", "OrderedDict") + b")RtR"
    return b"\x80\x02}X\x01\x00\x00\x00a" + call + b"s."


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (1 << 40,), (1,)),
        (0, (5,), (1,)),
        (4, (1,), (1,)),
    ],
)
def test_a_place_beyond_the_storage_is_refused(offset, shape, strides):
    """No view may read what lies behind it."""
    file = opened(checkpoint_zip(rebuilt(offset, shape, strides), {"0": bytes(16)}))
    with pytest.raises(InvalidModel, match="breaks off"):
        file.array("a")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(-1, (1,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (0, (-2,), (1,))],
)
def test_a_place_that_is_none_is_refused(offset, shape, strides):
    """Before anything is read."""
    with pytest.raises(InvalidModel, match="no place"):
        opened(checkpoint_zip(rebuilt(offset, shape, strides), {"0": bytes(16)}))


def test_a_view_within_the_storage_is_read():
    """With an offset and strides, as torch stores parts of a larger tensor."""
    numbers = np.arange(4, dtype=np.float32).tobytes()
    file = opened(checkpoint_zip(rebuilt(1, (2,), (2,)), {"0": numbers}))
    assert file.array("a").tolist() == [1, 3]


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 2000), byte=st.integers(0, 255))
def test_a_damaged_byte_is_an_error_of_ours_or_none(at, byte):
    """Whatever it hits: no other exception, no crash."""
    data = bytearray(torch_checkpoint(TENSORS))
    data[at % len(data)] = byte
    try:
        file = opened(bytes(data))
        mx.eval([file.array(name) for name in file.names])
    except InvalidModel:
        pass
