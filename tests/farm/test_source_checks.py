"""Which files a job may name, and what a share that does not answer costs."""

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from producer.fleet import live_workers
from producer.settings import Settings
from tests.stage.dead_share import DeadShare
from tests.stage.fake_engine import FakeEngine
from tests.stage.fake_family import FakeFamily
from tests.stage.farm import wait_until
from tests.stage.made_audio import noise, write_wav
from worker.audio import reading_threads
from worker.engine.engine import BatchEngine
from worker.farm import held_jobs

TASK = "worker.tasks.transcribe"


def test_sources_outside_the_roots_are_forbidden_whether_they_exist_or_not(farm, tmp_path):
    """`..` and links are resolved first; the engine opens the path that was checked."""
    inside, outside = tmp_path / "archive", tmp_path / "private"
    inside.mkdir()
    outside.mkdir()
    (inside / "good").write_text("")
    (outside / "secret").write_text("")
    (inside / "link").symlink_to(outside / "secret")
    (inside / "folder").symlink_to(outside)
    (inside / "alias").symlink_to(inside / "good")
    farm.configure(audio={"roots": (inside,)})
    engine = FakeEngine()
    farm.start(engine)
    queue = farm.queue()
    forbidden = [
        outside / "secret",
        inside / ".." / "private" / "secret",
        inside / "link",
        inside / "folder" / "secret",
        f"{inside}-other/file",
        outside / "no such file",
        "/etc/passwd",
        "relative.wav",
        "\0",
    ]
    for path in forbidden:
        result = farm.result(queue.enqueue(TASK, source=str(path)).id)
        assert (result.status, result.error.code) == ("failed", "source_forbidden"), path
    assert engine.seen == []
    alias = queue.enqueue(TASK, source=str(inside / "alias"))
    result = farm.result(alias.id)
    assert engine.seen[0].job.source == str(inside / "good")
    assert result.source == str(inside / "alias")


def test_a_share_that_does_not_answer_stops_no_other_recording(farm, tmp_path, monkeypatch):
    """Resolving links on a dead mount blocks a thread of its own, never the leases."""
    release = threading.Event()
    resolve = Path.resolve

    def hanging(path, strict=False):
        if "dead-share" in path.parts:
            release.wait(30)
        return resolve(path, strict)

    monkeypatch.setattr(Path, "resolve", hanging)
    monkeypatch.setattr(held_jobs, "SOURCE_CHECK_S", 1.0)
    farm.configure(audio={"roots": (tmp_path,)}, lease_s=1.0, heartbeat_s=0.2)
    engine = FakeEngine()
    farm.start(engine)
    queue = farm.queue()
    dead = queue.enqueue(TASK, source=str(tmp_path / "dead-share" / "a"))
    fine = queue.enqueue(TASK, source=str(tmp_path / "b"))
    assert farm.result(fine.id, 5).status == "succeeded"
    result = farm.result(dead.id)
    release.set()
    assert [each.code for each in result.attempts] == ["source_unreachable"] * 3
    assert len(engine.seen) == 1


@pytest.fixture
def recordings(tmp_path):
    """Return the paths of `dead.wav` and three others, by name."""
    names = ("dead", "good-1", "good-2", "good-3")
    return {name: str(write_wav(tmp_path / f"{name}.wav", noise(1600))) for name in names}


def test_a_worker_that_lost_its_threads_stops_claiming_and_leaves_the_rest_to_others(
    farm, recordings, monkeypatch
):
    """What it had not begun goes back with no try spent; it claims again when threads return."""
    monkeypatch.setattr(reading_threads, "MOST_LOST", 1)
    share = DeadShare(monkeypatch, "open")
    audio = {"threads": 1, "read_timeout_s": 0.5}
    queue, status = farm.queue(), lambda: live_workers(farm.connection, farm.settings)
    with capture_logs() as lines:
        worker = farm.start(BatchEngine(Settings(audio=audio), lambda _: FakeFamily(slots=8)))
        jobs = {name: queue.enqueue(TASK, source=path).id for name, path in recordings.items()}
        wait_until(lambda: [each.lost_threads for each in status()] == [1])
        wait_until(lambda: not worker.worker._held.flights)
        assert farm.commits() == {}
        peer = farm.start(FakeEngine())
        results = {name: farm.result(job_id) for name, job_id in jobs.items()}
        assert {result.status for result in results.values()} == {"succeeded"}
        assert {result.worker for result in results.values()} == {peer.worker.name}
        requeued = {line["job_id"]: line["code"] for line in lines if line["event"] == "requeued"}
        dead = jobs.pop("dead")
        assert requeued == {dead: "source_unreachable"} | dict.fromkeys(jobs.values(), "drained")
        share.answers.set()
        wait_until(lambda: {each.lost_threads for each in status()} == {0})
        peer.stop()
        again = queue.enqueue(TASK, source=recordings["good-1"], options={"seed": 1}).id
        assert farm.result(again).worker == worker.worker.name
    said = [line["event"] for line in lines if line["event"].startswith("claims_")]
    assert said == ["claims_stopped", "claims_resumed"]


def test_a_blocked_worker_of_a_burst_ends(farm, recordings, monkeypatch):
    """Its queue is not empty, but it will not take from it."""
    farm.start(FakeEngine(can_read=False), burst=True).wait()
    farm.queue().enqueue(TASK, source=recordings["good-1"])
    worker = farm.start(FakeEngine(can_read=False), burst=True)
    assert worker.wait() == 0
    assert worker.engine.seen == []
