"""The pages: what is asked for in an address, what is looked up, which template shows it."""

import math
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from producer.batches.views import latest_batches
from producer.errors import ERRORS, InvalidOptions, JobNotFound, ScribefarmError
from producer.formats import FORMATS
from producer.result import Transcript
from producer.web.actions import act, said
from producer.web.audio import play
from producer.web.charts import timeline
from producer.web.downloads import download
from producer.web.files import file_rows, filter_of, folder_rows
from producer.web.live import Topic, stream
from producer.web.login import login, logout
from producer.web.parts import PARTS, part_values, speed_line, worker_of
from producer.web.recording import read_recording
from producer.web.rendering import FLAGS, render
from producer.web.snapshot import NUM_BATCHES
from producer.web.text_view import part_of_hit, text_view
from producer.web.web import Web, web_of

_STATIC = Path(__file__).with_name("static")
FILES_A_PAGE, BATCHES_A_PAGE, FOUND_A_PAGE = 50, 50, 20
# Files that are counted for "page 3 of 20"; a page further than that nobody turns to.
_MOST_COUNTED = 100_000
# Seconds in which a batch that nobody looked at before is copied at once.
_FIRST_LOOK_S = 0.25


def overview(request: Request) -> Response:
    """Show the farm."""
    web = web_of(request)
    topic = Topic("farm")
    view = web.feed.view()
    happened = [event for event in reversed(web.feed.events) if event.status != "succeeded"][:8]
    return _page(
        request,
        "overview.html.j2",
        topic,
        happened=happened,
        names=web.index.names_of(event.job_id for event in happened),
        has_more=len(view.batches) >= NUM_BATCHES,
    )


def all_batches(request: Request) -> Response:
    """Show every batch that the server knows, a page at a time."""
    web = web_of(request)
    page = _page_number(request)
    names = latest_batches(web.connection, BATCHES_A_PAGE + 1, (page - 1) * BATCHES_A_PAGE)
    batches = [web.feed.batch(name) for name in names[:BATCHES_A_PAGE]]
    return _page(
        request,
        "all_batches.html.j2",
        Topic("farm"),
        batches=[batch for batch in batches if batch],
        page=page,
        has_more=len(names) > BATCHES_A_PAGE,
    )


def batch(request: Request) -> Response:
    """Show a batch, its folders, and its files as they are filtered."""
    web, name = web_of(request), request.query_params.get("name", "")
    _known_batch(web, name)
    web.indexer.look_at(name, _FIRST_LOOK_S)
    wanted, page = filter_of(request.query_params), _page_number(request)
    num = web.index.count(name, wanted, _MOST_COUNTED)
    num_pages = max(1, math.ceil(num / FILES_A_PAGE))
    page = min(page, num_pages)
    rows = file_rows(web, name, wanted, FILES_A_PAGE, (page - 1) * FILES_A_PAGE)
    return _page(
        request,
        "batch.html.j2",
        Topic("batch", name),
        rows=rows,
        wanted=wanted,
        folders=folder_rows(web, name),
        page=page,
        num_pages=num_pages,
        num_files=num,
        is_capped=num >= _MOST_COUNTED,
        is_whole=web.index.is_whole(name),
        has_texts=web.indexer.has_texts(name),
        codes=sorted(ERRORS),
        flags=sorted(FLAGS),
    )


def search(request: Request) -> Response:
    """Show the recordings of a batch in which something is said."""
    web, name = web_of(request), request.query_params.get("batch", "")
    query, page = request.query_params.get("q", "")[:300], _page_number(request)
    _known_batch(web, name)
    web.indexer.look_at(name, _FIRST_LOOK_S)
    # Counted only while something is missing: of a million texts that takes a second.
    is_there = web.index.is_whole(name) and web.indexer.has_texts(name)
    found = web.index.search(name, query, FOUND_A_PAGE + 1, (page - 1) * FOUND_A_PAGE)
    return _page(
        request,
        "search.html.j2",
        Topic("batch", name),
        query=query,
        found=found[:FOUND_A_PAGE],
        progress=None if is_there else web.index.progress(name),
        is_full=web.indexer.is_full,
        page=page,
        has_more=len(found) > FOUND_A_PAGE,
    )


def workers(request: Request) -> Response:
    """Show all workers."""
    return _page(request, "workers.html.j2", Topic("workers"))


def worker(request: Request) -> Response:
    """Show one worker: what it says of itself, and what it did lately."""
    web, name = web_of(request), request.query_params.get("name", "")
    samples = list(web.feed.samples.get(name, ()))
    events = [event for event in reversed(web.feed.events) if event.worker == name][:50]
    known = worker_of(web.feed.view(), name)
    if known is None and not samples and not events:
        raise JobNotFound("worker", "must be known to the server", name)
    return _page(
        request,
        "worker.html.j2",
        Topic("worker", name),
        events=events,
        names=web.index.names_of(event.job_id for event in events),
        samples=samples,
        points=speed_line(samples),
        most_speed=max((speed for _, speed, _ in samples), default=0.0),
    )


def recording(request: Request) -> Response:
    """Show a recording: its text and its player, why there is none, or how far it is."""
    web, asked = web_of(request), request.query_params
    found = read_recording(web, asked.get("job", ""), asked.get("batch", ""), asked.get("name", ""))
    values: dict[str, Any] = {"recording": found, "query": asked.get("q", "")[:300]}
    if isinstance(found.result, Transcript):
        query = str(values["query"])
        hit_part = part_of_hit(found.result, query) if query else 1
        part = _page_number(request, "part", hit_part)
        text = text_view(found.result, part, query)
        values |= {
            "text": text,
            "marks": timeline(found.result, text.lanes),
            "why_silent": web.recordings.why_not(found.source),
            "formats": list(FORMATS),
        }
    return _page(request, "recording.html.j2", None, **values)


def get_download(request: Request) -> Response:
    """Answer with a transcript as a file."""
    web, asked = web_of(request), request.query_params
    format_name = asked.get("format", "")
    if format_name not in FORMATS:
        raise InvalidOptions("format", f"must be one of {', '.join(FORMATS)}", format_name)
    found = read_recording(web, asked.get("job", ""), asked.get("batch", ""), asked.get("name", ""))
    if not isinstance(found.result, Transcript):
        raise JobNotFound("download", "must have a transcript", found.name)
    return download(found.result, found.name, format_name)


async def audio(request: Request) -> Response:
    """Answer with a recording for the player; the errors are plain, no page shows them."""
    web = web_of(request)
    try:
        found = await run_in_threadpool(read_recording, web, request.query_params.get("job", ""))
        return await play(request, web.recordings, found.source)
    except ScribefarmError as error:
        status = 403 if error.code == "source_forbidden" else 404
        return PlainTextResponse(f"{error.code}\n", status)


async def live(request: Request) -> Response:
    """Answer with the news of a page, as server-sent events."""
    asked = request.query_params
    topic = Topic(asked.get("topic", ""), asked.get("name", ""))
    if topic.kind not in PARTS:
        raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such page.")
    return await stream(request, web_of(request).feed, topic)


def _page(request: Request, template: str, topic: Topic | None, **values: Any) -> Response:
    """Render a page with what all pages show, and with the parts that its topic keeps new."""
    web = web_of(request)
    view = web.feed.view(topic.name if topic and topic.kind == "batch" else None)
    shared = part_values(topic, view) if topic else {"view": view}
    return render(
        template,
        p=shared,
        view=view,
        topic=topic,
        here=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
        said=said(request),
        allow_actions=web.allow_actions,
        has_token=web.access.token is not None,
        **values,
    )


def _known_batch(web: Web, name: str) -> None:
    if web.feed.view(name).batch(name) is None:
        raise JobNotFound("batch", "must be known to the server", name)


def _page_number(request: Request, name: str = "page", default: int = 1) -> int:
    """Return a page's number in an address; the first for what is none."""
    given = request.query_params.get(name, "")
    return max(1, int(given[:6])) if given.isascii() and given.isdecimal() else default


ROUTES: list[BaseRoute] = [
    Route("/", overview),
    Route("/all-batches", all_batches),
    Route("/batch", batch),
    Route("/search", search),
    Route("/workers", workers),
    Route("/worker", worker),
    Route("/recording", recording),
    Route("/download", get_download),
    Route("/audio", audio),
    Route("/live", live),
    Route("/actions/{action}", act, methods=["POST"]),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/logout", logout, methods=["POST"]),
    Mount("/static", StaticFiles(directory=_STATIC)),
]
