"""A batch of 200 recordings (`make archive`; 40 in `make check`) over OpenAI's client, and a worker that is killed in the middle of it."""

import json
import os
from collections import Counter

import numpy as np
import openai
import pytest
import soundfile

from producer.batches.counts import read_counts
from producer.connection import connect
from producer.keys import EVENTS_KEY
from producer.settings import load_settings
from tests.stage.farm import Server, wait_until
from tests.stage.http_front import HttpFront, RealWorker
from tests.web.api.conftest import CLIP

NUM_FILES = int(os.environ.get("NIGHT_NUM_LINES", "40"))
KILL_AFTER = NUM_FILES // 5
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture
def archive(tmp_path):
    """Return the paths of recordings of a second or so, each of its own bytes."""
    samples, rate_hz = soundfile.read(CLIP, dtype="float32")
    paths = []
    for number in range(NUM_FILES):
        start = (number % 8) * rate_hz
        noise = np.random.default_rng(number).normal(0, 1e-4, rate_hz).astype(np.float32)
        paths.append(tmp_path / f"{number:03d}.wav")
        soundfile.write(paths[-1], samples[start : start + rate_hz] + noise, rate_hz)
    return paths


@pytest.fixture
def front(tmp_path):
    """Return a front whose farm takes over a dead worker's recordings within seconds."""
    server = Server(tmp_path / "server")
    settings = load_settings(
        redis={"url": server.url},
        model={"name": "tiny.en", "dtype": "float32"},
        worker={"slots": 8, "lease_s": 6.0, "heartbeat_s": 1.0, "reap_s": 1.0},
        audio={"roots": [str(tmp_path)]},
    )
    made = HttpFront(settings)
    yield made
    made.stop()
    server.stop()


def lines_of(archive):
    for path in archive:
        body = {"model": "whisper-1", "file": str(path), "response_format": "verbose_json"}
        document = {
            "custom_id": path.stem,
            "method": "POST",
            "url": "/v1/audio/transcriptions",
            "body": body,
        }
        yield json.dumps(document)


def test_every_line_is_answered_once_though_a_worker_is_killed(front, archive, tmp_path):
    """kill -9 with recordings in hand; another worker goes on, and all belongs to one trace."""
    first = RealWorker(front.settings, tmp_path / "first.log", "first")
    second = None
    try:
        first.wait_until_alive(120)
        client = openai.OpenAI(api_key="none", base_url=f"{front.url}/v1")
        file = client.files.create(
            file=("night.jsonl", "\n".join(lines_of(archive)).encode()), purpose="batch"
        )
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/audio/transcriptions",
            completion_window="24h",
            extra_headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
        )
        with connect(front.settings) as connection:

            def counts():
                found = client.batches.retrieve(batch.id)
                return found.request_counts if found.status != "validating" else None

            wait_until(lambda: (now := counts()) and now.completed >= KILL_AFTER, 600, 0.05)
            in_hand = read_counts(connection, batch.id).running
            first.kill()
            assert in_hand > 0
            assert read_counts(connection, batch.id).left > 0
            second = RealWorker(front.settings, tmp_path / "second.log", "second")
            ended = wait_until(
                lambda: (
                    found
                    if (found := client.batches.retrieve(batch.id)).status == "completed"
                    else None
                ),
                1500,
                0.5,
            )
            check_answers(client, connection, ended)
    finally:
        first.stop()
        if second is not None:
            second.stop()


def check_answers(client, connection, ended):
    """One answer a line, one end a job, a lost worker's jobs taken over, one trace in all."""
    counts = ended.request_counts
    assert (counts.total, counts.completed, counts.failed) == (NUM_FILES, NUM_FILES, 0)
    assert ended.error_file_id is None
    answers = [
        json.loads(text) for text in client.files.content(ended.output_file_id).text.splitlines()
    ]
    assert [answer["custom_id"] for answer in answers] == [f"{n:03d}" for n in range(NUM_FILES)]
    assert {answer["response"]["status_code"] for answer in answers} == {200}
    texts = [answer["response"]["body"]["text"] for answer in answers]
    assert sum(bool(text) for text in texts) > NUM_FILES / 2
    events = [
        {key.decode(): value.decode() for key, value in fields.items()}
        for _, fields in connection.xrange(EVENTS_KEY)
    ]
    ends = Counter(event["job_id"] for event in events if "kind" not in event)
    assert len(ends) == NUM_FILES
    assert set(ends.values()) == {1}
    assert [event for event in events if event.get("kind") == "job_taken_over"]
    assert {event["trace_id"] for event in events if "job_id" in event} == {TRACE}
