"""Addresses to listen at."""

import contextlib
import re
from ipaddress import ip_address
from typing import NamedTuple

from producer.errors import InvalidOptions

_MAX_PORT = 65_535
_LISTEN = re.compile(r"(?:(?P<host>[^\[\]:/\s]+|\[[0-9A-Fa-f:.]+\]):)?(?P<port>[0-9]{1,5})")


class Address(NamedTuple):
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        with contextlib.suppress(ValueError):
            return ip_address(self.host).is_loopback
        return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, context: str) -> Address:
    """Read `PORT` of this machine alone, `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        InvalidOptions: another form.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise InvalidOptions(context, "must be PORT, HOST:PORT or [IPV6]:PORT", text)
    return Address((match["host"] or "127.0.0.1").strip("[]"), int(match["port"]))
