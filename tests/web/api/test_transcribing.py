"""A request from its file to its answer, with a worker whose decoder is a fake."""

import asyncio
import hashlib
import threading

import httpx
import pytest

from producer.job import Job
from producer.keys import http_key, job_key
from producer.queue import submit
from producer.rq_data import load_call
from tests.stage.farm import wait_until

URL = "/v1/audio/transcriptions"


def send(ask, path, url=URL, headers=None, **data):
    with path.open("rb") as audio:
        files = {"file": (path.name, audio, "audio/wav")}
        return ask.post(url, files=files, data={"model": "whisper-1"} | data, headers=headers)


def test_the_text_is_waited_for(ask, farm, write_noise):
    """The request sleeps until a worker has ended its job."""
    answers = []
    asking = threading.Thread(target=lambda: answers.append(send(ask, write_noise())))
    asking.start()
    wait_until(lambda: farm.queue("high@fake").count == 1)
    farm.start()
    asking.join(20)
    [answer] = answers
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["text"].endswith("noise.wav-2")
    assert len(answer.headers["x-request-id"]) == 32


def test_202_and_where_the_job_stands(ask, farm, write_noise):
    """`Prefer: respond-async` or `?async=true`; the job then has a page of its own."""
    answer = send(ask, write_noise(), headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    where = answer.headers["location"]
    assert answer.json() == {"id": where.removeprefix("/jobs/"), "object": "job", "state": "queued"}
    assert ask.get(where).json()["state"] == "queued"
    assert ask.get(f"{where}/result").status_code == 404
    assert send(ask, write_noise(), url=f"{URL}?async=true").headers["location"] == where
    farm.start()
    done = wait_until(lambda: (found := ask.get(where).json()).get("result") and found)
    assert done["state"] == "succeeded"
    assert ask.get(done["result"]).json()["status"] == "succeeded"
    assert ask.get(done["result"], params={"format": "srt"}).text.startswith("1\n00:00:00,000")
    assert ask.get(done["result"], params={"format": "pdf"}).status_code == 400


def test_who_cannot_wait_longer_is_told_where_to_look(ask, write_noise):
    """`wait=` of RFC 7240: 202 with respond-async, else 504."""
    late = send(ask, write_noise(), headers={"prefer": "respond-async, wait=1"})
    assert late.status_code == 202
    gone = send(ask, write_noise(), headers={"prefer": "wait=0"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (504, "job_timeout")
    assert gone.headers["location"] == late.headers["location"]


def test_a_client_that_goes_leaves_its_job_to_the_farm(front, farm, write_noise):
    """And who comes again with the same recording gets its text."""
    path = write_noise()
    with httpx.Client(base_url=front.url, timeout=0.5) as hasty, pytest.raises(httpx.ReadTimeout):
        send(hasty, path)
    assert farm.queue("high@fake").count == 1
    farm.start()
    with httpx.Client(base_url=front.url, timeout=30) as patient:
        assert send(patient, path).status_code == 200
    assert sum(farm.commits().values()) == 1


def test_no_worker_for_a_lease_is_503(start_front, write_noise, monkeypatch):
    """The job stays; Retry-After says when to come again."""
    monkeypatch.setattr("producer.web.api.waiting.RECHECK_S", 0.1)
    front = start_front(worker={"lease_s": 0.2, "heartbeat_s": 0.1})
    with httpx.Client(base_url=front.url, timeout=60) as ask:
        answer = send(ask, write_noise())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_worker")
        assert answer.headers["retry-after"] == "30"


def test_while_too_many_wait_new_work_is_429(start_front, connection, settings, write_noise):
    """Said before a byte of the recording is taken."""
    front = start_front(http={"max_waiting_jobs": 2, "retry_after_s": 7})
    jobs = [
        Job(source=f"/a{n}.wav", audio_sha256=hashlib.sha256(b"%d" % n).hexdigest())
        for n in range(2)
    ]
    submit(connection, settings, jobs)
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        answer = send(ask, write_noise())
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "7"
    assert not connection.exists(http_key("room", "all"))


def test_a_recording_in_the_spool_folder(start_front, farm, write_noise, tmp_path):
    """Workers get a path; a recording that comes twice lies there once."""
    spool = tmp_path / "spool"
    spool.mkdir()
    front = start_front(http={"spool_dir": str(spool)})
    farm.start()
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        assert send(ask, write_noise()).status_code == 200
        assert send(ask, write_noise(), response_format="text").status_code == 200
    digest = hashlib.sha256(write_noise().read_bytes()).hexdigest()
    assert [file.name for file in spool.iterdir()] == [f"{digest}.wav"]
    assert sum(farm.commits().values()) == 1


def test_a_failure_names_the_recording_as_the_client_does(start_front, farm, tmp_path, write_noise):
    """Where the front keeps it is nobody's business."""
    spool = tmp_path / "spool"
    spool.mkdir()
    front = start_front(http={"spool_dir": str(spool)})
    farm.configure(audio={"roots": ("/nowhere",)})
    farm.start()
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        answer = send(ask, write_noise("talk.wav"))
    assert answer.status_code == 403
    assert str(tmp_path) not in answer.json()["error"]["message"]


def test_a_job_that_was_cancelled_is_done_when_it_is_asked_for_again(
    start_front, farm, write_noise
):
    """Cancelling needs allow_actions; a new request wants the text after all."""
    front = start_front(allow_actions=True)
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        where = send(ask, write_noise(), headers={"prefer": "respond-async"}).headers["location"]
        cancelled = ask.post(f"{where}/cancel").json()
        assert (cancelled["state"], cancelled["error"]["code"]) == ("failed", "cancelled")
        farm.start()
        assert send(ask, write_noise()).status_code == 200


def test_cancelling_needs_leave(ask, write_noise):
    """Others may wait for the same job."""
    where = send(ask, write_noise(), headers={"prefer": "respond-async"}).headers["location"]
    assert ask.post(f"{where}/cancel").status_code == 403
    assert ask.post("/jobs/unknown/cancel").status_code == 403
    assert ask.get("/jobs/unknown").status_code == 404


def test_words_that_are_expected_and_languages(ask, connection, write_noise):
    """Keywords and languages, which newer clients send, are hot words and what is detected among."""
    answer = send(
        ask,
        write_noise(),
        headers={"prefer": "respond-async"},
        **{
            "keywords[]": ["Krapp", "spool"],
            "languages[]": ["de", "fr"],
            "prompt": "A talk.",
            "temperature": "0.5",
        },
    )
    job_id = answer.json()["id"]
    *_, kwargs = load_call(connection.hget(job_key(job_id), "data"))
    assert kwargs["options"] == {
        "hotwords": "Krapp, spool",
        "allowed_languages": ["de", "fr"],
        "initial_prompt": "A talk.",
        "temperatures": [0.5],
    }


def test_a_translation_is_a_job_of_its_own(ask, farm, connection, write_noise):
    """The same recording, another task; a model that can is asked for by its name."""
    url = "/v1/audio/translations"
    later = {"prefer": "respond-async"}
    plain = send(ask, write_noise(), headers=later, model="base").json()["id"]
    answer = send(ask, write_noise(), url, later, model="base")
    assert answer.status_code == 202
    assert answer.json()["id"] != plain
    *_, kwargs = load_call(connection.hget(job_key(answer.json()["id"]), "data"))
    assert (kwargs["model"], kwargs["options"]) == ("base", {"task": "translate"})
    assert send(ask, write_noise(), url, language="de").json()["error"]["param"] == "language"


def test_many_wait_at_once_and_hold_nobody_up(front, farm, write_noise):
    """A request that waits takes no thread: others are answered meanwhile."""
    paths = [write_noise(f"{number}.wav", seconds=0.01, seed=number) for number in range(60)]

    async def ask_all():
        async with httpx.AsyncClient(base_url=front.url, timeout=60) as client:

            async def one(path):
                files = {"file": (path.name, path.read_bytes(), "audio/wav")}
                return await client.post(URL, files=files, data={"model": "whisper-1"})

            waiting = [asyncio.create_task(one(path)) for path in paths]
            await asyncio.to_thread(wait_until, lambda: farm.queue("high@fake").count == len(paths))
            before = threading.active_count()
            assert (await client.get("/v1/models")).status_code == 200
            farm.start()
            return before, await asyncio.gather(*waiting)

    num_threads, answers = asyncio.run(ask_all())
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    for path, answer in zip(paths, answers, strict=True):
        assert answer.json()["text"].endswith(f"/{path.name}-2")
    assert num_threads < len(paths)
