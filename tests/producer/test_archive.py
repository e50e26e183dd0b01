"""From an archive to the queue: what is found, how it is named, what is enqueued and what is not."""

import io
import json
import os
import wave
from pathlib import Path

import pytest

from producer import queue
from producer.archive.duration import header_duration_s
from producer.archive.find import Duplicate, FoundFile, Names, Patterns, Problem, find, read_list
from producer.archive.hash_cache import HashCache, hash_audio
from producer.archive.manifest import read_manifest
from producer.archive.submit import SubmitOptions, plan_archive, submit_archive
from producer.batches.views import view_batch
from producer.errors import InvalidOptions, QueueFull, SourceForbidden, SourceNotFound, WorkerLost
from producer.job import Job, Options
from producer.keys import job_key, result_key
from producer.queue import read_result
from producer.result import Failure, dump_result

LONG_AGO_S = 1_700_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def names():
    with Names() as names:
        yield names


@pytest.fixture
def cache(tmp_path):
    with HashCache(tmp_path / "hashes.sqlite") as cache:
        yield cache


def record(path, content=None):
    """Write a file that passes for a recording; its content is its path, so all differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(path) if content is None else content)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def found_names(found):
    return sorted(item.name for item in found if isinstance(item, FoundFile))


def submit(connection, settings, cache, *arguments, **request):
    with Names() as names:
        asked = SubmitOptions(batch="b", **request)
        return list(submit_archive(connection, settings, find(arguments, names), asked, cache))


def verdicts(entries):
    return [entry.verdict for entry in sorted(entries, key=lambda entry: entry.path)]


def fail(connection, job_id, error):
    """End a job as a worker does that met this error."""
    connection.set(result_key(job_id), dump_result(Failure.from_error(job_id, error)), ex=60)
    connection.hset(job_key(job_id), mapping={"status": "failed", "code": error.code})


def test_a_folder_gives_all_audio_below_it_named_from_the_folder_on(folder, names):
    """Other files, hidden ones and AppleDouble companions are passed over."""
    for name in (
        "a.wav",
        "b/c.MP3",
        "b/d.mkv",
        "notes.txt",
        ".hidden.wav",
        "b/._c.mp3",
        ".x/e.wav",
    ):
        record(folder / "talks" / name)
    assert found_names(find(["talks"], names)) == ["talks/a.wav", "talks/b/c.MP3", "talks/b/d.mkv"]


def test_patterns_include_and_exclude_files_of_a_folder(folder, names):
    """Patterns without a slash look at names of files and folders, with one at the path."""
    for name in ("a.wav", "a.flac", "drafts/b.wav", "x/y/c.wav", "x/d.dat"):
        record(folder / "talks" / name)
    patterns = Patterns(include=("*.WAV", "*.dat"), exclude=("drafts", "x/y/*"))
    assert found_names(find(["talks"], names, patterns)) == ["talks/a.wav", "talks/x/d.dat"]


def test_files_patterns_and_lists_are_named_from_the_current_folder_on(folder, names, tmp_path):
    """A file elsewhere is named by its whole path."""
    record(folder / "one.dat")
    record(folder / "talks/two.wav")
    elsewhere = record(tmp_path / "else/three.wav")
    found = find(["one.dat", "talks/**/*.wav", str(elsewhere)], names)
    assert found_names(found) == sorted(
        ["one.dat", "talks/two.wav", str(elsewhere).removeprefix("/")]
    )


def test_two_folders_of_one_name_do_not_share_names(folder, names, tmp_path):
    """The second file of a name is named by its whole path."""
    record(folder / "talks/a.wav")
    record(tmp_path / "else/talks/a.wav")
    found = list(find(["talks", str(tmp_path / "else/talks")], names))
    assert len({item.name for item in found}) == 2


def test_a_file_found_twice_is_taken_once(folder, names):
    """By folder and by name: the second time it is a duplicate, not a problem."""
    path = record(folder / "talks/a.wav")
    first, second = find(["talks", "talks/a.wav"], names)
    assert first.path == path
    assert second == Duplicate(str(path))


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(folder, names):
    """A missing file, a pattern without a match, a pipe and a dangling link."""
    record(folder / "fine.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "link.wav").symlink_to("nowhere")
    arguments = ["missing.wav", "*.ogg", "pipe.wav", "link.wav", "nul\0.wav", "fine.wav"]
    found = list(find(arguments, names))
    codes = [item.error.code for item in found if isinstance(item, Problem)]
    assert codes == [
        "source_not_found",
        "source_not_found",
        "unsupported_format",
        "source_not_found",
        "source_not_found",
    ]
    assert found_names(found) == ["fine.wav"]


def test_links_to_folders_are_not_followed(folder, names):
    """A folder that links to itself is searched once."""
    record(folder / "talks/a.wav")
    (folder / "talks/loop").symlink_to(folder / "talks")
    assert found_names(find(["talks"], names)) == ["talks/a.wav"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_is_read_in_blocks_and_may_lack_its_last_separator(separator):
    """Paths longer than a block and bytes that are not UTF-8 survive."""
    paths = [b"a", b"b" * 100_000, b"c d", b"\xff\xfe.wav"]
    stream = io.BufferedReader(io.BytesIO(separator.join([*paths[:2], b"", *paths[2:]])))
    assert [os.fsencode(path) for path in read_list(stream, separator)] == paths


def test_a_list_line_that_is_no_path_is_refused_before_it_fills_the_memory():
    """Two megabytes without a separator are a mistake."""
    stream = io.BufferedReader(io.BytesIO(b"x" * 2_200_000))
    with pytest.raises(InvalidOptions, match="list"):
        list(read_list(stream))


def test_a_name_that_is_not_utf_8_survives_queue_and_json(folder, connection, settings, cache):
    """The job carries a file URL that leads back to the very bytes."""
    path = record(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 %41.wav")))
    (entry,) = submit(connection, settings, cache, os.fspath(path))
    assert entry.name == "caf\\xe9 %41.wav"
    data = connection.hget(job_key(entry.job_id), "data")
    _, _, _, kwargs = json.loads(__import__("zlib").decompress(data))
    assert kwargs["source"].startswith("file:///")
    assert Job.from_kwargs(kwargs).path == path


def test_a_json_lines_manifest_gives_each_file_its_own_options(folder, names):
    """Paths count from the manifest; id and metadata come back in the result."""
    record(folder / "audio/a.wav")
    lines = [
        {"path": "audio/a.wav", "id": 7, "language": "de", "prompt": "Grüße", "name": "x/y",
         "model": "base", "options": {"word_timestamps": True}, "metadata": {"tape": "A"}},
        "not json",
        {"path": "audio/a.wav", "langauge": "de"},
        {"path": "audio/a.wav", "options": {"temperatures": [3.0]}},
        {"path": "audio/missing.wav"},
        ["audio/a.wav"],
    ]  # fmt: skip
    manifest = folder / "m.jsonl"
    manifest.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    good, *problems = read_manifest(manifest, names)
    assert good == FoundFile(
        folder / "audio/a.wav",
        "x/y",
        {
            "options": {"word_timestamps": True, "language": "de", "initial_prompt": "Grüße"},
            "metadata": {"tape": "A", "id": 7},
            "model": "base",
        },
    )
    assert [Path(problem.path).name for problem in problems] == [
        "m.jsonl:2",
        "m.jsonl:3",
        "m.jsonl:4",
        "missing.wav",
        "m.jsonl:6",
    ]
    assert "langauge" in str(problems[1].error)
    assert "temperatures" in str(problems[2].error)


def test_a_csv_manifest_has_dotted_columns_for_options_and_metadata(folder, names):
    """Empty cells say nothing, lists are JSON, a spreadsheet's byte order mark is no column."""
    for name in ("a.wav", "b, c.wav"):
        record(folder / name)
    manifest = folder / "m.csv"
    manifest.write_bytes(
        "\ufeffpath,id,language,options.best_of,options.temperatures,metadata.tape\n"
        'a.wav,1,en,5,"[0.0, 0.4]",A\n'
        '"b, c.wav",,,,,\n'
        "a.wav,2,en,lots,,\n".encode()
    )
    first, second, third = read_manifest(manifest, names)
    assert first.asked["options"] == {"best_of": 5, "temperatures": (0.0, 0.4), "language": "en"}
    assert first.asked["metadata"] == {"tape": "A", "id": "1"}
    assert second.asked == {"options": {}, "metadata": {}, "model": None}
    assert third.path.endswith("m.csv:4")
    assert "best_of" in str(third.error)


def test_a_manifest_of_another_kind_is_refused(folder, names):
    """The message names the kinds that are read."""
    with pytest.raises(Exception, match=r"\.jsonl, \.ndjson or \.csv"):
        list(read_manifest(record(folder / "m.xlsx"), names))
    with pytest.raises(SourceNotFound):
        list(read_manifest(folder / "none.csv", names))


def test_an_archive_is_enqueued_once(folder, connection, settings, cache):
    """Again: nothing. A new file, a changed one, another option: just those."""
    for name in ("a.wav", "b.wav", "c.wav"):
        record(folder / "talks" / name)
    assert verdicts(submit(connection, settings, cache, "talks")) == ["new"] * 3
    assert verdicts(submit(connection, settings, cache, "talks")) == ["known"] * 3
    record(folder / "talks/d.wav")
    (folder / "talks/b.wav").write_bytes(b"another take")
    entries = submit(connection, settings, cache, "talks")
    assert {Path(entry.path).name: entry.reason for entry in entries} == {
        "a.wav": None,
        "b.wav": "audio_changed",
        "c.wav": None,
        "d.wav": "first_time",
    }
    german = submit(connection, settings, cache, "talks", options=Options(language="de"))
    assert verdicts(german) == ["new"] * 4
    reasons = {Path(entry.path).name: entry.reason for entry in german}
    assert reasons["a.wav"] == reasons["c.wav"] == reasons["d.wav"] == "request_changed"


def test_a_passing_failure_is_enqueued_again_and_a_lasting_one_only_on_demand(
    folder, connection, settings, cache
):
    """What a dead worker left is tried again; a broken file stays broken."""
    lost, broken = record(folder / "lost.wav"), record(folder / "broken.wav")
    job_ids = {
        Path(entry.path): entry.job_id for entry in submit(connection, settings, cache, "*.wav")
    }
    fail(connection, job_ids[lost], WorkerLost("worker", "must live"))
    fail(connection, job_ids[broken], InvalidOptions("job", "must exist"))
    assert verdicts(submit(connection, settings, cache, "*.wav")) == ["known", "new"]
    assert read_result(connection, job_ids[lost]) is None
    forced = submit(connection, settings, cache, "*.wav", retry_failed=True)
    assert verdicts(forced) == ["new", "known"]


def test_files_of_the_same_audio_are_one_job_with_two_names(folder, connection, settings, cache):
    """Both names stand in the batch."""
    for name in ("a.wav", "copy of a.wav"):
        record(folder / name, b"the same")
    entries = submit(connection, settings, cache, "*.wav")
    assert len({entry.job_id for entry in entries}) == 1
    assert connection.llen("rq:queue:default") == 1
    assert sorted(view.name for view in view_batch(connection, "b")) == ["a.wav", "copy of a.wav"]


def test_a_full_queue_pushes_back(folder, connection, settings, cache):
    """Without a way to wait the error says so; with one the submission goes on when there is room."""
    small = settings.model_copy(
        update={"queue": settings.queue.model_copy(update={"max_queued": 2})}
    )
    for number in range(4):
        record(folder / f"{number}.wav")
    with pytest.raises(QueueFull):
        submit(connection, small, cache, "*.wav")
    assert connection.llen("rq:queue:default") == 2

    def make_room(error):
        assert error.code == "queue_full"
        connection.delete("rq:queue:default")

    with Names() as names:
        found, asked = find(["*.wav"], names), SubmitOptions(batch="b")
        entries = list(submit_archive(connection, small, found, asked, cache, on_full=make_room))
    assert len(entries) == 4


def test_a_plan_says_what_would_happen_and_changes_nothing(folder, connection, settings, cache):
    """New files are named with the recording, so that its header can be read."""
    record(folder / "a.wav")
    (known,) = submit(connection, settings, cache, "a.wav")
    record(folder / "b.wav")
    with Names() as names:
        planned = list(
            plan_archive(
                connection, settings, find(["*.wav"], names), SubmitOptions(batch="plan"), cache
            )
        )
    assert {Path(entry.path).name: entry.verdict for entry, _ in planned} == {
        "a.wav": "known",
        "b.wav": "new",
    }
    assert connection.lrange("rq:queue:default", 0, -1) == [known.job_id.encode()]
    assert not connection.exists("scribefarm:batch:plan")


def test_a_file_is_not_read_again_unless_size_or_time_changed(folder, tmp_path):
    """A cached hash is given without opening the file; one written just now is not trusted."""
    path = record(folder / "a.wav", b"first")
    with HashCache(tmp_path / "cache/hashes.sqlite") as cache:
        first = cache.look_up(path)
        cache.remember(path, first, "job")
    path.write_bytes(b"other")
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    with HashCache(tmp_path / "cache/hashes.sqlite") as cache:
        assert cache.look_up(path).sha256 == first.sha256
        assert cache.look_up(path).old_job_id == "job"
        path.write_bytes(b"third")
        fresh = cache.look_up(path)
        assert fresh.sha256 != first.sha256
        cache.remember(path, fresh, "job2")
        assert not cache.look_up(path).is_cached


@pytest.mark.parametrize("content", [b"this is no database", None])
def test_a_broken_cache_costs_time_and_nothing_else(folder, tmp_path, content):
    """Hashes are right with a damaged file, and where the folder cannot be made."""
    path = record(folder / "a.wav", b"audio")
    place = tmp_path / "cache"
    if content is None:
        place.write_text("a file where a folder should be")
        place /= "deep"
    else:
        place.mkdir()
        (place / "hashes.sqlite").write_bytes(content)
    with HashCache(place / "hashes.sqlite") as cache:
        assert cache.look_up(path).sha256 == queue.hash_audio(path)
        cache.remember(path, cache.look_up(path), "job")


def test_durations_come_from_headers_alone(folder):
    """A header that claims two seconds counts two, whatever follows; no header, no duration."""
    path = folder / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 16_000)
    assert header_duration_s(path) == pytest.approx(2.0)
    assert header_duration_s(record(folder / "b.wav", b"no audio")) is None
    assert header_duration_s(record(folder / "c.aac", b"\xff\xf1")) is None
    assert header_duration_s(folder / "missing.wav") is None


@pytest.mark.archive
def test_header_durations_of_real_recordings_are_right(shared_data):
    """Within a tenth of a second for every speech file of the shared manifest that has a header."""
    lines = (shared_data / "manifest.jsonl").read_text().splitlines()
    speech = [each for each in map(json.loads, lines) if each["kind"] == "speech"]
    assert len(speech) > 10
    for each in speech:
        duration_s = header_duration_s(shared_data / each["path"])
        if duration_s is not None:
            assert duration_s == pytest.approx(each["duration_s"], abs=0.1), each["path"]


def test_a_forbidden_file_gives_its_own_error(tmp_path, monkeypatch):
    """Permission is another thing than absence; root may read all, so the refusal is injected."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.wav").write_bytes(b"")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(SourceForbidden, match="readable"):
        hash_audio(tmp_path / "x.wav")
