"""The function that RQ jobs name: any RQ program may enqueue it, only the farm worker runs it."""

from typing import Any, NoReturn

from producer.errors import JobRefused
from producer.job import TASK_NAME


def transcribe(**kwargs: Any) -> NoReturn:
    """Name the work; the keyword arguments are the fields of `producer.job.Job`.

    The farm worker reads the arguments and gives them to its engine without calling this
    function. A stock RQ worker does call it, and gets a reason instead of a transcript.

    Raises:
        JobRefused: always.
    """
    raise JobRefused(
        TASK_NAME,
        "runs in a farm worker only: start `scribefarm-worker run` on this queue, and let "
        "`rq worker` listen to other queues",
        kwargs.get("source"),
    )
