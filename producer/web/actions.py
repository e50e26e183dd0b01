"""What the page may do, if it is let: retry, cancel, pause, resume, drain.

That a request comes from our own page is checked before it gets here (`producer.web.access`); after
it the browser is led back to the page, with a word on what was done.
"""

from collections.abc import Callable
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from producer.batches.actions import cancel_batch, cancel_jobs, retry_batch, retry_jobs
from producer.draining import drain
from producer.errors import InvalidOptions
from producer.fleet import pause, resume
from producer.web.access import next_page
from producer.web.filters import Filter
from producer.web.forms import Form, read_form
from producer.web.web import Web, web_of

# Ids of one code that the index gives; of more the batch itself is asked.
_MOST_FROM_INDEX = 200_000


async def act(request: Request) -> Response:
    """Do what a form asks for, and lead back to where it stood."""
    web = web_of(request)
    if not web.allow_actions:
        raise HTTPException(403, "This page is read-only: start it with --allow-actions.")
    do = ACTIONS.get(request.path_params["action"])
    if do is None:
        raise HTTPException(404, "There is no such action.")
    form = await read_form(request)
    said, num = await run_in_threadpool(partial(do, web, form))
    target = next_page(form.get("next", ""))
    web.feed.look_anew()
    path, _, query = target.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith(("said=", "n="))]
    return RedirectResponse(f"{path}?{'&'.join([*kept, f'said={said}', f'n={num}'])}", 303)


def _retry(web: Web, form: Form) -> tuple[str, int]:
    batch, code, job_id = (form.get(name, "") for name in ("batch", "code", "job"))
    if job_id:
        done = list(retry_jobs(web.connection, web.settings, [job_id]))
    elif batch and web.index.is_whole(batch):
        wanted = Filter(state="failed", code=code)
        files = web.index.files(batch, wanted, _MOST_FROM_INDEX, 0)
        jobs = (file.job_id for file in files)
        done = list(retry_jobs(web.connection, web.settings, jobs))
    else:
        done = retry_batch(web.connection, web.settings, batch, [code] if code else [])
    web.index.set_open(done)
    return "retried", len(done)


def _cancel(web: Web, form: Form) -> tuple[str, int]:
    batch, job_id = form.get("batch", ""), form.get("job", "")
    if job_id:
        return "cancelled", len(list(cancel_jobs(web.connection, web.settings, [job_id])))
    return "cancelled", len(cancel_batch(web.connection, web.settings, batch))


def _pause(web: Web, form: Form) -> tuple[str, int]:
    hours = form.get("hours", "")
    if hours and (not hours.isascii() or not hours.isdecimal() or not 0 < int(hours[:4]) <= 168):  # noqa: PLR2004
        raise InvalidOptions("pause", "must be 1 to 168 hours", hours)
    pause(web.connection, int(hours) * 3600 if hours else None)
    return "paused", 0


def _resume(web: Web, form: Form) -> tuple[str, int]:
    del form
    resume(web.connection)
    return "resumed", 0


def _drain(web: Web, form: Form) -> tuple[str, int]:
    drain(web.connection, web.settings, form.get("worker", ""))
    return "drained", 1


ACTIONS: dict[str, Callable[[Web, Form], tuple[str, int]]] = {
    "retry": _retry,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
    "drain": _drain,
}

SAID = {
    "retried": "{n} recordings wait again.",
    "cancelled": "{n} recordings were cancelled, or soon will be.",
    "paused": "The farm is paused: what runs is finished.",
    "resumed": "The farm goes on.",
    "drained": "The worker was asked to finish and end.",
}
"""What is said after an action; nothing else that an address says is shown."""


def said(request: Request) -> str:
    """Return what an action that led here has done; "" if none did."""
    num = request.query_params.get("n", "0")
    text = SAID.get(request.query_params.get("said", ""), "")
    is_number = num.isascii() and num.isdecimal() and len(num) < 10  # noqa: PLR2004
    return text.format(n=num) if is_number else ""
