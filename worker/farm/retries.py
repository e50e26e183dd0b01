"""Decide whether a failed attempt is repeated, and when. Policy only, no Redis."""

from dataclasses import dataclass

from producer.errors import Poison, ScribefarmError, WorkerLost
from producer.settings import QueueSettings


@dataclass(frozen=True)
class History:
    """What a job has been through since it last stored a checkpoint.

    Attributes:
        tries: Attempts that failed, without the present one.
        deaths: Workers in a row that died with it, without a checkpoint in between.
        excused: Those of the deaths whose machine was not heard of since: it may have gone down.
        retries_left: What an RQ program asked for with `Retry`; None if it did not.
        retry_delays_s: The delays it asked for; empty if it did not.
    """

    tries: int = 0
    deaths: int = 0
    excused: int = 0
    retries_left: int | None = None
    retry_delays_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class RetryIn:
    """Try once more, after this many seconds; 0 means at once and before others."""

    delay_s: float


def after_failure(
    error: ScribefarmError, history: History, settings: QueueSettings
) -> RetryIn | ScribefarmError:
    """Return when to try again, or the error that the job ends with.

    Permanent errors are final at once. A recording that was there when `queue.poison_after`
    workers in a row died, on machines that stayed up, is set aside as `Poison`. Other errors are tried again, after growing
    delays, `queue.max_attempts` times in all, or as often as an RQ program asked for.
    A worker's first death costs no delay: machines fail for many reasons that are not the job's.
    """
    if not error.retryable:
        return error
    counted = history.deaths - history.excused
    if counted >= settings.poison_after:
        return Poison("recording", "set aside: workers died while they had it", counted)
    if history.retries_left is not None:
        if history.retries_left <= 0:
            return error
        delays = history.retry_delays_s or (0.0,)
    else:
        if history.tries + 1 >= settings.max_attempts:
            return error
        delays = settings.retry_delays_s
    if isinstance(error, WorkerLost) and history.deaths <= 1:
        return RetryIn(0.0)
    return RetryIn(delays[min(history.tries, len(delays) - 1)])
