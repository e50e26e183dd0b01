"""The index: a copy that is bounded, follows what happens, and is begun again if it is damaged."""

import stat
from types import SimpleNamespace

import pytest

from producer.batches.actions import retry_jobs
from producer.events import read_events
from producer.web.filters import Filter
from producer.web.index import Index, IndexedFile
from producer.web.indexer import Indexer, Pace
from producer.web.phrases import full_text_query
from tests.stage.shown_farm import SAYINGS, answers, archive, said, submit, transcript, write_tone
from tests.stage.told_engine import work_off


@pytest.fixture
def index(tmp_path):
    """Return an index with one batch of one text."""
    index = Index(tmp_path / "index.sqlite")
    index.track("night", 1.0)
    crawl = index.begin_crawl("night")
    index.put("night", [IndexedFile("a/x.wav", "j1", "succeeded", ended_s=5.0)], crawl)
    index.end_crawl("night", crawl)
    yield index
    index.close()


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("Fail again. Fail better.", "fail", ["Fail", "Fail"]),
        ("Fail again. Fail better.", '"again fail"', ["again. Fail"]),
        ("Fail again. Fail better.", "bett", ["better"]),
        ("Fail again. Fail better.", "bett ", []),
        ("Übermäßig groß", "ubermaßig", ["Übermäßig"]),
        ("今日は天気がいい", "天気", ["天気"]),
        ("今日は天気がいい", "気天", []),
        ("a <b>bold</b> word", "bold", ["bold"]),
        ("AND OR NOT NEAR", "or", ["OR"]),
        ("50 % of body:x", "body:x", ["body:x"]),
        ("one two", 'one AND (two OR "', []),
        ("one two", '"', []),
        ("one two", "*", []),
        ("one two", "o'ne", []),
        ("\ufdd0forged\ufdd1 mark", "mark", ["mark"]),
    ],
)
def test_words_and_phrases_are_found(index, text, query, found):
    """Case and accents do not matter; nothing in a query has a meaning of its own."""
    index.put_text("j1", 5.0, text)
    pieces = [piece for each in index.search("night", query, 10) for piece in each.pieces]
    assert [piece for piece, is_match in pieces if is_match] == found
    assert index.search("another", query, 10) == []


def test_a_query_is_bounded():
    """Nobody keeps the database busy with a novel."""
    assert len(full_text_query("word " * 100_000)) < 1000


def test_only_its_owner_reads_the_index(index, tmp_path):
    """Texts are private."""
    assert stat.S_IMODE((tmp_path / "index.sqlite").stat().st_mode) == 0o600


def test_a_damaged_index_is_begun_again(index, tmp_path):
    """Whatever is wrong with the file: it is only a copy."""
    index.put_text("j1", 5.0, "Fail better.")
    index.close()
    for content in (b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8000):
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"index.sqlite{suffix}").unlink(missing_ok=True)
        (tmp_path / "index.sqlite").write_bytes(content)
        again = Index(tmp_path / "index.sqlite")
        assert again.tracked() == []
        again.track("night", 1.0)
        assert again.tracked() == ["night"]
        again.close()


def test_what_no_batch_has_any_more_is_forgotten(index):
    """A text goes with the last batch that has it."""
    index.put_text("j1", 5.0, "Fail better.")
    index.track("other", 2.0)
    index.put("other", [IndexedFile("same.wav", "j1", "succeeded")], index.begin_crawl("other"))
    index.forget("night")
    assert [each.name for each in index.search("other", "better", 10)] == ["same.wav"]
    index.forget("other")
    index.track("other", 2.0)
    index.put("other", [IndexedFile("same.wav", "j1", "succeeded")], index.begin_crawl("other"))
    assert index.search("other", "better", 10) == []


def test_it_follows_what_ends_and_what_is_retried(farm, tmp_path):
    """Texts come with the events; a batch that differs from the server's counts is copied anew."""
    made = archive(tmp_path / "archive", num_files=3)
    submit(farm, made, "night")
    farm.configure(queue={"max_attempts": 1})
    index = Index(tmp_path / "index.sqlite")
    indexer = Indexer(farm.connection, index, 2**30)
    indexer.look_at("night", 5.0)
    assert index.states("night") == {"open": 7}
    work_off(farm, answers(made))
    indexer.follow(list(read_events(farm.connection)))
    assert index.states("night") == {"succeeded": 3, "failed": 4}
    assert index.progress("night").texts == 3
    assert index.search("night", SAYINGS[1].split()[0], 10)
    # Somebody retries elsewhere: no event says so.
    failed = index.files("night", Filter(code="corrupt_audio"), 10, 0)
    assert (
        len(list(retry_jobs(farm.connection, farm.settings, [each.job_id for each in failed]))) == 2
    )
    for _ in range(2):
        indexer._checked_at = float("-inf")
        while indexer.step():
            pass
    assert index.states("night") == {"open": 2, "succeeded": 3, "failed": 2}
    index.close()


def test_a_batch_that_the_server_forgot_is_forgotten(farm, tmp_path):
    """Results have a life; so has what is copied of them."""
    submit(farm, [("a.wav", write_tone(tmp_path / "a.wav", 1), None)], "night")
    index = Index(tmp_path / "index.sqlite")
    indexer = Indexer(farm.connection, index, 2**30)
    indexer.look_at("night", 5.0)
    farm.connection.delete("scribefarm:batch:night", "scribefarm:batches")
    indexer.step()
    assert index.tracked() == []
    index.close()


def test_it_stays_within_its_bytes(farm, tmp_path):
    """The batch that nobody looked at for the longest goes; a single one stops growing."""
    long = "word" * 20_000
    for number, batch in enumerate(("first", "second")):
        texts = [f"{batch} {long}{letter}" for letter in "abcdefgh"]
        made = [
            (f"{n}.wav", f"/told/{batch}/{n}", transcript(said([text], has_words=False)))
            for n, text in enumerate(texts)
        ]
        submit(farm, [(f"{batch}/{name}", path, answer) for name, path, answer in made], batch)
        work_off(farm, answers(made))
        assert number < 2
    index = Index(tmp_path / "index.sqlite")
    indexer = Indexer(farm.connection, index, max_bytes=900_000)
    for batch in ("first", "second"):
        indexer.look_at(batch, 5.0)
        for _ in range(20):
            indexer._checked_at = float("-inf")
            indexer.step()
    assert index.num_bytes < 2_000_000
    assert "second" in index.tracked()
    index.close()


def test_the_server_is_left_alone_between_calls(monkeypatch):
    """Beyond a burst, a call that took 10 ms is followed by a second without one."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("producer.web.indexer.time", clock)
    pace = Pace(share=0.01, burst=3)
    busy_s = 0.0
    for _ in range(100_000):
        now[0] += 0.001
        if pace.is_time():
            now[0] += 0.01
            busy_s += 0.01
            pace.note(0.01)
    assert busy_s / now[0] < 0.012
