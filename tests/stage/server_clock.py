"""A server that sees the clock of a file: hours pass at once, or time steps back (libfaketime)."""

from pathlib import Path

# Debian's package libfaketime, which .ci/run installs.
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class ServerClock:
    """The clock of one server: the real one, and an offset that may change while it runs."""

    def __init__(self, file: Path, offset_s: float = 0.0) -> None:
        self._file, self._offset_s = file, offset_s
        self.step(0.0)

    @property
    def environment(self) -> dict[str, str]:
        """What the server's process must be started with; nothing where libfaketime is absent."""
        if FAKETIME is None:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: float) -> None:
        """Let the clock jump, forward or back."""
        self._offset_s += seconds
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{self._offset_s:+.0f}\n")
        draft.rename(self._file)
