"""Keeps `import redis` from loading what no command uses: a tenth of a second each.

redis-py imports its asynchronous half itself. After `install`, that package is loaded when
something in it is first asked for, and is whole then. Where OpenTelemetry is installed redis-py loads
its metrics, which nobody here asks it for: it does not find them. Only the program does so: other
programs that import `producer` have their own ways with modules.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LAZY = "redis.asyncio"
_METRICS = frozenset({"opentelemetry.metrics", "opentelemetry.sdk.metrics"})
_ASKERS = ("redis.observability.metrics", "redis.observability.providers")


def install() -> None:
    """Put the finder before the others, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname in _METRICS and any(map(_is_being_imported, _ASKERS)):
            raise ModuleNotFoundError(fullname, name=fullname)
        if fullname != LAZY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LazyLoader(spec.loader)
        return spec


def _is_being_imported(name: str) -> bool:
    # What CPython's own import system goes by.
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


class _LazyLoader(Loader):
    """Leaves a package empty until a name in it is asked for; importing its modules asks for none."""

    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def load(name: str) -> Any:
            del module.__dict__["__getattr__"]
            self._real.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = load
