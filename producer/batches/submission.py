"""What a batch's last submission found and left out, and since when the batch's run counts.

It is kept beside the batch, so that the report can account for every file of the submitted folder:
also for those that never became jobs.
"""

from typing import Any, Literal

import redis
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.connection import server_errors
from producer.keys import submission_key, submitting_key
from producer.scripts import Scripts
from producer.settings import Settings

# About half a megabyte. All are counted; nobody reads on in a longer list.
MAX_LISTED = 2000

# A submission that has written nothing for so long has died: hashing a page of large files from a
# share takes minutes.
_SUBMITTING_TTL_S = 600


class LeftOut(BaseModel):
    """A file that could not be submitted, and why."""

    model_config = ConfigDict(frozen=True)

    path: str
    code: str
    message: str


class Submission(BaseModel):
    """One submission: times are seconds since the epoch, by the server's clock.

    Attributes:
        run_started_at_s: When the run began of which this submission is a part: it joins the run
            before it while the batch still has work left.
        ended_at_s: None of one that goes on or was killed.
        verdicts: Files by `producer.archive.submit.Verdict`, those ignored included.
        ignored: Files that were ignored by name, by extension or kind.
        problems, duplicates: At most `MAX_LISTED` of each; `verdicts` has their number. A
            duplicate's path leads to the name that stands for it.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    run_started_at_s: float
    began_at_s: float
    ended_at_s: float | None = None
    verdicts: dict[str, int] = {}
    ignored: dict[str, int] = {}
    problems: list[LeftOut] = []
    duplicates: dict[str, str] = {}


def read_submission(connection: redis.Redis, batch: str) -> Submission | None:
    """Return what is kept of the batch's last submission; None if nothing is, or not by us."""
    with server_errors(connection):
        stored: Any = connection.get(submission_key(batch))
    try:
        return None if stored is None else Submission.model_validate_json(stored)
    except ValidationError:
        return None


def write_submission(
    connection: redis.Redis, settings: Settings, batch: str, submission: Submission
) -> None:
    """Keep the record as long as the batch; while it goes on, no moment without work is its end."""
    document = submission.model_dump_json(by_alias=True)
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        pipeline.set(submission_key(batch), document, ex=settings.queue.result_ttl_s)
        if submission.ended_at_s is None:
            pipeline.set(submitting_key(batch), "1", ex=_SUBMITTING_TTL_S)
        pipeline.execute()


def end_submission(connection: redis.Redis, batch: str) -> None:
    """Note that no more files come: a batch without work left is done."""
    with server_errors(connection):
        Scripts(connection).run("end_submission", batch=batch)
