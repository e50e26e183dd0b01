"""Two models on one farm, with real workers and real weights: no text is another model's."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
import soundfile
from rq import Queue

from producer import embedded
from producer.job import TASK_NAME, Job, Options
from producer.keys import checkpoint_key
from producer.queue import job_state, read_progress, read_result, submit
from producer.settings import Settings
from tests.chaos.resume import SAMPLE_RATE_HZ, join_recordings
from tests.conftest import ROOT
from tests.stage.farm import wait_until
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Ticket
from worker.models.load import load_family

pytestmark = [
    pytest.mark.slow,
    pytest.mark.archive,
    pytest.mark.weights,
    pytest.mark.timeout(1800),
]

MODELS = ("tiny.en", "base")
NUM_CLIPS = 20
CLIP_S = 4
PATIENCE_S = 600
# Both models are asked for the same language: an English-only one knows no other.
GREEDY = Options(temperatures=(0.0,), beam_size=None, language="en")


@pytest.fixture
def speech(shared_data, tmp_path):
    """Return a function that writes a recording of so many seconds of speech."""
    english = shared_data / "audio" / "english"
    return lambda seconds: join_recordings(english, tmp_path / "speech.wav", seconds)


@pytest.fixture
def clips(speech, tmp_path):
    """Return twenty pieces of speech of four seconds."""
    joined = speech(NUM_CLIPS * CLIP_S)
    samples, rate_hz = soundfile.read(joined)
    paths = []
    for number in range(NUM_CLIPS):
        first = number * CLIP_S * rate_hz
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], samples[first : first + CLIP_S * rate_hz], SAMPLE_RATE_HZ)
    return paths


@pytest.fixture
def goldens():
    """Return a function that gives the texts of recordings by one model alone, as workers load it."""
    with contextlib.ExitStack() as engines:

        def start(model):
            settings = Settings(model={"name": model}, worker={"slots": 4})
            engine = BatchEngine(settings, load_family)
            engines.callback(engine.stop)
            return engine

        yield lambda model, paths, options: transcribe(start(model), paths, options)


def transcribe(engine, paths, options):
    """Return the texts of recordings, in their order."""
    texts = {}
    for number, path in enumerate(paths):
        job = Job(source=str(path), options=options)
        engine.submit(Ticket(str(number), str(number), job))
    deadline = time.monotonic() + PATIENCE_S
    while len(texts) < len(paths):
        assert time.monotonic() < deadline
        for event in engine.poll(0.5):
            assert not isinstance(event, Failed), event
            if isinstance(event, Done):
                texts[int(event.execution_id)] = event.transcript.text
    return [texts[number] for number in range(len(paths))]


@pytest.fixture
def start(settings, tmp_path):
    """Return a function that starts a real worker of a model, as a person does."""
    with contextlib.ExitStack() as stack:

        def run(model, **worker):
            fast = {"LEASE_S": "10", "HEARTBEAT_S": "1", "REAP_S": "1", "SLOTS": "4"} | worker
            env = {f"SCRIBEFARM_WORKER__{name}": value for name, value in fast.items()}
            env["SCRIBEFARM_MODEL__NAME"] = model
            env["SCRIBEFARM_REDIS__URL"] = f"unix://{embedded.status(settings).socket}"
            log = stack.enter_context((tmp_path / f"{model}.log").open("wb"))
            command = [sys.executable, "-m", "worker", "run", "--name", model]
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


def test_forty_jobs_of_two_models_each_get_their_own_models_text(
    connection, settings, clips, goldens, start
):
    """Twenty clips for each of two workers; the same clip is another job for each model."""
    expected = {model: goldens(model, clips, GREEDY) for model in MODELS}
    assert expected["tiny.en"] != expected["base"]
    for model in MODELS:
        start(model)
    asked = [
        Job(
            source=str(path), model=model, options=GREEDY, batch="both", name=f"{model}/{path.name}"
        )
        for path in clips
        for model in MODELS
    ]
    entries = submit(connection, settings, asked)
    assert sum(entry.is_new for entry in entries) == 2 * NUM_CLIPS
    results = [
        wait_until(lambda job_id=entry.job_id: read_result(connection, job_id), PATIENCE_S)
        for entry in entries
    ]
    assert [result.model.name for result in results] == [job.model for job in asked]
    assert [result.worker.rpartition("-")[0] for result in results] == [job.model for job in asked]
    for model in MODELS:
        texts = [result.text for result in results if result.model.name == model]
        assert texts == expected[model]


@pytest.mark.parametrize("change", [MODELS, MODELS[::-1]])
def test_a_drained_recording_that_another_model_goes_on_with_has_one_models_text(
    connection, speech, goldens, start, change
):
    """It starts over: token ids of one vocabulary are other words in the next."""
    first, second = change
    recording = speech(100)
    options = Options(language="en")
    (expected,) = goldens(second, [recording], options)
    queue = Queue("default", connection=connection, serializer="json")
    # It names no model, so whichever worker is there takes it.
    kwargs = {"source": str(recording), "options": {"language": "en"}}
    job_id = queue.enqueue(TASK_NAME, kwargs=kwargs).id
    worker = start(first, GRACE_S="0")
    wait_until(lambda: read_progress(connection, [job_id]), PATIENCE_S)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert job_state(connection, job_id) == "queued"
    assert connection.exists(checkpoint_key(job_id))
    start(second)
    result = wait_until(lambda: read_result(connection, job_id), PATIENCE_S)
    assert (result.model.name, result.text) == (second, expected)
    assert "<|" not in result.text
