"""Where the engine's thread spent its time, and what it did meanwhile."""

import time
from dataclasses import dataclass, field


class Stopwatch:
    """Adds up the seconds of the blocks it is the context of: `with stats.step: ...`.

    Attributes:
        total_s: Seconds so far.
        last_s: Of the last block.
    """

    def __init__(self) -> None:
        self.total_s = self.last_s = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_exception: object) -> None:
        self.last_s = time.perf_counter() - self._started
        self.total_s += self.last_s


@dataclass
class EngineStats:
    """The engine's thread by what it did; no two of the stopwatches run at once.

    Attributes:
        idle: Waiting for work.
        receive: Taking audio (its features) and messages.
        batch: Starting batched computations, most of it the encoder's.
        step: Starting steps, and waiting for the device to finish the one before.
        reply: Reading the replies of batched computations.
        device_wait_s: The part of `step` in which the thread waited for the device.
        steps: Turns in which rows were stepped.
        row_steps: Rows advanced, summed over steps; over `steps` it is the mean occupancy. The
            beams of a window count as one.
        batches: Batched computations of the kind that waits for full batches: the encoder's.
        batched_requests: Requests in those.
    """

    idle: Stopwatch = field(default_factory=Stopwatch)
    receive: Stopwatch = field(default_factory=Stopwatch)
    batch: Stopwatch = field(default_factory=Stopwatch)
    step: Stopwatch = field(default_factory=Stopwatch)
    reply: Stopwatch = field(default_factory=Stopwatch)
    device_wait_s: float = 0.0
    steps: int = 0
    row_steps: int = 0
    batches: int = 0
    batched_requests: int = 0

    def figures(self) -> dict[str, float]:
        """Return all figures by name, stopwatches as seconds (`idle_s`)."""
        return {
            f"{name}_s" if isinstance(value, Stopwatch) else name: (
                value.total_s if isinstance(value, Stopwatch) else value
            )
            for name, value in vars(self).items()
        }
