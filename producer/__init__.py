"""The light side of scribefarm: enqueue recordings, read transcripts.

`submit`, `results`, `status` and their async twins are described in `producer.api`. They are
loaded when they are first used, so that importing a part of the package costs no more than it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.api import results, results_async, status, submit, submit_async

__all__ = ["results", "results_async", "status", "submit", "submit_async"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from producer import api  # noqa: PLC0415 - see above

    return getattr(api, name)
