"""2. An archive: a folder of recordings goes in, a folder of texts and a report come out.

The commands are those that a person types.
"""

import json
import shutil

import pytest
import soundfile

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


def test_a_folder_of_recordings_becomes_a_folder_of_texts(scribefarm, work, speech, said, tmp_path):
    """Submit in the evening, read the report in the morning, submit again the next evening."""
    # An archive has folders, short and long recordings, and files that are none.
    talks = tmp_path / "talks"
    (talks / "1983").mkdir(parents=True)
    shutil.copy(speech, talks / "1983" / "worstward.wav")
    samples, rate_hz = soundfile.read(speech)
    soundfile.write(talks / "beginning.wav", samples[: 3 * rate_hz], rate_hz)
    (talks / "letter.wav").write_text("This is a letter, not a recording.\n" * 100)

    # In the evening: everything below the folder becomes one batch.
    evening = scribefarm("submit", "talks", "--batch", "talks", "--json")
    *files, summary = map(json.loads, evening.stdout.splitlines())
    assert evening.returncode == 0
    assert (len(files), summary["new"]) == (3, 3)

    # Workers take the recordings from whatever machine they run on, until the queues are empty.
    assert work() == 0

    # In the morning: the report counts, and groups what failed under a code with advice. Failed
    # files are said with exit code 1, so that a script need not read the report.
    morning = scribefarm("report", "talks", "--json")
    report = json.loads(morning.stdout)
    assert morning.returncode == 1
    assert (report["counts"]["succeeded"], report["counts"]["failed"]) == (2, 1)
    (group,) = report["failures"]
    assert group["code"] == "unsupported_format"
    assert "Convert it" in group["advice"]
    assert [file["name"] for file in group["files"]] == ["talks/letter.wav"]

    # The texts lie in a tree like the archive's.
    scribefarm("results", "talks", "--output-dir", "texts")
    texts = {path.name: path.read_text().split("\n") for path in tmp_path.rglob("texts/**/*.txt")}
    assert (tmp_path / "texts" / "talks" / "1983" / "worstward.txt").exists()
    assert " ".join(texts["worstward.txt"]).strip() == said.strip()
    assert texts["beginning.txt"][0] == "Ever tried. Ever failed."

    # The next evening: only what is new or changed is work.
    shutil.copy(speech, talks / "a copy.wav")
    again = scribefarm("submit", "talks", "--batch", "talks", "--json")
    *_, summary = map(json.loads, again.stdout.splitlines())
    assert summary["new"] == 0
