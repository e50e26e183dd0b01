"""What an error reply of the server means: not now, or something about the keys that were named.

Redis says it in the first word of the reply. redis-py makes a class of its own of some of these
words and strips them, leaves others in a plain `ResponseError`, and puts the command in front of
errors that come out of a pipeline.
"""

from typing import Any

import redis
from redis import exceptions

# The disk is full, a script runs, replicas are missing, it is a replica, memory is full, it starts,
# a user lost a permission: all of these pass or are mended by an administrator.
NOT_NOW = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
    }
)

_CODE_OF_CLASS: dict[type[Exception], str] = {
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
}
_OF_PIPELINE = " of pipeline caused error: "
WRONG_TYPE = "WRONGTYPE"


def reply_code(error: redis.RedisError) -> str:
    """Return the first word of the server's reply, such as MISCONF; "" for other errors."""
    for kind, code in _CODE_OF_CLASS.items():
        if isinstance(error, kind):
            return code
    if not isinstance(error, redis.ResponseError):
        return ""
    reply = str(error).rpartition(_OF_PIPELINE)[2]
    word = reply.partition(" ")[0]
    return word if word.isupper() else ""


def is_not_now(error: Exception) -> bool:
    """Return whether the same command may be taken later: no answer, or one of `NOT_NOW`."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return True
    return isinstance(error, redis.RedisError) and reply_code(error) in NOT_NOW


def lenient_replies(pipeline: Any) -> list[Any]:
    """Run a pipeline; the reply of a key that some program made another type is None.

    Raises:
        redis.RedisError: the server did not answer, or refused for another reason.
    """
    replies = pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not is_wrong_type(reply):
            raise reply
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def is_wrong_type(error: Exception) -> bool:
    """Return whether a key is of another type than the command asks for."""
    return isinstance(error, redis.RedisError) and reply_code(error) == WRONG_TYPE
