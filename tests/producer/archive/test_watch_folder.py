"""A folder that is watched: each file once, its transcripts as they come, whatever happens."""

import json
import signal

import pytest

from producer.archive.hash_cache import HashCache
from producer.archive.patterns import Patterns
from producer.archive.prepare import SubmitOptions
from producer.archive.settled_files import SettledFiles
from producer.archive.watch_folder import Trouble, WatchFolder
from producer.batches.export import Layout
from producer.errors import QueueFull, ServerUnreachable
from tests.producer.archive.recordings import record
from tests.producer.known_jobs import fail
from tests.stage.fake_engine import FakeEngine
from tests.stage.farm import wait_until


@pytest.fixture
def watch(farm, folder, tmp_path):
    """Return a function that watches the folder until a number of files were noticed."""

    def run(num, layout=None, cache_name="hashes.sqlite"):
        with HashCache(tmp_path / cache_name) as cache:
            files = SettledFiles(folder, Patterns(), 0.0)
            asked = SubmitOptions(batch="incoming")
            with WatchFolder(
                farm.connection, farm.settings, files, folder, asked, cache, layout, poll_s=0.01
            ) as watching:
                noticed = []

                def turn():
                    noticed.extend(watching.turn())
                    return len(noticed) >= num

                wait_until(turn)
                for _ in range(3):
                    noticed.extend(watching.turn())
                return {item.name: item for item in noticed}

    return run


@pytest.fixture
def working(farm):
    """Let a worker finish whatever is submitted, with a text that names the recording."""
    return farm.start(FakeEngine())


def whats(noticed):
    return {name: item.what for name, item in noticed.items()}


def test_what_is_put_into_the_folder_is_submitted_once(folder, watch):
    """A start later nothing is enqueued twice."""
    record(folder / "a.wav", b"1")
    record(folder / "deep/b.wav", b"2")
    assert whats(watch(2)) == {"work/a.wav": "queued", "work/deep/b.wav": "queued"}
    record(folder / "c.wav", b"3")
    again = whats(watch(3))
    assert again == {"work/a.wav": "known", "work/deep/b.wav": "known", "work/c.wav": "queued"}


def test_results_are_written_beside_the_recordings_as_they_come(farm, folder, watch, working):
    """In each format, and by the names that `results` gives them."""
    record(folder / "a.wav", b"1")
    record(folder / "deep/b.wav", b"2")
    noticed = watch(2, Layout(folder.parent, ("txt", "srt")))
    assert whats(noticed) == {"work/a.wav": "done", "work/deep/b.wav": "done"}
    assert noticed["work/a.wav"].outputs == (folder / "a.txt", folder / "a.srt")
    assert (folder / "deep/b.srt").read_text()


def test_results_are_mirrored_into_another_folder(folder, tmp_path, watch, working):
    record(folder / "deep/b.wav", b"2")
    watch(1, Layout(tmp_path / "texts", ("txt",)))
    assert (tmp_path / "texts/work/deep/b.txt").read_text()
    assert [path.name for path in folder.rglob("*.txt")] == []


def test_a_new_start_writes_what_is_missing_and_nothing_else(folder, watch, working):
    """Also when it was stopped between a job's end and its file."""
    record(folder / "a.wav", b"1")
    record(folder / "b.wav", b"2")
    layout = Layout(folder.parent, ("txt",))
    watch(2, layout)
    (folder / "a.txt").unlink()
    before = (folder / "b.txt").stat().st_mtime_ns
    assert whats(watch(1, layout, "another.sqlite")) == {"work/a.wav": "done"}
    assert (folder / "a.txt").exists()
    assert (folder / "b.txt").stat().st_mtime_ns == before


def test_a_copy_gets_results_of_its_own(folder, watch, working):
    """The job is done once."""
    record(folder / "a.wav", b"1")
    record(folder / "copy.wav", b"1")
    assert set(whats(watch(2, Layout(folder.parent, ("txt",)))).values()) == {"done"}
    assert (folder / "copy.txt").read_text() == (folder / "a.txt").read_text()


def test_what_stands_in_a_results_place_is_kept(folder, watch, working):
    """Unless it may be replaced."""
    record(folder / "a.wav", b"1")
    (folder / "a.txt").write_text("mine")
    record(folder / "b.wav", b"2")
    noticed = whats(watch(2, Layout(folder.parent, ("txt", "srt"))))
    assert noticed == {"work/a.wav": "kept", "work/b.wav": "done"}
    assert (folder / "a.txt").read_text() == "mine"


def test_a_failure_is_noticed(farm, folder, watch):
    """With its code."""
    record(folder / "a.wav", b"1")
    job_id = watch(1)["work/a.wav"].job_id
    fail(farm.connection, job_id)
    noticed = watch(1, Layout(folder.parent, ("txt",)))
    assert noticed["work/a.wav"].what == "failed"
    assert noticed["work/a.wav"].error.code == "internal"


def test_while_the_server_is_away_or_full_nothing_is_lost(farm, folder, tmp_path, monkeypatch):
    """What could not be submitted is taken when it can."""
    record(folder / "a.wav", b"1")
    troubles = [ServerUnreachable("redis", "must answer"), QueueFull("submit", "is full")]
    from producer.archive import watch_folder

    real = watch_folder.submit_archive

    def failing(*arguments, **options):
        if troubles:
            raise troubles.pop(0)
        return real(*arguments, **options)

    monkeypatch.setattr(watch_folder, "submit_archive", failing)
    with (
        HashCache(tmp_path / "h.sqlite") as cache,
        WatchFolder(
            farm.connection,
            farm.settings,
            SettledFiles(folder, Patterns(), 0.0),
            folder,
            SubmitOptions(batch="incoming"),
            cache,
            poll_s=0.01,
        ) as watching,
    ):
        seen = []
        for item in watching.follow():
            seen.append(item)
            if not isinstance(item, Trouble):
                break
    codes = [item.error.code for item in seen[:2]]
    assert codes == ["server_unreachable", "queue_full"]
    assert seen[2].what == "queued"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["SIGINT", "SIGTERM"]
)
def test_the_command_says_one_line_a_file_and_ends_when_it_is_told(
    start_scribefarm, tmp_path, working, number, code
):
    """Ctrl-C and SIGTERM both end it between two steps."""
    folder = tmp_path / "work"
    record(folder / "a.wav", b"1")
    asked = ("submit", "--watch", folder, "--settle", "0", "--results", "beside", "--json")
    with start_scribefarm(*asked, SCRIBEFARM_MODEL__NAME="fake") as program:
        try:
            line = json.loads(program.stdout.readline() or program.stderr.read())
            assert (line["name"], line["what"]) == ("work/a.wav", "done")
            assert (folder / "a.txt").exists()
            program.send_signal(number)
            _, said = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == code
    assert "to go on:  scribefarm submit --watch" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--watch", "nowhere"],
        ["--watch", ".", "a.wav"],
        ["--watch", ".", "--dry-run"],
        ["--watch", ".", "--results", "beside", "--format", "nonsense"],
        ["--watch", ".", "--settle", "-1"],
        ["a.wav", "--results", "beside"],
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_done(scribefarm, arguments):
    done = scribefarm("submit", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
