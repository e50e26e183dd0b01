"""The real model: kill -9 in the middle of a long recording, and the peer goes on from there.

The same recording goes through twice, once in peace and once with its worker killed half way. The
peer must start past the checkpoint, and the text must be the same.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
import soundfile as sf
from rq import Queue

from producer.keys import checkpoint_key, job_key
from producer.queue import read_progress, read_result
from producer.result import Transcript
from tests.stage.farm import ROOT, Server, wait_until
from worker.farm.job_hash import read_checkpoint

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True)
class Resumed:
    """What became of the recording whose worker was killed."""

    audio_s: float
    peaceful_text: str
    resumed_text: str
    checkpoint_s: float
    windows_of_peer: int
    windows_in_peace: int
    recovery_s: float


def join_recordings(folder: Path, target: Path, audio_s: float) -> Path:
    """Write one WAV file of 16 kHz speech from a folder's recordings, repeated as needed."""
    parts: list[Any] = []
    total = 0
    files = sorted(folder.glob("librispeech*")) or sorted(folder.iterdir())
    while total < audio_s * SAMPLE_RATE_HZ:
        for path in files:
            samples, rate_hz = sf.read(path, dtype="float32")
            assert rate_hz == SAMPLE_RATE_HZ, path
            parts.append(samples)
            total += len(samples)
    joined = np.concatenate(parts)[: int(audio_s * SAMPLE_RATE_HZ)]
    sf.write(target, joined, SAMPLE_RATE_HZ)
    return target


def kill_and_resume(folder: Path, recording: Path, *, timeout_s: float) -> Resumed:
    """Run the recording in peace, then again with a kill -9 after the middle."""
    server = Server(folder / "server")
    workers: list[subprocess.Popen[bytes]] = []
    try:
        connection = server.client
        queue = Queue("default", connection=connection, serializer="json")
        # Both before the first job: a worker that loads its model needs longer than the work left.
        workers += [_start_worker(server, folder / f"{name}.log") for name in ("first", "second")]
        wait_until(lambda: connection.scard("rq:workers") == 2, timeout_s)
        peaceful = _enqueue(queue, recording, "peaceful")
        peaceful_result = _transcript(connection, peaceful, timeout_s)
        killed_id = _enqueue(queue, recording, "killed")
        checkpoint_s = wait_until(
            lambda: _past_the_middle(connection, killed_id, peaceful_result.audio.duration_s),
            timeout_s,
        )
        fence: Any = connection.hget(job_key(killed_id), "fence")
        os.kill(_pid_of_worker(connection, killed_id), signal.SIGKILL)
        killed_at = time.monotonic()
        assert not read_result(connection, killed_id), "done before its worker was killed"
        wait_until(lambda: connection.hget(job_key(killed_id), "fence") != fence, 60)
        recovery_s = time.monotonic() - killed_at
        resumed = _transcript(connection, killed_id, timeout_s)
        return Resumed(
            audio_s=peaceful_result.audio.duration_s,
            peaceful_text=peaceful_result.text,
            resumed_text=resumed.text,
            checkpoint_s=checkpoint_s,
            windows_of_peer=resumed.timing.windows,
            windows_in_peace=peaceful_result.timing.windows,
            recovery_s=recovery_s,
        )
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        server.stop()


def _start_worker(server: Server, log: Path) -> subprocess.Popen[bytes]:
    fast = {"LEASE_S": "6", "HEARTBEAT_S": "1", "REAP_S": "1", "SLOTS": "8"}
    environment = {f"SCRIBEFARM_WORKER__{name}": value for name, value in fast.items()}
    environment["SCRIBEFARM_REDIS__URL"] = server.url
    command = [sys.executable, "-m", "worker", "run"]
    with log.open("ab") as stderr:
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=stderr)


def _enqueue(queue: Queue, recording: Path, job_id: str) -> str:
    # Through RQ and under a name of its own: the farm's own submit would see the same job.
    return str(queue.enqueue("worker.tasks.transcribe", source=str(recording), job_id=job_id).id)


def _pid_of_worker(connection: redis.Redis, job_id: str) -> int:
    worker: Any = connection.hget(job_key(job_id), "worker_name")
    pid: Any = connection.hget(b"rq:worker:" + worker, "pid")
    return int(pid)


def _past_the_middle(connection: redis.Redis, job_id: str, duration_s: float) -> float:
    """Return the checkpoint's seconds once the recording and its checkpoint are half way."""
    assert not read_result(connection, job_id), "done before its worker could be killed"
    stored: Any = connection.get(checkpoint_key(job_id))
    checkpoint = read_checkpoint(stored)
    progress = read_progress(connection, [job_id]).get(job_id)
    if not checkpoint or not progress or float(progress["seconds_done"]) < duration_s / 2:
        return 0.0
    return checkpoint.state["seek"] / 100


def _transcript(connection: redis.Redis, job_id: str, timeout_s: float) -> Transcript:
    result = wait_until(lambda: read_result(connection, job_id), timeout_s, every_s=0.2)
    assert isinstance(result, Transcript), result
    return result
