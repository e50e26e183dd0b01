"""The Python API: submit, results and status, and their twins for an event loop."""

import asyncio

import pytest

import producer
from producer.errors import InvalidOptions, JobNotFound, NoWorker


def test_the_python_api_submits_and_yields_results_as_they_come(night, tmp_path, monkeypatch):
    """The asynchronous twins do the same without blocking the loop."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = night.farm.settings
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(name.encode())
    submission = producer.submit(
        [tmp_path / "a.wav", str(tmp_path / "b.wav")], settings=settings, metadata={"tape": 1}
    )
    assert [entry.verdict for entry in submission.entries] == ["new", "new"]
    night.farm.start()
    found = dict(producer.results(submission.batch, settings=settings))
    assert {name.rpartition("/")[2] for name in found} == {"a.wav", "b.wav"}
    assert all(result.metadata == {"tape": 1} for result in found.values())
    assert producer.status(submission.batch, settings=settings).is_done

    async def again():
        submitted = await producer.submit_async([tmp_path / "a.wav"], settings=settings)
        stream = producer.results_async(submitted.batch, settings=settings)
        return submitted, [name async for name, _ in stream]

    submitted, read = asyncio.run(again())
    assert submitted.entries[0].verdict == "known"
    assert len(read) == 1
    with pytest.raises(InvalidOptions, match=r"langauge: no such option; did you mean language\?"):
        producer.submit([tmp_path / "a.wav"], settings=settings, langauge="de")
    for wrong in ({"language": "xx"}, {"model": "nosuchmodel"}):
        with pytest.raises(InvalidOptions, match=next(iter(wrong.values()))):
            producer.submit([tmp_path / "a.wav"], settings=settings, **wrong)
    with pytest.raises(JobNotFound):
        next(producer.results("nobody", settings=settings))
    submitted = producer.submit([tmp_path / "a.wav"], settings=settings, language="de")
    night.farm.stop()
    with pytest.raises(NoWorker):
        list(producer.results(submitted.batch, settings=settings, no_worker_s=0.1))


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_one_name_is_one_file(night, tmp_path, monkeypatch, kind):
    """Not a file for each of its letters, of which a dot would be the whole folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"a.wav")
    (tmp_path / "b.wav").write_bytes(b"b.wav")
    submission = producer.submit(kind(tmp_path / "a.wav"), settings=night.farm.settings)
    assert [entry.path for entry in submission.entries] == [str(tmp_path / "a.wav")]
