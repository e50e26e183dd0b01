"""A batch's counts as the scripts keep them: one call, however many files the batch has.

`producer/lua/counts.lua` says what is kept and how it stays right.
"""

from typing import Any, NamedTuple

import redis

from producer.batches.views import BatchCounts
from producer.connection import server_errors
from producer.errors import JobNotFound
from producer.scripts import Scripts
from producer.states import STATE_OF_RQ_STATUS

# Jobs expire without a word, and other RQ programs delete some: a day's error is the most.
MAX_AGE_S = 86_400
# Files of a batch that nobody waits for: a million take most of a minute. Of a larger batch those that
# expire show when it is counted anew by `status --recount`.
MOST_DAILY = 100_000
# Files counted anew in one call: some tens of milliseconds of the server.
_PAGE = 1000
_STATES = (*dict.fromkeys(STATE_OF_RQ_STATUS.values()), "lost")
_CODE = "code:"


class Tally(NamedTuple):
    """A batch's counts, and the work on it, at one moment.

    Attributes:
        ended: Files that ended since the last run began.
        run_at_s: When that was, seconds since the epoch; without a run, when the batch began.
        worked_s: Seconds in which a worker had a file of the batch, in all.
        worked_audio_s: Seconds of audio done in them.
        run_worked_s, run_worked_audio_s: What these were when the run began.
        samples: What they were, each half minute of work, for ten minutes.
    """

    counts: BatchCounts
    ended: int = 0
    run_at_s: float = 0.0
    worked_s: float = 0.0
    worked_audio_s: float = 0.0
    run_worked_s: float = 0.0
    run_worked_audio_s: float = 0.0
    samples: tuple[tuple[float, float], ...] = ()


def read_counts(connection: redis.Redis, batch: str) -> BatchCounts:
    """Return how many files of a batch stand where.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    return read_tally(connection, batch).counts


def read_tally(
    connection: redis.Redis, batch: str, *, anew: bool = False, doubt: bool = False
) -> Tally:
    """Return a batch's tally; its files are counted first if the counts are missing or a day old.

    Of more than `MOST_DAILY` files a day makes no difference. With `anew` they are counted in any case. With `doubt` they are, unless that would take more
    than a twentieth of the server's time.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    scripts = Scripts(connection)
    while True:
        with server_errors(connection):
            verdict, *stored = scripts.run(
                "read_counts",
                batch=batch,
                limit=_PAGE,
                max_age_s=MAX_AGE_S,
                most_daily=MOST_DAILY,
                anew=anew,
                doubt=doubt,
            )
        if verdict == b"unknown":
            raise JobNotFound("batch", "must be known to the server", batch)
        if verdict == b"ok":
            return _tally(stored[0])
        anew = doubt = False


def _tally(stored: list[bytes]) -> Tally:
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in zip(stored[::2], stored[1::2], strict=True)
    }

    def seconds(name: str) -> float:
        return _whole(fields, name) / 1000

    return Tally(
        _counts(fields),
        ended=_whole(fields, "ended"),
        run_at_s=seconds("run_at") or seconds("began_at"),
        worked_s=seconds("worked_ms"),
        worked_audio_s=seconds("worked_audio_ms"),
        run_worked_s=seconds("run_worked_ms"),
        run_worked_audio_s=seconds("run_worked_audio_ms"),
        samples=tuple(_samples(fields.get("samples", ""))),
    )


def _counts(fields: dict[str, str]) -> BatchCounts:
    codes = {
        name.removeprefix(_CODE): _whole(fields, name) for name in fields if name.startswith(_CODE)
    }
    states: dict[str, Any] = {state: max(0, _whole(fields, state)) for state in _STATES}
    by_frequency = sorted(codes.items(), key=lambda code: (-code[1], code[0]))
    return BatchCounts(
        total=sum(states.values()),
        failed_by_code={code: num for code, num in by_frequency if num > 0},
        audio_s=_whole(fields, "audio_ms") / 1000,
        num_flagged=_whole(fields, "num_flagged"),
        num_empty=_whole(fields, "num_empty"),
        **states,
    )


def _samples(stored: str) -> list[tuple[float, float]]:
    pairs = (pair.partition(":") for pair in stored.split(",") if pair)
    # What another program wrote there is no sample.
    return [
        (int(worked) / 1000, int(audio) / 1000)
        for worked, _, audio in pairs
        if worked.isdecimal() and audio.isdecimal()
    ]


def _whole(fields: dict[str, str], name: str) -> int:
    try:
        return int(float(fields.get(name, 0)))
    except (ValueError, OverflowError):
        return 0
