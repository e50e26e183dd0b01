"""How Lua is called: one way for all scripts of producer and worker.

A script is a file. In front of it stand `lua/prelude.lua`, which gives it the key names, the
server's clock and its arguments, `lua/ended.lua` and `lua/counts.lua`, which keep the counts of
batches and records of what ended, `lua/metrics.lua`, which counts for monitors, and
`lua/roster.lua`, which knows the workers: ARGV[1] is a JSON document of named arguments, `args` in Lua, and
what must stay bytes follows from ARGV[2] on. Scripts build their keys themselves, so they need a
single server, not a cluster.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import redis

from producer.events import MAX_EVENTS
from producer.histograms import JOB_BOUNDS_S, WAIT_BOUNDS_S
from producer.keys import FARM_KEY_PREFIX, RQ_KEY_PREFIX

LUA_FOLDER = Path(__file__).parent / "lua"
# In front of every script, in this order.
_SHARED = ("prelude", "metrics", "ended", "counts", "roster")


class Scripts:
    """The scripts of one folder, bound to a connection; each runs atomically in the server."""

    def __init__(
        self,
        connection: redis.Redis,
        folder: Path = LUA_FOLDER,
        *,
        shared: str | None = None,
    ) -> None:
        """Take the scripts of `folder`; the file `shared` of it stands in front of each."""
        self._connection, self._folder, self._shared = connection, folder, shared

    def run(self, name: str, /, *values: str | bytes, **args: Any) -> Any:
        """Run the file `name`.lua and return its answer.

        The script is sent once and called by its hash from then on.

        Args:
            name: The file without its extension.
            *values: What the script finds in ARGV[2] and behind it, as bytes.
            **args: What it finds in `args`: JSON types. An argument that is None is left out, so
                that Lua sees nil.

        Raises:
            redis.RedisError: the server did not answer, or the script failed.
        """
        return self._script(name)(args=[_named(args), *values])

    def add_to(self, pipeline: Any, name: str, /, **args: Any) -> None:
        """Let a transaction of redis-py run the file `name`.lua as one of its commands."""
        self._script(name)(args=[_named(args)], client=pipeline)

    def _script(self, name: str) -> Any:
        return self._connection.register_script(_source(self._folder, self._shared, name))


def _named(args: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in args.items() if value is not None})


@cache
def _source(folder: Path, shared: str | None, name: str) -> str:
    files = [LUA_FOLDER / f"{part}.lua" for part in _SHARED]
    files += [folder / f"{part}.lua" for part in (shared, name) if part is not None]
    prefixes = f"local RQ, FARM = '{RQ_KEY_PREFIX}', '{FARM_KEY_PREFIX}'\n"
    prefixes += f"local MAX_EVENTS = {MAX_EVENTS}\n"
    prefixes += f"local WAIT_BOUNDS, JOB_BOUNDS = {_table(WAIT_BOUNDS_S)}, {_table(JOB_BOUNDS_S)}\n"
    return prefixes + "".join(file.read_text(encoding="utf-8") for file in files)


def _table(numbers: Iterable[int]) -> str:
    return "{" + ", ".join(map(str, numbers)) + "}"
