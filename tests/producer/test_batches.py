"""Batches through the installed script: status, results, errors, retry, cancel, report, pause."""

import json

import pytest

from producer.batches.export import Layout, export_batch
from producer.batches.report import Report
from producer.batches.views import (
    BatchCounts,
)
from producer.batches.watching import BatchStatus
from producer.errors import ERRORS
from producer.fleet import FarmStatus, live_workers
from producer.keys import job_key, result_key
from producer.queue import read_result
from tests.stage.fake_engine import expected_text, job
from tests.stage.farm import wait_until


def mixed():
    """Return two good recordings and three bad ones of two kinds, by name."""
    return {
        "talks/a.wav": job("a", windows=2),
        "talks/sub/b.mp3": job("b", windows=4),
        "talks/c.wav": job("c", error="corrupt_audio"),
        "talks/d.wav": job("d", error="out_of_range"),
        "talks/e.wav": job("e", error="corrupt_audio"),
    }


def test_status_counts_files_by_state_and_error_code(night):
    """As a model of producer.batches.watching, for a batch and for the whole farm."""
    night.submit(mixed())
    (before,) = night.run_json("status", "night", "--json")
    assert BatchStatus.model_validate(before).counts == BatchCounts(total=5, queued=5)
    night.finish()
    (after,) = night.run_json("status", "night", "--json", code=1)
    look = BatchStatus.model_validate(after)
    assert look.counts == BatchCounts(
        total=5,
        succeeded=2,
        failed=3,
        failed_by_code={"corrupt_audio": 2, "out_of_range": 1},
        audio_s=180.0,
    )
    assert len(look.workers) == 1
    (stored,) = night.run_json("status", "--json")
    farm = FarmStatus.model_validate(stored)
    assert farm.batches == {"night": look.counts}
    assert farm.queued == {"high": 0, "default": 0, "low": 0}
    text, _ = night.run("status")
    assert "batch night: 5 of 5 done, 3 failed (corrupt_audio 2, out_of_range 1)" in text


def test_errors_are_grouped_by_code_with_file_value_and_advice(night):
    """The most frequent first; exit code 1 says that there are some."""
    night.submit(mixed())
    night.finish()
    (groups,) = night.run_json("errors", "--json", code=1)
    assert [(group["code"], group["count"]) for group in groups] == [
        ("corrupt_audio", 2),
        ("out_of_range", 1),
    ]
    assert [file["name"] for file in groups[0]["files"]] == ["talks/c.wav", "talks/e.wav"]
    assert groups[0]["files"][0]["error"]["value"] == 0
    assert groups[0]["advice"] == ERRORS["corrupt_audio"].advice
    text, _ = night.run("errors", "night", "--code", "out_of_range", code=1)
    assert "talks/d.wav: fake: was told to fail (got 0)" in text
    assert "corrupt_audio" not in text
    night.run("errors", "night", "--code", "poison", code=0)
    _, stderr = night.run("errors", "night", "--code", "typo", code=2)
    assert "--code" in stderr


def test_retry_enqueues_the_failed_files_of_a_code_again(night):
    """Their results are gone until the new ones come; the others keep theirs."""
    job_ids = night.submit(mixed())
    night.finish()
    night.farm.stop()
    (answer,) = night.run_json("retry", "night", "--code", "corrupt_audio", "--json")
    wanted = {job_ids["talks/c.wav"], job_ids["talks/e.wav"]}
    assert set(answer["job_ids"]) == wanted
    assert night.counts() == BatchCounts(
        total=5, queued=2, succeeded=2, failed=1, failed_by_code={"out_of_range": 1}, audio_s=180.0
    )
    assert all(read_result(night.connection, job_id) is None for job_id in wanted)
    night.finish()
    assert night.counts().failed == 3
    text, _ = night.run("retry", "night")
    assert len(text.splitlines()) == 3


def test_cancelling_a_batch_ends_waiting_jobs_now_and_running_ones_soon(night):
    """Each gets a result that says so; retry undoes it."""
    slow = {f"{number}.wav": job(f"s{number}", windows=1000, window_s=0.05) for number in range(3)}
    night.submit(slow)
    night.farm.start(capacity=1)
    wait_until(lambda: night.counts().running == 1)
    (done,) = night.run_json("cancel", "night", "--json")
    assert sorted(item["outcome"] for item in done) == ["cancelled", "cancelled", "cancelling"]
    wait_until(lambda: night.counts().failed_by_code == {"cancelled": 3})
    assert {event["code"] for event in night.run_json("events")} == {"cancelled"}
    night.farm.stop()
    text, _ = night.run("retry")
    assert len(text.split()) == 3
    assert night.counts().queued == 3


def test_one_job_is_cancelled_by_its_id_and_an_unknown_one_refused(night):
    """A job that is done already stays as it is."""
    job_ids = night.submit({"a.wav": job("a"), "b.wav": job("b")})
    text, _ = night.run("cancel", job_ids["a.wav"])
    assert text.strip() == job_ids["a.wav"]
    text, _ = night.run("cancel", job_ids["a.wav"])
    assert text == ""
    assert night.counts() == BatchCounts(
        total=2, queued=1, failed=1, failed_by_code={"cancelled": 1}
    )
    _, stderr = night.run("cancel", "nobody", code=1)
    assert "job_not_found" in stderr


def test_results_mirror_the_archive_and_overwrite_nothing(night, tmp_path):
    """Again: nothing is written. A foreign file is kept until --overwrite."""
    night.submit({name: each for name, each in mixed().items() if "a." in name or "b." in name})
    night.finish()
    out = tmp_path / "out"
    foreign = out / "talks/a.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    text, stderr = night.run("results", "-o", out, "--format", "txt,srt,json", code=1)
    assert f"kept {foreign}" in stderr
    assert len(text.splitlines()) == 5
    assert foreign.read_text() == "mine"
    night.run("results", "night", "-o", out, "--overwrite")
    assert foreign.read_text().split() == expected_text("fake:a?windows=2").split()
    assert json.loads((out / "talks/sub/b.json").read_text())["language"] == "en"
    lines = night.run_json("results", "night", "-o", out, "--format", "txt,srt,json", "--json")
    assert {line["status"] for line in lines} == {"unchanged"}
    assert not list(out.rglob(".scribefarm*"))


def test_results_follow_until_all_are_there(night, tmp_path):
    """Files are written as they come; failed ones make the exit code 1."""
    night.submit({"a.wav": job("a"), "b.wav": job("b", error="corrupt_audio")})
    with night.script.start("results", "night", "-o", "out", "--follow") as following:
        night.farm.start()
        out, _ = following.communicate(timeout=60)
    assert following.returncode == 1
    assert out.decode().split() == ["out/a.txt"]
    assert (tmp_path / "out/a.txt").exists()


def test_failed_results_say_code_and_path_as_json(night):
    """So that a program need not ask for the errors too."""
    night.submit({"a.wav": job("a"), "b.wav": job("b", error="corrupt_audio")})
    night.finish()
    lines = night.run_json("results", "night", "-o", "out", "--json", code=1)
    failed = next(line for line in lines if line["status"] == "failed")
    assert failed["name"] == "b.wav"
    assert failed["code"] == failed["error"]["code"] == "corrupt_audio"
    assert failed["source"] == "fake:b?error=corrupt_audio"
    assert failed["path"] is None


def test_results_that_are_not_there_yet_are_counted(night):
    """Exit code 1, and a word about it."""
    night.submit({"a.wav": job("a")})
    _, stderr = night.run("results", "night", "-o", "out", code=1)
    assert "1 recordings not done yet" in stderr


def test_the_report_has_totals_failures_flags_and_slowest_files(night, tmp_path):
    """The same as JSON and as Markdown."""
    night.submit(mixed())
    night.finish()
    stdout, _ = night.run("report", "--json", code=1)
    report = Report.model_validate_json(stdout)
    assert report.counts.audio_s == 180.0
    assert {group.code: group.count for group in report.failures} == night.counts().failed_by_code
    assert sum(report.files_by_worker.values()) == 5
    assert len(report.slowest) == 5
    assert report.run.audio_hours_per_hour == pytest.approx(180.0 / report.run.worked_s, rel=0.01)
    assert report.files_by_model == {"fake@0": 2}
    _, stderr = night.run("report", "night", "-o", "report.md", code=1)
    assert "wrote report.md" in stderr
    text = (tmp_path / "report.md").read_text()
    assert "| succeeded | 2 |" in text
    assert "### corrupt_audio: 2" in text
    assert "- `talks/c.wav`: fake: was told to fail (got 0)" in text


def test_an_unknown_batch_is_an_error_that_names_it(night):
    """Also when nothing was submitted at all."""
    _, stderr = night.run("report", "nobody", code=1)
    assert "job_not_found" in stderr
    assert "nobody" in stderr
    _, stderr = night.run("watch", code=1)
    assert "nothing was submitted yet" in stderr


def test_a_paused_farm_claims_nothing_until_it_goes_on(night):
    """Pause ends by itself after its time, or by resume."""
    night.run("pause", "--for", "2h")
    assert 7000 < night.connection.ttl("rq:suspended") <= 7200
    night.submit({"a.wav": job("a")})
    (look,) = night.run_json("status", "night", "--json")
    assert look["is_paused"]
    worker = night.farm.start()
    wait_until(lambda: live_workers(night.connection, night.farm.settings))
    assert night.counts().queued == 1
    _, stderr = night.run("resume")
    assert "goes on" in stderr
    wait_until(lambda: night.counts().succeeded == 1)
    assert worker.engine.in_flight == 0
    _, stderr = night.run("pause", "--for", "soon", code=2)
    assert "--for" in stderr


def test_an_unwritable_output_is_a_problem_of_that_file_alone(night, tmp_path):
    """The others are written."""
    night.submit({"x/a.wav": job("a"), "b.wav": job("b")})
    night.finish()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").write_text("a file where a folder should be")
    exported = list(export_batch(night.connection, "night", Layout(tmp_path / "out", ("txt",))))
    assert {item.name: item.status for item in exported} == {
        "x/a.wav": "problem",
        "b.wav": "written",
    }
    (problem,) = (item for item in exported if item.error)
    assert problem.error.code == "output_failed"
    assert problem.path == tmp_path / "out/x/a.txt"


def test_a_batch_of_a_stock_worker_is_read_from_its_results(night):
    """Without our fields in the job's hash, and after the hash has expired."""
    job_ids = night.submit({"a.wav": job("a", windows=2), "b.wav": job("b", windows=2)})
    night.finish()
    night.connection.hdel(job_key(job_ids["a.wav"]), "code", "audio_s", "num_flagged")
    night.connection.delete(job_key(job_ids["b.wav"]))
    assert night.counts() == BatchCounts(total=2, succeeded=2, audio_s=120.0)
    night.connection.delete(result_key(job_ids["b.wav"]))
    assert night.counts() == BatchCounts(total=2, succeeded=1, lost=1, audio_s=60.0)
