"""A glossary from a submission to the stored text: a real server, worker, model and speech."""

import importlib.util
from pathlib import Path

import pytest

import producer
from producer.connection import connect
from producer.result import Replacement
from worker.farm.farm_worker import FarmWorker

CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
GLOSSARY = {"Ever tried": "Never tried", "Fail": "Do fail", "no matter": "unfound"}

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.fixture
def heard(settings, real_engine):
    """Return a function: transcribe the clip with options."""

    def run(**options):
        batch = producer.submit([CLIP], settings=settings, beam_size=None, **options).batch
        with connect(settings) as connection:
            assert (
                FarmWorker(real_engine(), settings, connection, name="shelf").run(burst=True) == 0
            )
        ((_, result),) = producer.results(batch, settings=settings)
        return result

    return run


def test_a_glossary_changes_the_text_and_nothing_that_the_model_said(heard):
    """Tokens and figures are those without it; words keep their times; the list is true."""
    plain = heard(word_timestamps=True)
    mended = heard(word_timestamps=True, replacements=GLOSSARY)
    assert mended.job_id != plain.job_id
    assert plain.text == "".join(segment.text for segment in plain.segments)
    assert plain.replacements == []
    assert mended.text == (
        " Never tried, ever failed. No matter, try again. Do fail again. Do fail better."
    )
    assert mended.replacements == [
        Replacement(segment=0, wrong="Ever tried", right="Never tried", count=1),
        Replacement(segment=2, wrong="Fail", right="Do fail", count=1),
        Replacement(segment=3, wrong="Fail", right="Do fail", count=1),
    ]
    for before, after in zip(plain.segments, mended.segments, strict=True):
        assert after.model_copy(update={"text": before.text, "words": before.words}) == before
        assert "".join(word.word for word in after.words) == after.text
        spans = [(words[0].start, words[-1].end) for words in (before.words, after.words)]
        assert spans[0] == spans[1]
