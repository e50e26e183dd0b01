"""The language that a recording is transcribed in: as asked, or as the model hears it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from producer.job import Options
from producer.languages import parse_language
from producer.result import Segment
from worker.engine.requests import Requests, ask
from worker.models.whisper.requests import DetectLanguage
from worker.models.whisper.tokenizer import Tokenizer

# Text at one moment counts for something beside text that has a length.
_SHORTEST_S = 0.01


class SpokenLanguage:
    """The language of a recording; with `options.multilingual` of the window that is decoded.

    Args:
        code: Of the language; None if it has to be detected.
        probability: Of a language that was detected before.

    Attributes:
        code: None until it is known.
        probability: None if it was not detected.
        tokenizer: Of that language; of English until it is known.
    """

    def __init__(
        self, n_vocab: int, options: Options, code: str | None, probability: float | None
    ) -> None:
        self.code = code
        self.probability = probability
        self.tokenizer = Tokenizer(n_vocab, code, options.task)
        self._n_vocab = n_vocab
        self._options = options

    def detect(self, states: Any) -> Requests[None]:
        """Choose the likeliest (allowed) language of a window, given its encoder states."""
        allowed = {parse_language(language) for language in self._options.allowed_languages}
        tokenizer = self.tokenizer
        weighed = DetectLanguage(states, tokenizer.sot, tokenizer.all_language_tokens)
        probabilities = yield from ask(weighed)
        self.probability, code = max(
            (probability, code)
            for probability, code in zip(probabilities, tokenizer.all_language_codes, strict=True)
            if not allowed or code in allowed
        )
        if code != self.code:
            self.tokenizer = Tokenizer(self._n_vocab, code, self._options.task)
        self.code = code


def main_language(segments: Iterable[Segment]) -> tuple[str | None, float | None]:
    """Return the language of most of the time with text, and its mean probability over that time.

    Args:
        segments: Of a recording whose windows were each detected.

    Returns:
        None and None where no segment has text.
    """
    seconds: dict[str, float] = defaultdict(float)
    weighed: dict[str, float] = defaultdict(float)
    for segment in segments:
        if segment.language is not None and segment.text:
            length_s = max(_SHORTEST_S, segment.end - segment.start)
            seconds[segment.language] += length_s
            weighed[segment.language] += length_s * (segment.language_probability or 0.0)
    if not seconds:
        return None, None
    # Of several the one that came first.
    code = max(seconds, key=seconds.__getitem__)
    return code, weighed[code] / seconds[code]
