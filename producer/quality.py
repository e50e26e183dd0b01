"""Presets of the options that decide between speed and the likeliest text."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# `reference` is what openai-whisper's command does if nothing is said, and so do ours.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "fast": {"beam_size": None, "best_of": 1, "patience": None, "length_penalty": None},
        "reference": {"beam_size": 5, "best_of": 5, "patience": None, "length_penalty": None},
    }
)
