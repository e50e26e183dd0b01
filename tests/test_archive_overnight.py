"""An archive overnight: every file accounted for, nothing done twice, whatever dies meanwhile."""

import json
import os
from collections import Counter

import pytest

from tests.archive_engine import transcribe
from tests.archive_farm import ArchiveFarm
from tests.farm import wait_until
from tests.made_archive import MAX_SECONDS, make_archive, noise, write

# Large enough for each of the ten ways to be broken, in each folder, under each odd name.
NUM_FILES = int(os.environ.get("ARCHIVE_NUM_FILES", "200"))


@pytest.fixture
def farm(tmp_path):
    farm = ArchiveFarm(tmp_path)
    yield farm
    farm.stop()


@pytest.fixture
def archive(tmp_path):
    return make_archive(tmp_path / "talks", NUM_FILES)


def readable(path):
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def name_of(farm, path):
    """Return the name of a file in its batch: from the archive's folder on."""
    return readable(path.relative_to(farm.folder))


def check_end_state(farm, archive, batch):
    """Compare report and results of a finished batch with the truth, file for file."""
    stdout, _ = farm.run("report", batch, "--json", code=1)
    report = json.loads(stdout)
    failed = {
        file["name"]: group["code"] for group in report["failures"] for file in group["files"]
    }
    assert failed == {name_of(farm, path): code for path, code in archive.broken.items()}
    assert report["counts"]["succeeded"] == len(archive.good)
    assert report["counts"]["total"] == archive.num_jobs
    quiet = {name_of(farm, path) for path in archive.good if "quiet" in path.parts}
    assert {segment["name"] for segment in report["flagged"]} == quiet

    output = farm.folder / f"texts of {batch}"
    farm.run("results", batch, "-o", output, code=1)
    expected = [transcribe(path, MAX_SECONDS)[0].strip() + "\n" for path in archive.good]
    assert len(set(expected)) == len(expected)
    assert sorted(path.read_text() for path in output.rglob("*.txt")) == sorted(expected)

    commits = Counter(event["job_id"] for event in farm.run_json("events"))
    assert set(commits.values()) == {1}


@pytest.mark.timeout(400)
def test_every_file_of_an_archive_is_accounted_for_and_nothing_is_done_twice(farm, archive):
    """Three workers: the report matches the truth; again: nothing; ten changed files: ten jobs."""
    files, summary = farm.submit("talks", "--batch", "night", code=1)
    problems = {file["path"]: file["error"]["code"] for file in files if file["error"]}
    assert problems == {str(path): code for path, code in archive.problems.items()}
    assert summary["files"] == NUM_FILES
    assert summary["new"] + summary["known"] == archive.num_jobs
    archive.vanish()
    for _ in range(3):
        farm.start_worker()
    farm.wait_done("night")
    check_end_state(farm, archive, "night")

    _, again = farm.submit("talks", "--batch", "again", code=1)
    assert again["new"] == 0
    assert again["known"] == archive.num_jobs - len(archive.vanishing)

    changed = archive.good[:10]
    for seed, path in enumerate(changed):
        write(path, noise(10**6 + seed))
    _, third = farm.submit("talks", "--batch", "third", code=1)
    assert third["new"] == len(changed)
    assert third["reasons"]["audio_changed"] == len(changed)
    counts = farm.wait_done("third")
    assert counts.succeeded == len(archive.good)


@pytest.mark.timeout(400)
def test_killing_everything_in_the_middle_does_not_change_the_end(farm, archive):
    """Submit, server and workers die by kill -9; started again, the end state is the truth."""
    with farm.start("submit", "--json", "talks", "--batch", "night") as submitting:
        submitting.stdout.readline()
        submitting.kill()
    farm.submit("talks", "--batch", "night", code=1)
    archive.vanish()
    for _ in range(3):
        farm.start_worker(work_s=0.05)
    wait_until(lambda: farm.connection.xlen("scribefarm:events") > NUM_FILES // 10, timeout_s=60)
    farm.kill_workers()
    farm.server.kill()
    farm.server.start()
    assert farm.counts("night").left > 0
    for _ in range(3):
        farm.start_worker()
    farm.wait_done("night")
    check_end_state(farm, archive, "night")
