"""What one check of a machine saw, and the one way in which checks run other programs."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from producer.model_names import may_be_whisper
from producer.settings import Settings

# Of a program that is not there, or that did not end; as a shell has it.
NOT_FOUND, TIMED_OUT = 127, 124
COMMAND_TIMEOUT_S = 60.0

Status: TypeAlias = Literal["ok", "slow", "broken"]


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        status: `slow` works, but a person should look; with `broken` no job can be done.
        advice: What to do about it, if anything.
    """

    check: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Ran:
    """A program's exit code, and what it printed on both streams."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line that is not empty, which says most of a failure."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def decoding(settings: Settings) -> str:
    """Return how jobs that say nothing are decoded at temperature 0: `greedy`, or by how many beams."""
    beams = settings.options.beam_size or 1
    return f"{beams} beams" if beams > 1 and may_be_whisper(settings.model.name) else "greedy"


Run: TypeAlias = Callable[[Sequence[str]], Ran]


def run_command(command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Ran:
    """Run a program to its end; one that is not there, or hangs, is a code and never an exception."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(TIMED_OUT, f"{command[0]} did not end within {timeout_s:.0f} s")
    except OSError as error:
        return Ran(NOT_FOUND, f"{command[0]}: {error.strerror}")
    return Ran(done.returncode, done.stdout.decode(errors="replace"))
