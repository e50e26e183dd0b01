"""8. A new error: a class with a docstring, a code and advice, and a line in the tree.

Whatever raises it, it is then a result with that code, which travels through Redis and back.
"""

import gc
import json

import pytest
from typer.testing import CliRunner

from producer.__main__ import app
from producer.batches.views import note_batch
from producer.errors import ERRORS, PermanentError, ScribefarmError
from tests.stage.fake_engine import job


@pytest.fixture
def muffled(monkeypatch):
    """Return the code of an error that there is only while this test runs."""

    class Muffled(PermanentError):
        """Nothing can be understood: the microphone was in a pocket."""

        code = "muffled"
        advice = "Listen to it. If you hear words, tell us."

    monkeypatch.setitem(ERRORS, Muffled.code, Muffled)
    yield Muffled.code
    del Muffled
    monkeypatch.undo()
    gc.collect()  # or the tests of the tree would find it


def test_an_error_reaches_whoever_asks_with_its_code_and_advice(farm, settings, muffled):
    """From the thread that raised it to the report in the morning; nothing else is to be done."""
    # Context, constraint and value come back from JSON.
    error = ERRORS[muffled]("talk.wav", "must hold speech", 0.01)
    assert str(error) == "talk.wav: must hold speech (got 0.01)"
    assert str(ScribefarmError.from_dict(error.to_dict())) == str(error)

    # Raised at work, it is a result of that one job: not retried, since it is permanent.
    asked = job("talk", error=muffled).model_copy(update={"batch": "night", "name": "talk.wav"})
    note_batch(farm.connection, farm.settings, "night")
    (job_id,) = farm.submit(asked)
    farm.start()
    failure = farm.result(job_id)
    assert (failure.error.code, failure.error.retryable) == (muffled, False)

    # The report groups its files under the code and gives the advice.
    command = ["report", "night", "--json"]
    report = json.loads(CliRunner().invoke(app, command, env=settings.to_environment()).stdout)
    (group,) = report["failures"]
    assert (group["code"], group["advice"]) == (muffled, ERRORS[muffled].advice)
