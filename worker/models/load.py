"""Load the model that the settings name, whatever its family, measure the device, and pin it."""

import importlib
import platform
from importlib.metadata import version
from typing import Literal, TypeAlias

import mlx.core as mx

from producer.cache_folder import cache_folder
from producer.settings import Settings
from worker.audio.blas import keep_blas_to_its_caller
from worker.device.backend import on_gpu, translated_errors
from worker.device.memory_limits import device_memory_bytes, set_memory_limits
from worker.engine.calibration import measure
from worker.engine.family import Family
from worker.engine.kept_times import KeptTimes, Measured
from worker.engine.memory_plan import MemoryPlan, plan_memory
from worker.engine.times import Times
from worker.models.numpy_math import num_cpus
from worker.models.routing import family_module

Calibrate: TypeAlias = Literal["kept", "missing", "again"]
"""Measure the device never, unless it is kept, or always; what is kept is used in any case."""


def load_family(settings: Settings, calibrate: Calibrate | None = None) -> Family:
    """Load, check, pin and warm up the model that the settings name; see `planned`.

    Raises:
        InvalidModel: there is no such model, or its weights are damaged.
        OutOfRange: the slots asked for, or the model, do not fit into memory.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
        OutOfMemory, DeviceLost: the device has no room for the weights, or failed.
    """
    family = open_family(settings)
    pin(family, settings, calibrate)
    return family


def open_family(settings: Settings) -> Family:
    """Load and check the model that the settings name; nothing is computed yet.

    Raises:
        As `load_family`.
    """
    keep_blas_to_its_caller()
    module = importlib.import_module(family_module(settings.model.name, settings.model.revision))
    with translated_errors():
        family: Family = module.load(settings)
    return family


def pin(family: Family, settings: Settings, calibrate: Calibrate | None = None) -> None:
    """Pin a loaded model by the plan of `planned`.

    Raises:
        OutOfRange: the slots asked for, or the model, do not fit into memory.
    """
    plan, _ = planned(family, settings, calibrate)
    family.pin(plan)


def planned(
    family: Family, settings: Settings, calibrate: Calibrate | None = None
) -> tuple[MemoryPlan, Times | None]:
    """Return slots, batches and steps by the device's memory and times, and those times.

    Args:
        family: Loaded, not pinned.
        settings: As for `load_family`.
        calibrate: Whether the device is measured. By default it is on a GPU, where a start takes
            longer anyway and much depends on it, and not on a CPU, where little does.

    Raises:
        OutOfRange: the slots asked for, or the model, do not fit into memory.
        OutOfMemory: the device has no room for a single window.
    """
    limit_bytes = settings.worker.memory_limit_bytes or device_memory_bytes()
    set_memory_limits(limit_bytes)
    # What does not fit at all is refused before anything is measured.
    plan_memory(family.needs, limit_bytes, settings.worker.slots)
    wanted = calibrate or ("missing" if on_gpu() else "kept")
    times = _find_times(family, _dependences(family, settings, limit_bytes), wanted)
    return plan_memory(family.needs, limit_bytes, settings.worker.slots, times), times


def _find_times(family: Family, measured: Measured, calibrate: Calibrate) -> Times | None:
    """Return what the device takes for the model's work: as kept, or as measured now; or None."""
    store = KeptTimes(cache_folder() / "calibration")
    times = None if calibrate == "again" else store.find(measured)
    if times is not None or calibrate == "kept":
        return times
    rehearsal = family.rehearsal()
    if rehearsal is None:
        return None

    def fits(slots: int, batch_size: int) -> bool:
        return MemoryPlan(measured.limit_bytes, family.needs, slots, batch_size).fits

    times, is_complete = measure(rehearsal, fits, compiles=on_gpu())
    # What measuring held is neither kept for reuse nor counted as the recordings' peak.
    mx.clear_cache()
    mx.reset_peak_memory()
    if is_complete:
        store.keep(measured, times)
    return times


def _dependences(family: Family, settings: Settings, limit_bytes: int) -> Measured:
    """Return on what the times depend."""
    model, device = family.model, mx.device_info()["device_name"]
    return Measured(
        machine=f"{platform.node()}, {device}, {num_cpus()} processors",
        versions=", ".join(f"{name} {version(name)}" for name in ("scribefarm", "mlx", "numpy")),
        model=f"{model.name}, {model.revision}, {model.dtype}",
        backend=settings.worker.backend,
        limit_bytes=limit_bytes,
    )
