"""Where we keep what only saves time: the user's cache folder."""

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return our folder in the user's cache, whether there is one yet or not."""
    return user_cache_path("scribefarm")
