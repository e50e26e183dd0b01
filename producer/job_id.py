"""A job's id: 32 hex digits over all that its text depends on, the same in every version."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from producer.model_names import may_be_whisper

# Part of every job id: raising it makes all work new. Raise it when the same audio, model and
# options would give another transcript or another result schema.
# 2: an id of version 1 may hold the text of another model than the one that it was made with.
# 3: how the recording is read is part of the id.
PIPELINE_VERSION = 3

# Options that came later, each with the value that stands for what was done before: with it a job
# has the id that it had. Not the default, which may be another one.
LATER_OPTIONS: Mapping[str, Any] = {
    "beam_size": None,
    "patience": None,
    "length_penalty": None,
    "multilingual": False,
    "on_drift": "flag",
    "drift_model": None,
}

# Defaults that were others: what a job meant that was enqueued when they were, and left them out.
FORMER_DEFAULTS: Mapping[str, Any] = {"beam_size": None, "best_of": 1}


def content_id(
    identity: str,
    model: tuple[str | None, str | None],
    options: Mapping[str, Any],
    read_as: Mapping[str, Any],
) -> str:
    """Return the id of a job.

    Args:
        identity: What stands for the audio, as `Job.identity` has it.
        model: Its name and revision; None is any.
        options: Of the job, as JSON types.
        read_as: How the recording is read, as JSON types.
    """
    name, revision = model
    asked = {
        "audio": identity,
        "model": [name, revision or "default"],
        "options": _text_options(options, name),
        "read": read_as,
        "pipeline": PIPELINE_VERSION,
    }
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def _text_options(options: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return what the text depends on, as it was written before later options came."""
    asked = dict(options)
    if asked["beam_size"] == 1 and asked["patience"] is None:
        # One beam is the greedy choice.
        asked["beam_size"] = None
    if model and not may_be_whisper(model) and asked["on_drift"] == "flag":
        # Greedy whatever the defaults are.
        asked |= FORMER_DEFAULTS
    return {
        name: value
        for name, value in asked.items()
        if name not in LATER_OPTIONS or value != LATER_OPTIONS[name]
    }
