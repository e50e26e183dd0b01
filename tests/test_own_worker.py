"""A project that has a `worker.py` of its own, as most RQ projects do, beside scribefarm."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from producer import embedded

BIN = Path(sys.executable).parent
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"

pytestmark = [pytest.mark.slow, pytest.mark.weights]

THEIRS = """
import json
from rq import get_current_job

OURS = "the project's own"

def count_words(job_id):
    stored = get_current_job().connection.get(f"scribefarm:result:{job_id}")
    return len(json.loads(stored)["text"].split())
"""
ENQUEUE = """
import os, sys
from redis import Redis
from rq import Queue
import producer
import worker

assert worker.OURS
(entry,) = producer.submit([sys.argv[1]]).entries
connection = Redis.from_url(os.environ["SCRIBEFARM_REDIS__URL"])
counts = Queue("counts", connection=connection, serializer="json")
print(counts.enqueue(worker.count_words, entry.job_id, depends_on=entry.job_id).id)
"""
READ = """
import os, sys
from redis import Redis
from rq.job import Job

job = Job.fetch(sys.argv[1], Redis.from_url(os.environ["SCRIBEFARM_REDIS__URL"]), serializer="json")
print(job.get_status(), job.return_value())
"""


@pytest.fixture
def project(tmp_path, settings, connection):
    """Return a function that runs a program in the project's folder, on an empty server."""
    (tmp_path / "worker.py").write_text(THEIRS)
    (tmp_path / "enqueue.py").write_text(ENQUEUE)
    (tmp_path / "read.py").write_text(READ)
    url = f"unix://{embedded.status(settings).socket}"
    environment = {
        **os.environ, "SCRIBEFARM_REDIS__URL": url, "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }  # fmt: skip

    def run(*command):
        done = subprocess.run(
            [str(word) for word in command], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    run.url = url
    return run


def test_a_project_with_a_worker_module_enqueues_and_has_workers_of_both_kinds(project):
    """All are started in its folder: theirs run worker.count_words, ours worker.tasks.transcribe."""
    job = project(sys.executable, "enqueue.py", CLIP).strip()
    project(BIN / "scribefarm-worker", "run", "--burst")
    # As the document says: `rq` itself looks into the folder last, after what is installed.
    rq = (sys.executable, "-m", "rq.cli", "worker", "counts", "--serializer", "json")
    project(*rq, "--burst", "--url", project.url)
    assert project(sys.executable, "read.py", job) == "JobStatus.FINISHED 12\n"


def test_transcribe_starts_our_worker_and_not_the_projects(project):
    """Its child process is `python -m worker`, which takes what lies in the folder if it may."""
    text = project(BIN / "scribefarm", "transcribe", CLIP, "--format", "txt")
    assert "Ever tried. Ever failed." in text
