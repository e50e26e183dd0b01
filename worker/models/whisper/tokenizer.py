"""Whisper's tokens: byte-pair text, special tokens, timestamps and languages.

The ids of all special tokens follow from the size of the vocabulary, so a model needs no
tokenizer file of its own. The two byte-pair vocabularies lie in `worker/models/*.tiktoken`
(OpenAI, MIT; see `worker/models/whisper/NOTICE.md`). Nothing here needs MLX or a network.
"""

import base64
import string
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

import tiktoken

from producer.errors import InvalidModel, InvalidOptions

# In the order of their token ids, which is by hours of training data; `yue` came with large-v3.
LANGUAGES = MappingProxyType(
    {
        "en": "english", "zh": "chinese", "de": "german", "es": "spanish", "ru": "russian",
        "ko": "korean", "fr": "french", "ja": "japanese", "pt": "portuguese", "tr": "turkish",
        "pl": "polish", "ca": "catalan", "nl": "dutch", "ar": "arabic", "sv": "swedish",
        "it": "italian", "id": "indonesian", "hi": "hindi", "fi": "finnish", "vi": "vietnamese",
        "he": "hebrew", "uk": "ukrainian", "el": "greek", "ms": "malay", "cs": "czech",
        "ro": "romanian", "da": "danish", "hu": "hungarian", "ta": "tamil", "no": "norwegian",
        "th": "thai", "ur": "urdu", "hr": "croatian", "bg": "bulgarian", "lt": "lithuanian",
        "la": "latin", "mi": "maori", "ml": "malayalam", "cy": "welsh", "sk": "slovak",
        "te": "telugu", "fa": "persian", "lv": "latvian", "bn": "bengali", "sr": "serbian",
        "az": "azerbaijani", "sl": "slovenian", "kn": "kannada", "et": "estonian",
        "mk": "macedonian", "br": "breton", "eu": "basque", "is": "icelandic", "hy": "armenian",
        "ne": "nepali", "mn": "mongolian", "bs": "bosnian", "kk": "kazakh", "sq": "albanian",
        "sw": "swahili", "gl": "galician", "mr": "marathi", "pa": "punjabi", "si": "sinhala",
        "km": "khmer", "sn": "shona", "yo": "yoruba", "so": "somali", "af": "afrikaans",
        "oc": "occitan", "ka": "georgian", "be": "belarusian", "tg": "tajik", "sd": "sindhi",
        "gu": "gujarati", "am": "amharic", "yi": "yiddish", "lo": "lao", "uz": "uzbek",
        "fo": "faroese", "ht": "haitian creole", "ps": "pashto", "tk": "turkmen",
        "nn": "nynorsk", "mt": "maltese", "sa": "sanskrit", "lb": "luxembourgish",
        "my": "myanmar", "bo": "tibetan", "tl": "tagalog", "mg": "malagasy", "as": "assamese",
        "tt": "tatar", "haw": "hawaiian", "ln": "lingala", "ha": "hausa", "ba": "bashkir",
        "jw": "javanese", "su": "sundanese", "yue": "cantonese",
    }
)  # fmt: skip

_ALIASES = {
    "burmese": "my",
    "castilian": "es",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "mandarin": "zh",
    "moldavian": "ro",
    "moldovan": "ro",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}
_CODES = {name: code for code, name in LANGUAGES.items()} | _ALIASES

# Written without spaces between words; their text is cut between characters instead.
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})

_ENGLISH_N_VOCAB = 51864
_NUM_TIMESTAMPS = 1501  # 0.00 to 30.00 seconds
TIMESTAMP_S = 0.02  # seconds between two timestamp tokens

# Tokens that are not languages: text ranks, seven control tokens, end of text, timestamps.
_FIRST_LANGUAGE_N_VOCAB = 51765
_NUM_LANGUAGES = (99, 100)

# How GPT-2 cuts text before merging bytes: contractions, words, numbers, signs, white space.
_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# Speaker tags and sound annotations ("[DAVID] (applause)") are drawn with these signs.
_BRACKETS = tuple('"#()*+/:;<=>@[\\]^_`{|}~「」『』')
_DOUBLED = tuple(
    "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),  # noqa: SIM905 - a list of signs in quotes is unreadable
)
# May take several tokens; the first one stands for U+2640..U+267F, all safe to suppress.
_MUSIC = tuple("♩♪♫♬♭♮♯")


def parse_language(language: str) -> str:
    """Return the code of a language given as code or English name: `german` and `DE` are `de`.

    Raises:
        InvalidOptions: Whisper has no such language.
    """
    asked = language.strip().lower()
    if asked in LANGUAGES:
        return asked
    if asked in _CODES:
        return _CODES[asked]
    raise InvalidOptions("language", "must be a language code or name that Whisper knows", language)


class Vocabulary:
    """The tokens of one vocabulary size, shared by the tokenizers of all languages and tasks.

    Attributes:
        encoding: Byte-pair encoder with all special tokens.
        special_tokens: Spelling to id.
        num_languages: 99, or 100 from large-v3 on.
        is_multilingual: False for the `.en` models.
    """

    def __init__(self, n_vocab: int) -> None:
        self.is_multilingual = n_vocab > _ENGLISH_N_VOCAB
        self.num_languages = n_vocab - _FIRST_LANGUAGE_N_VOCAB - int(self.is_multilingual)
        if self.num_languages not in _NUM_LANGUAGES:
            raise InvalidModel("n_vocab", "must be 51864, 51865 or 51866", n_vocab)
        ranks = load_ranks("multilingual" if self.is_multilingual else "gpt2")
        specials = _special_tokens(self.num_languages)
        self.special_tokens = {
            spelling: len(ranks) + index for index, spelling in enumerate(specials)
        }
        self.encoding = tiktoken.Encoding(
            name=f"whisper-{n_vocab}",
            explicit_n_vocab=n_vocab,
            pat_str=_PATTERN,
            mergeable_ranks=ranks,
            special_tokens=self.special_tokens,
        )

    @cached_property
    def language_codes(self) -> tuple[str, ...]:
        """Languages in the order of their tokens."""
        return tuple(LANGUAGES)[: self.num_languages]

    @cached_property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of annotations and music, which no one speaks; ascending."""
        encode = self.encoding.encode_ordinary
        # Hyphen and apostrophe may join words but not start one.
        suppressed = {encode(" -")[0], encode(" '")[0]}
        for symbol in (*_BRACKETS, *_DOUBLED, *_MUSIC):
            for tokens in (encode(symbol), encode(" " + symbol)):
                if len(tokens) == 1 or symbol in _MUSIC:
                    suppressed.add(tokens[0])
        return tuple(sorted(suppressed))


class Tokenizer:
    """Text to tokens and back, for one model, language and task.

    A multilingual model without a language or task takes English and `transcribe`, as the
    reference does. An English-only model has neither in its prompt.

    Attributes:
        vocabulary: What all tokenizers of this model share.
        language: Language code; None for an English-only model.
        task: `transcribe` or `translate`; None for an English-only model.
        sot_sequence: Start of every prompt: start of transcript, language, task.
    """

    def __init__(self, n_vocab: int, language: str | None = None, task: str | None = None) -> None:
        """Compute all special tokens.

        Args:
            n_vocab: Size of the model's vocabulary: 51864, 51865 or 51866.
            language: Code or name.
            task: `transcribe` or `translate`.

        Raises:
            InvalidModel: no Whisper model has a vocabulary of that size.
            InvalidOptions: language or task is unknown, or not this model's.
        """
        self.vocabulary = get_vocabulary(n_vocab)
        if task not in {None, "transcribe", "translate"}:
            raise InvalidOptions("task", "must be transcribe or translate", task)
        code = parse_language(language) if language else "en"
        if not self.is_multilingual and (code != "en" or task == "translate"):
            raise InvalidOptions(
                "model", "is English-only: it cannot take another language or translate", code
            )
        self.language = code if self.is_multilingual else None
        self.task = (task or "transcribe") if self.is_multilingual else None
        self.sot_sequence = self._sot_sequence()

    def _sot_sequence(self) -> tuple[int, ...]:
        if self.language is None:
            return (self.sot,)
        task = self.translate if self.task == "translate" else self.transcribe
        return (self.sot, self.language_token(self.language), task)

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows more than English."""
        return self.vocabulary.is_multilingual

    @property
    def num_languages(self) -> int:
        """How many language tokens the vocabulary has."""
        return self.vocabulary.num_languages

    @property
    def n_vocab(self) -> int:
        """How many tokens there are."""
        return self.vocabulary.encoding.n_vocab

    @property
    def eot(self) -> int:
        """End of text; every lower id is text."""
        return self._special("<|endoftext|>")

    @property
    def sot(self) -> int:
        """Start of transcript."""
        return self._special("<|startoftranscript|>")

    @property
    def sot_prev(self) -> int:
        """Stands before the text of earlier windows."""
        return self._special("<|startofprev|>")

    @property
    def sot_lm(self) -> int:
        """Start of a language-model sequence; never sampled."""
        return self._special("<|startoflm|>")

    @property
    def no_speech(self) -> int:
        """Its probability after `sot` says whether anybody speaks."""
        return self._special("<|nospeech|>")

    @property
    def no_timestamps(self) -> int:
        """Asks for text without timestamps."""
        return self._special("<|notimestamps|>")

    @property
    def timestamp_begin(self) -> int:
        """0.00 seconds; every higher id is a timestamp, 0.02 s apart."""
        return self._special("<|0.00|>")

    @property
    def transcribe(self) -> int:
        """Task: text in the language that is spoken."""
        return self._special("<|transcribe|>")

    @property
    def translate(self) -> int:
        """Task: text in English."""
        return self._special("<|translate|>")

    @property
    def sot_sequence_including_notimestamps(self) -> tuple[int, ...]:
        """The start of a prompt that asks for text only."""
        return (*self.sot_sequence, self.no_timestamps)

    @property
    def non_speech_tokens(self) -> tuple[int, ...]:
        """Tokens of annotations and music, which no one speaks; ascending."""
        return self.vocabulary.non_speech_tokens

    @property
    def suppressed_tokens(self) -> tuple[int, ...]:
        """What `suppress_tokens=-1` stands for: `non_speech_tokens` and the control tokens."""
        control = {self.transcribe, self.translate, self.sot, self.sot_prev, self.sot_lm}
        return tuple(sorted({*self.non_speech_tokens, *control, self.no_speech}))

    @property
    def all_language_codes(self) -> tuple[str, ...]:
        """Languages of this model, in the order of their tokens."""
        return self.vocabulary.language_codes

    @property
    def all_language_tokens(self) -> tuple[int, ...]:
        """Language tokens, ascending."""
        return tuple(range(self.sot + 1, self.sot + 1 + self.num_languages))

    def language_token(self, language: str) -> int:
        """Return the token of a language given as code or name.

        Raises:
            InvalidOptions: this model has no such language.
        """
        code = parse_language(language)
        if code not in self.vocabulary.language_codes:
            raise InvalidOptions("language", "must be one that this model knows", language)
        return self._special(f"<|{code}|>")

    def encode(self, text: str) -> list[int]:
        """Return the tokens of text; the spelling of a special token is taken as plain text."""
        return self.vocabulary.encoding.encode_ordinary(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens without timestamps; broken UTF-8 becomes U+FFFD."""
        begin = self.timestamp_begin
        return self.vocabulary.encoding.decode([token for token in tokens if token < begin])

    def decode_with_timestamps(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, with timestamps spelt like `<|1.08|>`."""
        return self.vocabulary.encoding.decode(list(tokens))

    def split_to_word_tokens(self, tokens: Sequence[int]) -> tuple[list[str], list[list[int]]]:
        """Group tokens into words.

        Languages written without spaces are cut between characters.

        Returns:
            The words, with their leading spaces, and the tokens of each.
        """
        characters = self._split_on_unicode(tokens)
        words = characters if self.language in _UNSPACED else self._join_on_spaces(characters)
        return [text for text, _ in words], [group for _, group in words]

    def _split_on_unicode(self, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Cut wherever the tokens so far are whole characters."""
        full = self.decode_with_timestamps(tokens)
        pieces: list[tuple[str, list[int]]] = []
        group: list[int] = []
        offset = 0
        for token in tokens:
            group.append(token)
            text = self.decode_with_timestamps(group)
            if _is_whole(text, full[offset:]):
                pieces.append((text, group))
                offset += len(text)
                group = []
        return pieces

    def _join_on_spaces(self, pieces: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
        """Join pieces up to the next space, punctuation mark or special token."""
        words: list[tuple[str, list[int]]] = []
        for text, group in pieces:
            starts_word = (
                group[0] >= self.eot or text.startswith(" ") or text.strip() in string.punctuation
            )
            if starts_word or not words:
                words.append((text, list(group)))
            else:
                last_text, last_group = words[-1]
                words[-1] = (last_text + text, last_group + group)
        return words

    def _special(self, spelling: str) -> int:
        return self.vocabulary.special_tokens[spelling]


@lru_cache(maxsize=4)
def get_vocabulary(n_vocab: int) -> Vocabulary:
    """Return the vocabulary of that size; there are three, each built once."""
    return Vocabulary(n_vocab)


def load_ranks(name: str) -> dict[bytes, int]:
    """Return bytes to rank of one byte-pair vocabulary: `gpt2` or `multilingual`."""
    path = Path(__file__).parent / f"{name}.tiktoken"
    lines = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _special_tokens(num_languages: int) -> list[str]:
    languages = list(LANGUAGES)[:num_languages]
    control = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    timestamps = [f"{index * TIMESTAMP_S:.2f}" for index in range(_NUM_TIMESTAMPS)]
    names = ["endoftext", "startoftranscript", *languages, *control, *timestamps]
    return [f"<|{name}|>" for name in names]


def _is_whole(text: str, rest: str) -> bool:
    """Tell whether text ends between characters, or is as broken as the full text is there."""
    broken = text.find("\ufffd")
    return broken < 0 or rest[broken : broken + 1] in {"", "\ufffd"}
