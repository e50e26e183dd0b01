"""Say of a transcript that its model did not know the language, where a person reads it."""

from producer.console import note
from producer.result import LIKELY_NOT_ENGLISH, Transcript


def note_language(transcript: Transcript, title: str) -> None:
    """Print a line on stderr if a model of English alone most likely heard another language."""
    if LIKELY_NOT_ENGLISH in transcript.flags:
        note(
            f"{title}: most likely not English, and {transcript.model.name} knows English alone: do "
            "not trust this text. Name a multilingual model, like --model small or --model turbo"
        )
