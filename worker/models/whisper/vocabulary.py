"""The three vocabularies of Whisper: byte-pair text, special tokens, languages, timestamps.

The ids of all special tokens follow from the size of the vocabulary, so a model needs no
tokenizer file of its own. The two byte-pair vocabularies lie beside this file as `*.tiktoken`
(OpenAI, MIT; see `NOTICE.md`).
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import tiktoken

from producer.errors import InvalidModel
from producer.languages import LANGUAGES

_ENGLISH_N_VOCAB = 51864
_NUM_TIMESTAMPS = 1501  # 0.00 to 30.00 seconds
TIMESTAMP_S = 0.02  # seconds between two timestamp tokens

# Tokens of the English-only vocabulary that are not languages: text, end of text, seven control
# tokens, timestamps. The multilingual vocabularies have one text token more.
_NUM_OTHER_TOKENS = 51765
_NUM_LANGUAGES = (99, 100)

# How GPT-2 cuts text before it merges bytes: contractions, words, numbers, signs, white space.
_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# Signs of speaker tags and sound annotations, like "[DAVID] (applause)".
_BRACKETS = tuple('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
_DOUBLED = tuple(
    "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),  # noqa: SIM905 - a list of signs in quotes is unreadable
)
# Of several tokens only the first is suppressed: it stands for U+2640..U+267F, no speech.
_MUSIC = tuple("♩♪♫♬♭♮♯")


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that are not text.

    Attributes:
        eot: End of text; every lower id is text.
        sot: Start of transcript; the language tokens follow it.
        translate: Task: text in English.
        transcribe: Task: text in the language that is spoken.
        sot_lm: Start of a language-model sequence; never sampled.
        sot_prev: Stands before the text of earlier windows.
        no_speech: Its probability after `sot` is that of silence.
        no_timestamps: Asks for text without timestamps.
        timestamp_begin: 0.00 seconds; every higher id is a timestamp, `TIMESTAMP_S` apart.
    """

    eot: int
    sot: int
    translate: int
    transcribe: int
    sot_lm: int
    sot_prev: int
    no_speech: int
    no_timestamps: int
    timestamp_begin: int

    @classmethod
    def of(cls, ids: Mapping[str, int]) -> Self:
        """Return the record for a vocabulary's special tokens, spelling to id."""
        return cls(
            eot=ids["<|endoftext|>"],
            sot=ids["<|startoftranscript|>"],
            translate=ids["<|translate|>"],
            transcribe=ids["<|transcribe|>"],
            sot_lm=ids["<|startoflm|>"],
            sot_prev=ids["<|startofprev|>"],
            no_speech=ids["<|nospeech|>"],
            no_timestamps=ids["<|notimestamps|>"],
            timestamp_begin=ids["<|0.00|>"],
        )


class Vocabulary:
    """The tokens of one vocabulary size, shared by the tokenizers of all languages and tasks.

    Attributes:
        encoding: Byte-pair encoder with all special tokens.
        special_tokens: Spelling to id, of every token that is not text.
        special: Ids of those that are neither languages nor later timestamps.
        language_codes: Languages in the order of their tokens: 99, or 100 from large-v3 on.
        language_tokens: Their tokens, ascending.
        is_multilingual: False for the `.en` models.

    Raises:
        InvalidModel: no Whisper model has a vocabulary of that size.
    """

    def __init__(self, n_vocab: int) -> None:
        self.is_multilingual = n_vocab > _ENGLISH_N_VOCAB
        num_languages = n_vocab - _NUM_OTHER_TOKENS - int(self.is_multilingual)
        if num_languages not in _NUM_LANGUAGES:
            raise InvalidModel("n_vocab", "must be 51864, 51865 or 51866", n_vocab)
        ranks = load_ranks("multilingual" if self.is_multilingual else "gpt2")
        self.language_codes = tuple(LANGUAGES)[:num_languages]
        spellings = _special_spellings(self.language_codes)
        self.special_tokens = {
            spelling: len(ranks) + index for index, spelling in enumerate(spellings)
        }
        self.special = SpecialTokens.of(self.special_tokens)
        first = self.special.sot + 1
        self.language_tokens = tuple(range(first, first + num_languages))
        self.encoding = tiktoken.Encoding(
            name=f"whisper-{n_vocab}",
            explicit_n_vocab=n_vocab,
            pat_str=_PATTERN,
            mergeable_ranks=ranks,
            special_tokens=self.special_tokens,
        )

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Return the tokens of annotations and music, which are not spoken; ascending."""
        encode = self.encoding.encode_ordinary
        # A hyphen or an apostrophe may join words but not start one.
        suppressed = {encode(" -")[0], encode(" '")[0]}
        for symbol in (*_BRACKETS, *_DOUBLED, *_MUSIC):
            for tokens in (encode(symbol), encode(" " + symbol)):
                if len(tokens) == 1 or symbol in _MUSIC:
                    suppressed.add(tokens[0])
        return tuple(sorted(suppressed))

    @cached_property
    def suppressed_tokens(self) -> tuple[int, ...]:
        """Return what `suppress_tokens=-1` means: `non_speech_tokens` and control tokens."""
        special = self.special
        control = {special.transcribe, special.translate, special.sot, special.sot_prev}
        control |= {special.sot_lm, special.no_speech}
        return tuple(sorted({*self.non_speech_tokens, *control}))


@lru_cache(maxsize=4)
def get_vocabulary(n_vocab: int) -> Vocabulary:
    """Return the vocabulary of that size; there are three, each built once.

    Raises:
        InvalidModel: no Whisper model has a vocabulary of that size.
    """
    return Vocabulary(n_vocab)


def load_ranks(name: str) -> dict[bytes, int]:
    """Return bytes to rank of one byte-pair vocabulary: `gpt2` or `multilingual`."""
    path = Path(__file__).parent / f"{name}.tiktoken"
    lines = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _special_spellings(languages: Iterable[str]) -> list[str]:
    """Return the spellings of all special tokens in the order of their ids."""
    control = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    timestamps = [f"{index * TIMESTAMP_S:.2f}" for index in range(_NUM_TIMESTAMPS)]
    names = ["endoftext", "startoftranscript", *languages, *control, *timestamps]
    return [f"<|{name}|>" for name in names]
