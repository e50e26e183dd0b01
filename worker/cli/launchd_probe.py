"""`python -m worker.cli.launchd_probe`: what a worker may reach from where this runs, as JSON.

`doctor` starts it under launchd on a Mac, where a terminal's answers do not hold.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from producer.connection import connect
from producer.errors import ScribefarmError, advice_for
from producer.settings import Settings, load_settings
from worker.audio.errors import translate
from worker.cli.finding import Finding

# Entries of a root that are looked at for a file to read.
MOST_ENTRIES = 1000


def probe(settings: Settings) -> Iterator[Finding]:
    """Try the server and each of `audio.roots`; none of it raises."""
    yield _server(settings)
    for root in settings.audio.roots:
        yield _root(root)


def _server(settings: Settings) -> Finding:
    check = "server from launchd"
    if settings.redis.url is None:
        return Finding(check, "ok", "the embedded one, on a socket of this machine")
    try:
        connect(settings).close()
    except ScribefarmError as error:
        return Finding(check, "broken", f"[{error.code}] {error}", advice_for(error.code))
    return Finding(check, "ok", "answers")


def _root(root: Path) -> Finding:
    """List a root and read the first byte of a file in it, as far as one is found soon."""
    check = f"reads {root} from launchd"
    try:
        walked = islice(os.walk(root, onerror=_raise), MOST_ENTRIES)
        path = next((Path(at, names[0]) for at, _, names in walked if names), None)
        if path is None:
            return Finding(check, "slow", "no file is there to read", "Is the share mounted?")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        found = translate(str(root), error, opening=True)
        return Finding(check, "broken", f"[{found.code}] {found}", advice_for(found.code))
    return Finding(check, "ok", "a file was read")


def _raise(error: OSError) -> None:
    raise error


if __name__ == "__main__":
    findings = [asdict(finding) for finding in probe(load_settings())]
    sys.stdout.write(json.dumps(findings) + "\n")
