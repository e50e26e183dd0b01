"""Load the model that the settings name, whatever its family, and pin it."""

import importlib

from producer.settings import Settings
from worker.device.backend import device_policy, translated_errors
from worker.device.memory_limits import apply_memory_plan, device_memory_bytes
from worker.engine.family import Family
from worker.engine.memory_plan import plan_memory
from worker.models.routing import family_module


def load_family(settings: Settings) -> Family:
    """Load, check, pin and warm up the model that the settings name.

    Raises:
        InvalidModel: there is no such model, or its weights are damaged.
        OutOfRange: the slots asked for, or the model, do not fit into memory.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
        OutOfMemory, DeviceLost: the device has no room for the weights, or failed.
    """
    name, revision = settings.model.name, settings.model.revision
    module = importlib.import_module(family_module(name, revision))
    with translated_errors():
        family: Family = module.load(settings)
    pin(family, settings)
    return family


def pin(family: Family, settings: Settings) -> None:
    """Plan the memory beside a loaded model's weights, and pin it.

    Raises:
        OutOfRange: the slots asked for, or the model, do not fit into memory.
    """
    limit_bytes = settings.worker.memory_limit_bytes or device_memory_bytes()
    plan = plan_memory(family.needs, limit_bytes, settings.worker.slots, device_policy())
    apply_memory_plan(plan)
    family.pin(plan)
