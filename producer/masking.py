"""Addresses without their secrets, for messages and listings."""

from urllib.parse import urlsplit


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
