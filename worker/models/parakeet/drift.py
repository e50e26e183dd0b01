"""In which language a text is: a Parakeet model chooses for itself, and sometimes it drifts.

v3 writes French and Spanish talk as would-be English, and Polish in Cyrillic (dictus-ios#552,
FluidAudio#842, NVIDIA-NeMo/Speech#14799), and takes no language. So the text is looked at. The
detector is py3langid 0.4 (BSD, 5 MB, NumPy): bounded to these languages it took none of 1,430 texts
of three sentences in 24 of them for another one, in 0.2 ms each, and of 3,600 single sentences 1.5 %,
never with nine tenths or more. lingua 2.1 was wrong as often and takes 690 MB, eld 1.0 takes 480 MB
and is not kept any more, cld2, cld3 and fasttext's small model were wrong four to six times as often.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from producer.result import LANGUAGE_DRIFT, Segment

# Less text says little of a language: names, a yes, a number.
FEWEST_CHARS = 40
# More of a piece tells no more, and takes longer.
_MOST_CHARS = 400
# Of the language of a piece that is not the one asked for. Wrong ones never came near it.
SURE = 0.9


class Verdict(NamedTuple):
    """What the text of a recording says about its language.

    Attributes:
        language: Code of the one that most of the text is in; None of too little text.
        share: Of the text that could be judged, 0..1.
        segments: With `language_drift` on those in another language than was asked for.
    """

    language: str | None
    share: float | None
    segments: list[Segment]


class LanguageDetector:
    """Tells a few languages from each other by text.

    Args:
        languages: Codes.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._identifier.set_languages(list(languages))

    def detect(self, text: str) -> tuple[str, float] | None:
        """Return the likeliest language and its probability; None of too little text."""
        letters = " ".join(text[:_MOST_CHARS].split())
        if sum(map(str.isalpha, letters)) < FEWEST_CHARS:
            return None
        language, probability = self._identifier.classify(letters)
        return str(language), float(probability)

    def judge(self, segments: Sequence[Segment], wanted: Sequence[str]) -> Verdict:
        """Look at the text of each piece of a recording.

        Args:
            segments: In order; those of a piece have its `seek`.
            wanted: Codes of the languages that were asked for; empty if none was.
        """
        judged: list[Segment] = []
        num_chars: dict[str, int] = {}
        for _, group in groupby(segments, key=attrgetter("seek")):
            piece = list(group)
            text = "".join(segment.text for segment in piece)
            found = self.detect(text)
            if found is not None:
                language, probability = found
                num_chars[language] = num_chars.get(language, 0) + len(text)
                if wanted and language not in wanted and probability >= SURE:
                    piece = list(_flagged(piece))
            judged += piece
        if not num_chars:
            return Verdict(None, None, judged)
        main = max(num_chars, key=lambda language: (num_chars[language], language in wanted))
        return Verdict(main, num_chars[main] / sum(num_chars.values()), judged)


def _flagged(piece: Sequence[Segment]) -> Iterator[Segment]:
    for segment in piece:
        flags = [*segment.flags, LANGUAGE_DRIFT]
        yield segment.model_copy(update={"flags": flags})
