"""Ctrl-C and SIGTERM end a command that has started things in the same, orderly way."""

import signal
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self


class Interrupts:
    """Raises KeyboardInterrupt where Ctrl-C or SIGTERM comes, and again at the next `check`.

    Python drops what is raised while it destroys an object ("Exception ignored in"); so a single
    Ctrl-C is not lost there. A Ctrl-C that was to be ignored from the start, as in a background job
    of a shell, still is.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._interrupt)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one came; call it in every loop that waits."""
        if self._came:
            raise KeyboardInterrupt

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> NoReturn:
        self._came = True
        raise KeyboardInterrupt
