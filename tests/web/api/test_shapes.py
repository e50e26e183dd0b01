"""OpenAI's long form of a transcript, whatever family of models wrote it."""

from openai.types.audio import TranscriptionVerbose

from producer.web.api.shapes import verbose_transcription
from tests.stage.transcripts import segment, transcript, words


def test_figures_that_a_family_has_not_are_numbers_all_the_same():
    """OpenAI's own types take them."""
    said = segment(0, 0.0, 2.0, " Ever tried.").model_copy(
        update={"temperature": None, "no_speech_prob": None}
    )
    made = verbose_transcription(transcript([said], " Ever tried."), "transcribe", ())
    read = TranscriptionVerbose.model_validate(made.model_dump(exclude_none=True), strict=True)
    assert (read.segments[0].temperature, read.segments[0].no_speech_prob) == (0.0, 0.0)
    assert read.text == "Ever tried."


def test_words_are_bare_and_segments_are_left_out_unless_asked_for():
    """As OpenAI has them."""
    said = transcript(
        [segment(0, 0.0, 2.0, " Ever tried.", words((" Ever", 0.0, 1.0), (" tried.", 1.0, 2.0)))]
    )
    made = verbose_transcription(said, "transcribe", ("word",))
    assert [word.word for word in made.words] == ["Ever", "tried."]
    assert made.segments is None
