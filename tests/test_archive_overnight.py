"""An archive overnight: every file accounted for, nothing done twice, whatever dies meanwhile."""

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from producer.settings import AudioSettings, ModelSettings
from tests.conftest import SHARED_DATA
from tests.stage.archive_engine import transcribe
from tests.stage.archive_farm import SCRIPT, ArchiveFarm
from tests.stage.farm import wait_until
from tests.stage.made_archive import MAX_SECONDS, RATE_HZ, cut_speech, make_archive, noise, write

# The least that is broken in all ten ways and has all odd names; 2000 for the whole night.
GOLDENS = Path(__file__).parent / "data" / "beam_goldens.jsonl"
NUM_FILES = int(os.environ.get("ARCHIVE_NUM_FILES", "200"))
WAIT_S = 60 + NUM_FILES / 4


@pytest.fixture
def farm(tmp_path):
    farm = ArchiveFarm(tmp_path)
    yield farm
    farm.stop()


@pytest.fixture
def archive(tmp_path):
    """Clips of the shared recordings; noise where those are not."""
    speech = SHARED_DATA / "audio" / "english"
    clips = cut_speech(speech) if speech.is_dir() else None
    return make_archive(tmp_path / "talks", NUM_FILES, clips=clips)


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


@pytest.mark.slow
@pytest.mark.timeout(300 + NUM_FILES)
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
    farm.wait_done("night", WAIT_S)
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
    counts = farm.wait_done("third", WAIT_S)
    assert counts.succeeded == len(archive.good)


@pytest.mark.slow
@pytest.mark.timeout(300 + NUM_FILES)
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
    farm.wait_done("night", WAIT_S)
    check_end_state(farm, archive, "night")


@pytest.mark.slow
@pytest.mark.archive
@pytest.mark.weights
@pytest.mark.timeout(600)
def test_a_part_of_an_archive_is_heard_by_the_real_model(farm, shared_data):
    """JFK under an odd name gives the golden text, cut chapters give text, broken files errors."""
    farm.settings = farm.settings.model_copy(
        update={"model": ModelSettings(), "audio": AudioSettings()}
    )
    speech, talks = shared_data / "audio" / "english", farm.folder / "talks"
    (talks / "two\nlines").mkdir(parents=True)
    jfk = os.fsdecode(b'caf\xe9 "1961".flac')
    shutil.copy(speech / "jfk.flac", talks / "two\nlines" / jfk)
    for path in sorted(speech.glob("librispeech-*.flac"))[:4]:
        samples, rate_hz = soundfile.read(path, frames=6 * RATE_HZ, dtype="float32")
        assert rate_hz == RATE_HZ
        write(talks / f"{path.stem} cut.wav", samples)
    (talks / "empty.wav").touch()
    (talks / "text.mp3").write_text("This is not audio.\n" * 100)

    farm.submit("talks", "--batch", "night")
    command = [SCRIPT.with_name("scribefarm-worker"), "run", "--burst"]
    subprocess.run(command, env=farm.environment, cwd=farm.folder, check=True, timeout=500)
    stdout, _ = farm.run("report", "night", "--json", code=1)
    failed = {group["code"]: group["count"] for group in json.loads(stdout)["failures"]}
    assert failed == {"empty_input": 1, "unsupported_format": 1}
    farm.run("results", "night", "-o", "texts", code=1)
    texts = {path.stem: path.read_text() for path in (farm.folder / "texts").rglob("*.txt")}
    golden = map(json.loads, GOLDENS.read_text("utf-8").splitlines())
    expected = next(
        each["text"]
        for each in golden
        if each["path"].endswith("jfk.flac") and each["model"] == "tiny.en"
    )
    assert " ".join(texts.pop('caf\\xe9 "1961"').split()) == expected.strip()
    assert len(texts) == 4
    assert all(len(text.split()) > 5 for text in texts.values())
