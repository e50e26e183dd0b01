"""Recordings that are no files: from submit to a stored result, and nothing secret on the way."""

import io
import json
import wave

import pytest
from structlog.testing import capture_logs

from producer.archive.find import Names, find
from producer.archive.hash_cache import HashCache
from producer.archive.prepare import SubmitOptions
from producer.archive.submit import submit_archive
from producer.batches.actions import cancel_jobs
from producer.batches.running import running_files
from producer.job import Job
from producer.keys import upload_key
from producer.queue import read_result, submit
from producer.rq_data import load_call
from tests.stage.fake_family import FakeFamily
from tests.stage.farm import wait_until
from tests.stage.web import LOOPBACK, page, silent, status, whole
from worker.engine.engine import BatchEngine
from worker.sources.fetch import Fetch

SECRET = "hush"
LATER = "Wed, 21 Oct 2015 07:28:00 GMT"


def recording(level=7):
    """Return two seconds of a constant level as a WAV file."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(level.to_bytes(2, "little", signed=True) * 32_000)
    return content.getvalue()


@pytest.fixture
def night(farm, tmp_path):
    """Return a farm that fetches, and a function that submits and gives the entries by name."""
    farm.configure(audio={"allow_private_hosts": LOOPBACK, "threads": 2})

    def submit_all(*arguments, **asked):
        asked = {"batch": "b"} | asked
        with Names() as names, HashCache(tmp_path / "hashes.sqlite") as cache:
            found = find(map(str, arguments), names)
            entries = submit_archive(
                farm.connection, farm.settings, found, SubmitOptions(**asked), cache
            )
            return {entry.name: entry for entry in entries}

    farm.submit_all = submit_all
    return farm


def start(farm):
    family = FakeFamily()
    engine = BatchEngine(farm.settings, lambda _: family, Fetch(farm.settings))
    return farm.start(engine)


def test_an_address_becomes_a_transcript(night, web):
    """Its result has the hash of what was read; the id was made of what the server had said."""
    web.routes["/talks/a.wav"] = whole(recording())
    start(night)
    entry = night.submit_all(web.url("/talks/a.wav"))["talks/a.wav"]
    result = night.result(entry.job_id)
    assert (entry.verdict, result.status) == ("new", "succeeded")
    assert result.source == web.url("/talks/a.wav")
    assert len(result.audio.sha256) == 64


def test_an_address_is_fetched_once_while_its_version_is_the_same(night, web):
    """A new signature, another time with the same ETag: known. Another ETag: new work."""
    web.routes["/a.wav"] = whole(recording())
    start(night)
    first = night.submit_all(web.url("/a.wav?X-Amz-Signature=1"))["a.wav"]
    night.result(first.job_id)
    web.routes["/a.wav"] = whole(recording(), modified=LATER)
    again = night.submit_all(web.url("/a.wav?X-Amz-Signature=2"))["a.wav"]
    assert (again.verdict, again.job_id) == ("known", first.job_id)
    web.routes["/a.wav"] = whole(recording(9), etag='"2"')
    changed = night.submit_all(web.url("/a.wav"))["a.wav"]
    assert changed.verdict == "new"
    assert night.result(changed.job_id).text != night.result(first.job_id).text


def test_an_address_without_a_version_is_new_each_time(night, web):
    """Nobody can tell whether it is the same."""
    web.routes["/a.wav"] = whole(recording(), etag=None)
    entries = [night.submit_all(web.url("/a.wav"))["a.wav"] for _ in range(2)]
    assert [entry.verdict for entry in entries] == ["new", "new"]
    assert entries[0].job_id != entries[1].job_id


def test_what_changes_before_a_worker_comes_is_source_changed_and_then_new(night, web):
    """As for a file."""
    web.routes["/a.wav"] = whole(recording())
    entry = night.submit_all(web.url("/a.wav"))["a.wav"]
    web.routes["/a.wav"] = whole(recording(9), etag='"2"')
    start(night)
    assert night.result(entry.job_id).error.code == "source_changed"
    again = night.submit_all(web.url("/a.wav"))["a.wav"]
    assert night.result(again.job_id).status == "succeeded"


def test_what_a_server_refused_is_tried_again_when_it_is_submitted(night, web):
    """A signature that had run out; the job's id is the same."""
    web.routes["/a.wav"] = whole(recording())
    entry = night.submit_all(web.url("/a.wav?sig=old"))["a.wav"]
    web.routes["/a.wav"] = status(403)
    start(night)
    assert night.result(entry.job_id).error.code == "source_forbidden"
    web.routes["/a.wav"] = whole(recording())
    again = night.submit_all(web.url("/a.wav?sig=new"))["a.wav"]
    assert (again.verdict, again.job_id) == ("new", entry.job_id)
    assert night.result(entry.job_id).status == "succeeded"


def test_what_no_server_gives_is_a_problem_of_that_address_alone(night, web):
    """Before anything is enqueued; the others are."""
    web.routes["/a.wav"] = whole(recording())
    web.routes["/b.wav"] = page
    addresses = [web.url(f"/{name}.wav") for name in "abc"]
    entries = night.submit_all(*addresses, "http://169.254.169.254/d.wav", "https://[/e.wav")
    codes = {name: entry.error and entry.error.code for name, entry in entries.items()}
    assert codes == {
        "a.wav": None,
        "b.wav": "unsupported_format",
        "c.wav": "source_not_found",
        "d.wav": "source_forbidden",
        "recording": "source_not_found",
    }


@pytest.mark.slow
def test_a_server_that_hangs_costs_no_neighbour(night, web):
    """Its reading thread ends of itself; the farm tries it again."""
    web.routes["/good.wav"] = whole(recording())
    for name in ("bad-1", "bad-2", "bad-3"):
        web.routes[f"/{name}.wav"] = whole(recording(), etag=f'"{name}"')
    names = ["bad-1", "bad-2", "good", "bad-3"]
    night.configure(audio={"allow_private_hosts": LOOPBACK, "read_timeout_s": 5.0})
    entries = night.submit_all(*(web.url(f"/{name}.wav") for name in names))
    for name in ("bad-1", "bad-2", "bad-3"):
        web.routes[f"/{name}.wav"] = silent
    queue = {"retry_delays_s": (0.05,)}
    night.configure(audio={"allow_private_hosts": LOOPBACK, "read_timeout_s": 0.2}, queue=queue)
    worker = start(night)
    assert night.result(entries["good.wav"].job_id).status == "succeeded"
    for name in ("bad-1", "bad-2", "bad-3"):
        result = night.result(entries[f"{name}.wav"].job_id)
        assert [each.code for each in result.attempts] == ["source_unreachable"] * 3
    assert worker.engine.can_read


def test_secrets_of_an_address_stay_in_the_data_of_its_job(night, web):
    """No result, no event, no log line, no name in a batch, no error has them."""
    web.routes["/good.wav"] = whole(recording())
    web.routes["/bad.wav"] = whole(b"no audio", kind="audio/wav")
    web.routes["/gone.wav"] = status(404)
    with capture_logs() as lines:
        start(night)
        entries = night.submit_all(
            *(
                web.url(f"/{name}.wav?token={SECRET}", user=f"me:{SECRET}")
                for name in ("good", "bad", "gone")
            )
        )
        results = [night.result(entry.job_id) for entry in entries.values() if entry.job_id]
    assert [result.status for result in results] == ["succeeded", "failed"]
    assert SECRET not in str(lines)
    assert SECRET not in str(entries)
    assert SECRET not in str(results)
    keys = list(night.connection.scan_iter("*"))
    data = {}
    for key in keys:
        stored = str(_everything(night.connection, key, data))
        assert SECRET not in stored, key
    assert sum(SECRET in json.dumps(load_call(call)) for call in data.values()) == 2


def test_a_cancelled_and_a_running_job_show_no_secret(night, web):
    """Both are read from the job's own data."""
    web.routes["/a.wav"] = silent
    source = web.url(f"/a.wav?token={SECRET}", user=f"me:{SECRET}")
    worker = start(night)
    night.queue().enqueue("worker.tasks.transcribe", source=source)
    (running,) = wait_until(lambda: running_files(night.connection, ["default"]))
    assert running.name.startswith("http://***@")
    worker.worker.drain()
    web.ends.set()
    worker.wait()
    job = night.queue().enqueue("worker.tasks.transcribe", source=source)
    list(cancel_jobs(night.connection, night.settings, [job.id]))
    result = read_result(night.connection, job.id)
    assert result.source.startswith("http://***@")
    assert SECRET not in str(result)


def _everything(connection, key, data):
    kind = connection.type(key)
    if kind == b"string":
        return connection.get(key)
    if kind == b"hash":
        fields = connection.hgetall(key)
        if b"data" in fields:
            data[key] = fields.pop(b"data")
        return fields
    if kind == b"stream":
        return connection.xrange(key)
    if kind == b"list":
        return connection.lrange(key, 0, -1)
    return connection.smembers(key) if kind == b"set" else connection.zrange(key, 0, -1)


def test_another_rq_program_may_name_an_address(night, web):
    """It knows no version; the worker takes what is there, and says its hash."""
    web.routes["/a.wav"] = whole(recording())
    start(night)
    job = night.queue().enqueue("worker.tasks.transcribe", source=web.url("/a.wav"))
    assert night.result(job.id).audio.sha256


def test_a_forged_id_is_not_given_as_known(night, web):
    """Whoever gives a job an id that is not its address' and version's own gains nothing by it."""
    web.routes["/a.wav"] = whole(recording())
    web.routes["/forged.wav"] = whole(recording(9))
    start(night)
    source = web.url("/a.wav")
    (known,) = submit(night.connection, night.settings, [Job(source=source)])
    night.result(known.job_id)
    version = {"etag": '"1"', "size_bytes": len(recording())}
    night.connection.delete(f"rq:job:{known.job_id}", f"scribefarm:result:{known.job_id}")
    night.queue().enqueue(
        "worker.tasks.transcribe",
        source=web.url("/forged.wav"),
        version=version,
        job_id=known.job_id,
    )
    night.result(known.job_id)
    (again,) = submit(night.connection, night.settings, [Job(source=source)])
    assert again.is_new


def test_an_upload_travels_through_the_server(night, tmp_path):
    """Its job is the same as if the file had been named; it lives as long as the settings say."""
    path = tmp_path / "a.wav"
    path.write_bytes(recording())
    entry = next(iter(night.submit_all(path, upload=True).values()))
    assert entry.verdict == "new"
    path.unlink()
    start(night)
    result = night.result(entry.job_id)
    assert (result.status, result.source[:9]) == ("succeeded", "upload://")
    key = upload_key(result.audio.sha256)
    assert 0 < night.connection.ttl(key) <= night.settings.audio.upload_ttl_s
    path.write_bytes(recording())
    assert next(iter(night.submit_all(path).values())).job_id == entry.job_id


def test_an_upload_that_was_dropped_is_source_not_found_and_may_be_sent_again(night, tmp_path):
    """Whoever waits longer than it lives."""
    path = tmp_path / "a.wav"
    path.write_bytes(recording())
    entry = next(iter(night.submit_all(path, upload=True).values()))
    for key in night.connection.scan_iter("scribefarm:upload:*"):
        night.connection.delete(key)
    start(night)
    assert night.result(entry.job_id).error.code == "source_not_found"
    again = next(iter(night.submit_all(path, upload=True).values()))
    assert (again.verdict, again.job_id) == ("new", entry.job_id)
    assert night.result(entry.job_id).status == "succeeded"


def test_what_is_too_large_is_not_uploaded(night, tmp_path):
    """A problem of that file alone."""
    path = tmp_path / "a.wav"
    path.write_bytes(recording())
    night.configure(audio={"max_upload_bytes": 1000})
    entry = next(iter(night.submit_all(path, upload=True).values()))
    assert (entry.verdict, entry.error.code) == ("problem", "out_of_range")
    assert list(night.connection.scan_iter("scribefarm:upload:*")) == []


def test_what_is_done_is_not_uploaded_again(night, tmp_path):
    """Submitting the same every evening fills no server."""
    path = tmp_path / "a.wav"
    path.write_bytes(recording())
    start(night)
    entry = next(iter(night.submit_all(path, upload=True).values()))
    night.result(entry.job_id)
    for key in night.connection.scan_iter("scribefarm:upload:*"):
        night.connection.delete(key)
    assert next(iter(night.submit_all(path, upload=True).values())).verdict == "known"
    assert list(night.connection.scan_iter("scribefarm:upload:*")) == []
    assert read_result(night.connection, entry.job_id).status == "succeeded"


def test_a_job_that_names_an_upload_of_other_audio_is_refused(night, tmp_path):
    """The hash in the source is held against the job's own."""
    start(night)
    job = night.queue().enqueue(
        "worker.tasks.transcribe", source=f"upload://{'a' * 64}/x", audio_sha256="b" * 64
    )
    assert night.result(job.id).error.code == "source_forbidden"
