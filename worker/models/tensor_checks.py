"""Checks of a model's tensors against the shapes that its sizes demand, whatever the family.

Quantized tensors are three, as `mlx.nn.quantize` makes them: `.weight` (packed uint32), `.scales` and
`.biases`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import mlx.core as mx

from producer.errors import InvalidModel

FLOATS = (mx.float32, mx.float16, mx.bfloat16)

Shapes: TypeAlias = dict[str, tuple[int, ...]]


def checked_arrays(
    arrays: dict[str, mx.array],
    shapes: Shapes,
    source: str,
    family: str,
    dtype_of: Callable[[str], mx.Dtype | None],
) -> dict[str, mx.array]:
    """Return the arrays, evaluated one by one, after checking each against its shape.

    Each array is taken out of `arrays`, so that a cast never holds two copies of the model.

    Args:
        arrays: Every tensor of the model, perhaps not read yet; empty afterwards.
        shapes: All that there must be.
        source: Named in errors.
        family: Named in errors.
        dtype_of: Type that a tensor is wanted in; None keeps its own.

    Raises:
        InvalidModel: a tensor is missing, unknown, of another shape or type, unreadable, or
            holds NaN or infinity.
    """
    for name in sorted(shapes):
        if name not in arrays:
            raise InvalidModel(f"{source}: {name}", "is missing")
    for name in sorted(arrays):
        if name not in shapes:
            raise InvalidModel(f"{source}: {name}", f"is no parameter of this {family} model")
    return {
        name: _checked_array(name, arrays.pop(name), shape, source, dtype_of(name))
        for name, shape in shapes.items()
    }


def stored_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, mx.array],
    quantization: dict[str, int] | None,
    is_quantizable: Callable[[str], bool],
    source: str,
) -> Shapes:
    """Return the expected shapes, with three tensors for each one that is quantized.

    Raises:
        InvalidModel: a quantized tensor's rows are no whole groups.
    """
    stored: Shapes = {}
    for name, shape in shapes.items():
        scales = f"{name.removesuffix('.weight')}.scales"
        if quantization is None or not is_quantizable(name) or scales not in arrays:
            stored[name] = shape
        else:
            stored |= dict(_packed_shapes(name, shape, quantization, source))
    return stored


def _packed_shapes(
    name: str, shape: tuple[int, ...], quantization: dict[str, int], source: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    rows, columns = shape
    group_size, bits = quantization["group_size"], quantization["bits"]
    if columns % group_size:
        raise InvalidModel(
            f"{source}: {name}", f"must have rows of whole groups of {group_size}", columns
        )
    stem = name.removesuffix(".weight")
    yield name, (rows, columns * bits // 32)
    yield f"{stem}.scales", (rows, columns // group_size)
    yield f"{stem}.biases", (rows, columns // group_size)


def _checked_array(
    name: str, array: mx.array, shape: tuple[int, ...], source: str, dtype: mx.Dtype | None
) -> mx.array:
    context = f"{source}: {name}"
    if tuple(array.shape) != shape:
        raise InvalidModel(context, f"must have shape {shape}", tuple(array.shape))
    if array.dtype == mx.uint32:
        return _evaluated(context, array)
    if array.dtype not in FLOATS:
        raise InvalidModel(context, "must be float32, float16 or bfloat16", array.dtype)
    array = _evaluated(context, array if dtype is None else array.astype(dtype))
    if not mx.isfinite(array).all().item():
        raise InvalidModel(context, "must be finite numbers", f"NaN or infinity, {array.dtype}")
    return array


def _evaluated(context: str, array: mx.array) -> mx.array:
    try:
        mx.eval(array)
    except (RuntimeError, ValueError) as error:
        raise InvalidModel(context, "cannot be read", str(error)) from error
    return array
