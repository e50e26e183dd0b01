"""What anybody who may write to the server may leave there: strategies for whole entries.

Job hashes, checkpoints, stored results, progress and events, each valid, of another version, damaged
or hostile, and keys of another type than they should be.
"""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from producer.keys import (
    checkpoint_key,
    executions_key,
    job_key,
    progress_key,
    result_key,
    rq_results_key,
)
from tests.stage.claims import make_progress, make_transcript
from worker.farm.job_hash import dump_checkpoint

TASK = "worker.tasks.transcribe"
DEEP = [b"[" * 5000, b'{"a":' * 5000, b"[" * 150 + b"]" * 150, b"[" * 300 + b"]" * 300]
NUMBERS = [
    b"0", b"1", b"-1", b"-5", b"180", b"3.5", b"nan", b"inf", b"-inf", b"1e308", b"1e400", b"0x10",
    b"9" * 18, b"9" * 25, b"9" * 400, b"9" * 5000, b" 7 ", b"1_000", b"", b"\xff", b"+", b"true",
]  # fmt: skip
TEXTS = [
    "",
    "a",
    "caf\udce9",
    "\ud800",
    "\0",
    "\x1b[2J",
    "\u202e",
    "a\nb",
    "x" * 5000,
    "\U0001f600",
]
SOURCES = [
    "fake:a?windows=1&window_s=0",
    "fake:b?windows=2&window_s=0",
    "fake:c?windows=1&window_s=0&error=corrupt_audio",
    "fake:d?windows=1&window_s=0&error=source_unreachable",
    "/nowhere.wav",
    "file:///%ff%00",
]

texts = st.sampled_from(TEXTS) | st.text(max_size=20)
numbers = st.sampled_from(NUMBERS) | st.binary(max_size=8)
leaves = (
    texts
    | st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, 10**400, 1e308, float("nan"), float("inf")])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


@dataclass
class Entry:
    """One job's keys as a neighbour left them.

    Attributes:
        kind: What of it is odd.
        fields: The job hash; none writes no hash.
        is_queued: Whether its id stands in the queue.
        keys: Other keys and what they hold: bytes, or a list, which makes the key a list.
        events: Entries of the stream.
    """

    kind: str
    job_id: bytes
    fields: dict[bytes, bytes] = field(default_factory=dict)
    is_queued: bool = True
    keys: dict[str, Any] = field(default_factory=dict)
    events: list[dict[bytes, bytes]] = field(default_factory=list)


def plain_ids(name: str) -> st.SearchStrategy[bytes]:
    """Return ids that RQ takes, with a mark that keeps kinds apart."""
    return st.integers(0, 2**64).map(lambda number: f"{name}-{number:x}".encode())


@st.composite
def kwargs(draw: st.DrawFn) -> Any:
    """Return the arguments of a job: sound ones with a few replaced or added."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    asked: dict[str, Any] = {"source": draw(st.sampled_from(SOURCES)), "batch": "night"}
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=2)):
        asked[key] = draw(values)
    if draw(st.booleans()):
        asked["metadata"] = draw(st.dictionaries(texts, values, max_size=2))
    return asked


_KEYS = ["source", "batch", "name", "metadata", "options", "model", "revision", "audio_sha256", "x"]
_OPTIONS = ["temperatures", "language", "suppress_tokens", "clip_timestamps", "best_of", "seed"]
_OPTIONS += ["beam_size", "patience", "length_penalty"]


@st.composite
def data(draw: st.DrawFn) -> bytes:
    """Return the field that holds the call."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(DEEP) | st.binary(max_size=20) | st.just(_BOMB))
    asked = draw(kwargs())
    if isinstance(asked, dict) and draw(st.integers(0, 3)) == 0:
        asked["options"] = {draw(st.sampled_from(_OPTIONS)): draw(values)}
    function = draw(st.sampled_from([TASK] * 9 + ["os.system", None]))
    document = dump([function, None, [], asked])
    return zlib.compress(document) if draw(st.booleans()) else document


_BOMB = zlib.compress(b"0" * 20_000_000)


def dump(document: Any) -> bytes:
    """Return JSON as Python writes it, lone surrogates and NaN included."""
    try:
        return json.dumps(document).encode()
    except ValueError:
        return b'{"a": ' + b"9" * 6000 + b"}"


_ODD_FIELDS = {
    b"result_ttl": numbers,
    b"failure_ttl": numbers,
    b"timeout": numbers,
    b"ttl": numbers,
    b"retries_left": numbers,
    b"tries": numbers,
    b"deaths": numbers,
    b"retry_intervals": st.sampled_from(
        [*DEEP, b"[1e308]", b"[Infinity]", b"[-1]", b'"123"', b"{}"]
    )
    | values.map(dump),
    b"attempts": st.sampled_from([b"\xff\n{}", b'{"code": "x"}']) | values.map(dump),
    b"enqueued_at": numbers | st.sampled_from([b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z"]),
    b"created_at": numbers,
    b"started_at": numbers,
    b"lost_worker": numbers,
    b"worker_name": numbers,
    b"audio_s": numbers,
    b"num_flagged": numbers,
    b"code": numbers,
    b"origin": st.sampled_from([b"default", b"\xff", b"no:such:queue", b""]),
    b"cancel": st.just(b"1"),
    b"drifted": numbers,
    b"enqueue_at_front": numbers,
    b"webhooks": numbers,
    b"dependency_ids": numbers,
    b"fence": numbers,
}


@st.composite
def hashes(draw: st.DrawFn) -> Entry:
    """Return a job hash in the queue, or one that claims to be at work or at an end."""
    name = draw(
        plain_ids("h") | st.sampled_from([b"user:42", b"\xff\xfe", b"a b", b"", b"x\n", b"\0"])
    )
    fields = {b"status": b"queued", b"origin": b"default", b"data": draw(data())}
    for key in draw(st.lists(st.sampled_from(sorted(_ODD_FIELDS)), max_size=4)):
        fields[key] = draw(_ODD_FIELDS[key])
    status = draw(st.integers(0, 9))
    if status == 0:
        odd = [b"finished", b"failed", b"started", b"scheduled", b"deferred", b"\xff", b"odd"]
        fields[b"status"] = draw(st.sampled_from(odd))
    return Entry("job hash", name, fields)


@st.composite
def results(draw: st.DrawFn) -> Entry:
    """Return a job that has ended, with a result of any form."""
    job_id = draw(plain_ids("r"))
    document = json.loads(make_transcript().model_dump_json(by_alias=True))
    document["job_id"] = job_id.decode()
    for key in draw(st.lists(st.sampled_from([*sorted(document), "schema", "error"]), max_size=2)):
        document[key] = draw(st.sampled_from([0, 2, "failed"]) | values)
    if draw(st.booleans()):
        document["metadata"] = draw(values)
    stored = draw(
        st.just(dump(document)) | st.sampled_from(DEEP) | st.binary(max_size=20) | values.map(dump)
    )
    state = draw(st.sampled_from([b"finished", b"failed", b"stopped"]))
    fields = {b"status": state, b"origin": b"default", b"code": b""}
    for key in (b"audio_s", b"num_flagged", b"worker_name", b"started_at", b"ended_at"):
        fields[key] = draw(numbers | st.sampled_from([b"2025-01-01T00:00:00.000000Z"]))
    held: Any = [b"x"] if draw(st.integers(0, 9)) == 0 else stored
    is_known = draw(st.booleans())
    return Entry(
        "result", job_id, fields if is_known else {}, False, {result_key(job_id.decode()): held}
    )


@st.composite
def checkpoints(draw: st.DrawFn) -> Entry:
    """Return a job that another worker seems to have begun."""
    job_id = draw(plain_ids("c"))
    document = json.loads(dump_checkpoint(make_progress("a").checkpoint))
    for key in draw(st.lists(st.sampled_from([*sorted(document), "form"]), max_size=2)):
        document[key] = draw(values)
    if document.get("segments") and isinstance(document["segments"], list) and draw(st.booleans()):
        segment = dict(document["segments"][0]) if isinstance(document["segments"][0], dict) else {}
        segment[draw(st.sampled_from(["tokens", "start", "text", "seek", "flags", "id"]))] = draw(
            values
        )
        document["segments"] = [segment]
    stored = draw(st.just(dump(document)) | st.sampled_from(DEEP) | st.binary(max_size=20))
    sound = {"source": SOURCES[1], "batch": "night"}
    fields = {
        b"status": b"queued",
        b"data": dump([TASK, None, [], sound]),
        b"deaths": draw(numbers),
    }
    return Entry("checkpoint", job_id, fields, True, {checkpoint_key(job_id.decode()): stored})


@st.composite
def other_types(draw: st.DrawFn) -> Entry:
    """Return a sound job of whose keys some are of another type."""
    job_id = draw(plain_ids("k"))
    sound = {"source": draw(st.sampled_from(SOURCES[:4])), "batch": "night"}
    fields = {b"status": b"queued", b"data": dump([TASK, None, [], sound])}
    makers = (result_key, checkpoint_key, progress_key, executions_key, rq_results_key)
    chosen = draw(st.lists(st.sampled_from(makers), min_size=1, max_size=3, unique=True))
    keys: dict[str, Any] = {make(job_id.decode()): [b"x"] for make in chosen}
    if draw(st.integers(0, 4)) == 0:
        keys, fields = {job_key(job_id.decode()): [b"x"]}, {}
    return Entry("key of another type", job_id, fields, True, keys)


@st.composite
def events(draw: st.DrawFn) -> Entry:
    """Return entries of the stream, and progress of a job that no worker has."""
    job_id = draw(plain_ids("e"))
    event = {b"job_id": job_id, b"status": b"succeeded"}
    for key in draw(st.lists(st.sampled_from(_EVENT_KEYS), max_size=3)):
        event[key] = draw(numbers | st.sampled_from([b"failed", b"job_taken_over", b"later"]))
    odd = draw(
        st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), min_size=1, max_size=3)
    )
    progress = {
        b"duration_s": draw(numbers),
        b"seconds_done": draw(numbers),
        b"text": draw(numbers),
    }
    fields = {b"status": b"started", b"worker_name": draw(numbers), b"started_at": draw(numbers)}
    keys = {progress_key(job_id.decode()): progress}
    return Entry("event", job_id, fields, False, keys, [event, odd])


_EVENT_KEYS = [b"job_id", b"status", b"code", b"worker", b"batch", b"kind", b"schema", b"id", b"at"]

entries = st.one_of(hashes(), results(), checkpoints(), other_types(), events(), hashes())
