"""Manifests: JSON Lines and CSV, each line with its own options."""

import json
from pathlib import Path

import pytest

from producer.archive.find import FoundFile
from producer.archive.manifest import read_manifest
from producer.errors import SourceNotFound, UnsupportedFormat
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


def test_a_manifest_that_is_no_text_is_of_an_unsupported_format(folder, names):
    """It was found; advice on mounts and paths would mislead."""
    (folder / "m.csv").write_bytes(b"path\n\xff\xfe.wav\n")
    with pytest.raises(UnsupportedFormat, match="must be UTF-8 text"):
        list(read_manifest(folder / "m.csv", names))
