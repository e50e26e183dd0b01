"""Where a job stands: RQ's words in its hash, and ours for batches and commands."""

from typing import Literal

# `waiting` is for another job or for the next try; `lost` is unknown to the server.
State = Literal["queued", "running", "waiting", "succeeded", "failed", "lost"]

STATE_OF_RQ_STATUS: dict[str, State] = {
    "created": "waiting",
    "queued": "queued",
    "started": "running",
    "deferred": "waiting",
    "scheduled": "waiting",
    "finished": "succeeded",
    "failed": "failed",
    "stopped": "failed",
    "canceled": "failed",
}

# RQ's words for jobs that ended without a transcript; `ENDED_BADLY` in lua/prelude.lua.
ENDED_BADLY = frozenset(status for status, state in STATE_OF_RQ_STATUS.items() if state == "failed")


def state_of(rq_status: str) -> State:
    """Return our word for RQ's; a status that RQ does not have counts as lost."""
    return STATE_OF_RQ_STATUS.get(rq_status, "lost")
