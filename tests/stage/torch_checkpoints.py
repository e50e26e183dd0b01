"""Checkpoints as torch.save writes them, made without torch."""

import io
import pickle
import zipfile
from collections import OrderedDict

TORCH_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


class _Global:
    """Pickles as a name of torch's, without torch."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


class _Rebuilt:
    """Pickles as a call of `torch._utils._rebuild_tensor_v2`."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())


class _TorchPickler(pickle._Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, _Storage):
            return ("storage", _Global("torch", obj.kind), obj.key, "cpu", obj.count)
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            return
        if isinstance(obj, _Rebuilt):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
            return
        super().save(obj, save_persistent_id)


def torch_checkpoint(tensors):
    """Return what torch.save writes of a state dict of NumPy arrays."""
    views, storages = OrderedDict(), {}
    for index, (name, array) in enumerate(tensors.items()):
        kind = TORCH_STORAGES[array.dtype.name]
        strides = tuple(stride // array.itemsize for stride in array.strides)
        views[name] = _Rebuilt(_Storage(kind, str(index), array.size), 0, array.shape, strides)
        storages[str(index)] = array.tobytes(order="A")
    pickled = io.BytesIO()
    _TorchPickler(pickled, protocol=2).dump(views)
    return checkpoint_zip(pickled.getvalue(), storages)


def checkpoint_zip(pickled, storages):
    """Return the ZIP archive of a checkpoint."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()
