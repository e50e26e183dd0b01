"""How long a network in NumPy has computed: its callers wait for nothing else."""

import functools
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np


class Busy(Protocol):
    """What has such methods."""

    busy_s: float


B = TypeVar("B", bound=Busy)
P = ParamSpec("P")
R = TypeVar("R")


def counted(compute: Callable[Concatenate[B, P], R]) -> Callable[Concatenate[B, P], R]:
    """Return a method whose seconds are added to `busy_s`; NumPy's warnings are silenced in it."""

    @functools.wraps(compute)
    def timed(self: B, /, *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                return compute(self, *args, **kwargs)
        finally:
            self.busy_s += time.perf_counter() - started

    return timed
