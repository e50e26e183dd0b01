"""One recording: its name, where it is, what came of it or how far it is."""

from typing import NamedTuple, cast

import redis

from producer.batches.views import FileView, view_files
from producer.connection import server_errors
from producer.errors import JobNotFound, JobRefused
from producer.keys import batch_key, job_key
from producer.queue import read_progress, read_result
from producer.result import Failure, Transcript
from producer.rq_data import load_call
from producer.source import shown_source
from producer.stored_fields import stored_number
from producer.web.web import Web


class RecordingView(NamedTuple):
    """What the page of a recording shows.

    Attributes:
        name: As its batch calls it, else as its submission did.
        batch: The batch that the page was reached from; "" is none.
        source: Its path or address, as its worker knows it.
        part_done: From 0 to 1, of one in hand.
        latest: The latest words of one in hand.
    """

    job_id: str
    name: str
    batch: str
    source: str
    view: FileView
    result: Transcript | Failure | None
    part_done: float = 0.0
    latest: str = ""


def read_recording(web: Web, job_id: str, batch: str = "", name: str = "") -> RecordingView:
    """Return a recording by its job; `batch` and `name` are believed if the server says the same.

    Raises:
        JobNotFound: the server knows neither the job nor a result of it.
        ServerUnreachable: no server answers.
    """
    result = read_result(web.connection, job_id) if job_id else None
    own_name, source = _named(web.connection, job_id)
    if result is not None and result.source:
        source = result.source
    is_known = bool(batch and name) and _is_in(web.connection, batch, name, job_id)
    (view,) = view_files(web.connection, [(name if is_known else own_name or source, job_id)])
    if result is None and view.state == "lost":
        raise JobNotFound("job", "must be known to the server", job_id)
    progress = {} if result else read_progress(web.connection, [job_id]).get(job_id, {})
    total_s = stored_number(progress.get("duration_s"))
    return RecordingView(
        job_id=job_id,
        name=view.name or job_id,
        batch=batch if is_known else "",
        source=source,
        view=view,
        result=result,
        part_done=min(1.0, stored_number(progress.get("seconds_done")) / total_s) if total_s else 0,
        latest=progress.get("text", ""),
    )


def _is_in(connection: redis.Redis, batch: str, name: str, job_id: str) -> bool:
    key = name.encode(errors="replace")
    with server_errors(connection):
        stored = cast("bytes | None", connection.hget(batch_key(batch), key))
    return stored == job_id.encode(errors="replace")


def _named(connection: redis.Redis, job_id: str) -> tuple[str, str]:
    """Return name and source of a job, as the submission that first asked for it has them."""
    with server_errors(connection):
        data = cast("bytes | None", connection.hget(job_key(job_id), "data"))
    try:
        *_, kwargs = load_call(data or b"")
    except JobRefused:
        return "", ""
    asked = kwargs if isinstance(kwargs, dict) else {}
    name, source = (asked.get(key) for key in ("name", "source"))
    return (
        shown_source(name) if isinstance(name, str) else "",
        shown_source(source) if isinstance(source, str) else "",
    )
