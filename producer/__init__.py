"""The light side of scribefarm: enqueue recordings, read transcripts.

`submit`, `results`, `status` and their async twins are described in `producer.api`. They are
loaded when they are first used, so that importing a part of the package costs no more than it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["results", "results_async", "status", "submit", "submit_async"]

if TYPE_CHECKING:
    from producer.api import results, status, submit
    from producer.asynchronous import results_async, submit_async
# Type checkers would take every name to be there, and to be of any type.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = "asynchronous" if name.endswith("_async") else "api"
        return getattr(import_module(f"{__name__}.{module}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
