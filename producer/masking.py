"""Addresses without their secrets, for messages and listings."""

import re
from urllib.parse import urlsplit

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)


def mask_url(url: str) -> str:
    """Return a URL without its user, password and query, which may be secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    if not parts.scheme:
        return "***"
    user = "***@" if "@" in parts.netloc else ""
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{user}{parts.hostname or ''}{port}{parts.path}{query}"


def mask_secrets(text: str) -> str:
    """Return a setting's text fit for a message: of an address only what is no secret."""
    return mask_url(text) if "://" in text else text


def mask_urls(text: str) -> str:
    """Return a message with `mask_url` of each URL in it."""
    return _URL.sub(lambda found: mask_url(found[0]), text)


def server_of(url: str) -> str:
    """Return scheme, host and port of a URL whose very path may be a secret, as a webhook's is."""
    parts = urlsplit(mask_url(url))
    if not parts.netloc:
        return "***"
    return f"{parts.scheme}://{parts.netloc.removeprefix('***@')}/***"
