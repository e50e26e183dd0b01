"""The replies of a batch that a test or a benchmark starts in the engine's place."""

from worker.engine.family import handed_over


def all_replies(started):
    """Return one reply a request: hand over all parts, and wait where something is to be read."""
    replies = handed_over(started)
    return replies() if callable(replies) else replies
