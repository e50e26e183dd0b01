"""Which files a job may name, and what a share that does not answer costs."""

import threading
from pathlib import Path

from tests.stage.fake_engine import FakeEngine
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
