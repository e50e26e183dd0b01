"""How both programs end: what was printed is out, and nothing is taken down piece by piece."""

import os
import sys
from typing import NoReturn

from producer.errors import Exit


def leave(code: int) -> NoReturn:
    """Leave with a code that a script can trust.

    Not through the interpreter's exit, which takes a tenth of a second to free what was imported.
    MLX may abort there, too (134, on a CPU now and then, with CUDA always) once another thread than
    the main one has used the device, and a worker's forced exit waits for nothing.
    """
    # Of the few that export spans; the others have not loaded it.
    if spans := sys.modules.get("producer.spans"):
        spans.end_spans()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # A full disk, or a reader that has gone: not all was said.
            code = code or Exit.SOME_FAILED
    os._exit(code)
