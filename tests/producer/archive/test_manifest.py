"""Manifests: JSON Lines and CSV, each line with its own options."""

import json
from pathlib import Path

import pytest

from producer.archive.find import FoundFile
from producer.archive.manifest import read_manifest
from producer.errors import SourceNotFound
from tests.producer.archive.recordings import record


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
            "audio": {},
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
    assert second.asked == {"options": {}, "audio": {}, "metadata": {}, "model": None}
    assert third.path.endswith("m.csv:4")
    assert "best_of" in str(third.error)


def test_a_manifest_of_another_kind_is_refused(folder, names):
    """The message names the kinds that are read."""
    with pytest.raises(Exception, match=r"\.jsonl, \.ndjson or \.csv"):
        list(read_manifest(record(folder / "m.xlsx"), names))
    with pytest.raises(SourceNotFound):
        list(read_manifest(folder / "none.csv", names))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[" * 100_000, "nested at most 100 deep"),
        (b'{"path": "a.wav", "metadata": ' + b'{"x":' * 300 + b"1" + b"}" * 301, "100 deep"),
        (b'{"path": "\xff.wav"}', "must be valid UTF-8 text"),
        (b'{"path": "a.wav", "metadata": {"original": "caf\\udce9.wav"}}', "valid UTF-8 text"),
        (b"not json", "must be a JSON object"),
        (b'{"path": "a.wav", "langauge": "de"}', "langauge"),
        (b'{"path": "a.wav", "options": {"best_of": 99}}', "options: best_of"),
        (b'{"path": "missing.wav"}', "must be an existing file"),
    ],
)
def test_a_wrong_json_line_is_a_problem_that_says_file_and_line(folder, names, line, reason):
    """Those before and behind it are taken, also behind a byte order mark."""
    for name in ("a.wav", "b.wav"):
        record(folder / name)
    manifest = folder / "m.jsonl"
    first, last = (json.dumps({"path": name}).encode() for name in ("a.wav", "b.wav"))
    manifest.write_bytes(b"\xef\xbb\xbf" + b"\n".join([first, line, last]))
    good, problem, also_good = read_manifest(manifest, names)
    assert [good.name, also_good.name] == ["a.wav", "b.wav"]
    assert str(problem.error).startswith(f"{manifest}:2: ")
    assert reason in str(problem.error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"' + b"x" * 140_000 + b'",de', "field larger than field limit"),
        (b"caf\xe9.wav,de", "must be valid UTF-8 text"),
        (b"a.wav,de,1,2", "more columns than the header's 2 (got 4)"),
    ],
)
def test_a_wrong_row_of_a_table_is_a_problem_that_says_file_and_line(folder, names, line, reason):
    """The rest of the table is taken."""
    for name in ("a.wav", "b.wav"):
        record(folder / name)
    manifest = folder / "m.csv"
    manifest.write_bytes(b"\n".join([b"path,language", b"a.wav,de", line, b"b.wav"]))
    good, problem, also_good = read_manifest(manifest, names)
    assert [good.name, also_good.name] == ["a.wav", "b.wav"]
    assert str(problem.error).startswith(f"{manifest}:3: ")
    assert reason in str(problem.error)


def test_a_row_says_how_its_recording_is_read(folder, names):
    record(folder / "a.wav")
    manifest = folder / "m.csv"
    manifest.write_text("path,audio.resampler\na.wav,linear\na.wav,cubic\n")
    good, bad = read_manifest(manifest, names)
    assert good.asked["audio"] == {"resampler": "linear"}
    assert "m.csv:3: audio: resampler" in str(bad.error)
