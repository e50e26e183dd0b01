"""6. A new format: one function from a transcript to text, and one line in `FORMATS`.

Formats are pure: they open no file and ask no server. The commands find them in the table.
"""

import pytest
from typer.testing import CliRunner

import producer
from producer.__main__ import app
from producer.formats import FORMATS, FormatOptions, to_srt, to_timed

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.fixture
def transcript(settings, work, speech):
    """Return the transcript with the time of every word; greedily it has several segments."""
    greedily = {"beam_size": None}
    submission = producer.submit([speech], word_timestamps=True, settings=settings, **greedily)
    assert work() == 0
    ((_, transcript),) = producer.results(submission.batch, settings=settings)
    return transcript


def test_a_format_is_made_of_segments_and_words(transcript):
    """What a transcript holds, and what the formats that are there make of it."""
    assert [segment.text for segment in transcript.segments] == [
        " Ever tried, ever failed.",
        " No matter, try again.",
        " Fail again.",
        " Fail better.",
    ]
    words = [word for segment in transcript.segments for word in segment.words]
    assert [word.word for word in words[:4]] == [" Ever", " tried,", " ever", " failed."]
    assert all(0 <= word.start <= word.end <= 10 for word in words)
    assert all(0 < word.probability <= 1 for word in words)
    assert (transcript.timing.windows, transcript.flags) == (1, [])
    assert transcript.timing.generated_tokens > 15
    assert transcript.timing.real_time_factor > 0
    assert to_timed(transcript).startswith("[00:00.000 --> 00:02.7")
    assert to_srt(transcript).startswith("1\n00:00:0")


def to_bullets(transcript, _options=FormatOptions()):  # noqa: B008 frozen
    """Return a list with one item a segment."""
    return "".join(f"-{segment.text}\n" for segment in transcript.segments)


def test_every_command_offers_a_format_that_is_in_the_table(transcript, settings, monkeypatch):
    """The function above and this line are all of it."""
    monkeypatch.setitem(FORMATS, "bullets", to_bullets)
    command = ["result", transcript.job_id, "--format", "bullets"]
    shown = CliRunner().invoke(app, command, env=settings.to_environment())
    assert (shown.exit_code, shown.stdout) == (0, to_bullets(transcript))
    assert shown.stdout.startswith("- Ever tried, ever failed.\n- No matter, try again.\n")
