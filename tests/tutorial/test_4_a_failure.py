"""4. A failure: a result as well, with what was wrong, the limit and the value.

A recording that breaks off becomes no half text, and keeps nobody else from theirs.
"""

import pytest

import producer
from producer.errors import CorruptAudio

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


def test_a_recording_that_breaks_off_becomes_a_failure(
    settings, work, scribefarm, speech, tmp_path
):
    """Its code is for programs, its message and the advice for people."""
    # The disk was full while this one was copied: the header promises more than there is.
    cut_off = tmp_path / "cut-off.wav"
    cut_off.write_bytes(speech.read_bytes()[:100_000])
    submission = producer.submit([cut_off, speech], settings=settings)

    # The worker works on: its exit code is 0, since a broken recording is no fault of its own.
    assert work() == 0
    results = dict(producer.results(submission.batch, settings=settings))
    (failure,) = [result for name, result in results.items() if "cut-off" in name]
    (transcript,) = [result for name, result in results.items() if "beckett" in name]
    assert transcript.status == "succeeded"

    # The code is stable. The same file fails the same way, so it was tried once only.
    assert (failure.status, failure.error.code) == ("failed", CorruptAudio.code)
    assert not failure.error.retryable
    assert len(failure.attempts) <= 1

    # The message says where it was noticed, what must hold, and what was there instead.
    assert "bytes of samples" in failure.error.message
    assert failure.error.constraint in failure.error.message
    assert str(failure.error.value) in failure.error.message

    # A command prints it on one line of stderr, says it with its exit code, and prints no text.
    shown = scribefarm("result", failure.job_id)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(f"error [corrupt_audio] {cut_off}: ")

    # Once the file is whole, it is another recording, with another id: submitted as any other.
    cut_off.write_bytes(speech.read_bytes())
    mended = producer.submit([cut_off], settings=settings)
    ((_, result),) = producer.results(mended.batch, settings=settings)
    assert result.text == transcript.text
