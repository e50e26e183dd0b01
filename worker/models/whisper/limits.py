"""What a Whisper checkpoint can do, and which options ask for more."""

from dataclasses import dataclass

from producer.errors import InvalidOptions, OutOfRange
from producer.job import Options
from worker.models.whisper.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelLimits:
    """What a transcription must know of its model.

    Attributes:
        knows_english_alone: It was trained on English only, whatever its vocabulary holds.
    """

    n_vocab: int
    context_length: int
    knows_english_alone: bool = False


def check_options(options: Options, limits: ModelLimits) -> None:
    """Refuse what the model cannot do.

    Raises:
        InvalidOptions: a language or task that the model does not have, or languages by window
            asked of one that knows English alone.
        OutOfRange: a suppressed token that the vocabulary does not have.
    """
    highest = max(options.suppress_tokens, default=-1)
    if highest >= limits.n_vocab:
        raise OutOfRange("options: suppress_tokens", f"ids below {limits.n_vocab}", highest)
    tokenizer = Tokenizer(limits.n_vocab, options.language, options.task)
    if options.multilingual and (limits.knows_english_alone or not tokenizer.is_multilingual):
        must = "needs a model of many languages: this one knows English alone"
        raise InvalidOptions("options: multilingual", must, value=True)
