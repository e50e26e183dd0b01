"""Text to Whisper's tokens and back, for one model, language and task. Neither MLX nor network."""

import string
from collections.abc import Iterable, Sequence

from producer.errors import InvalidOptions
from producer.languages import UNSPACED, parse_language
from worker.models.whisper.vocabulary import get_vocabulary


class Tokenizer:
    """Text to tokens and back, for one model, language and task.

    A multilingual model without a language or task takes English and `transcribe`, as the
    reference does. An English-only model has neither in its prompt.

    Attributes:
        vocabulary: What all tokenizers of this model share.
        is_multilingual: The model knows more than English.
        language: Language code; None for an English-only model.
        task: `transcribe` or `translate`; None for an English-only model.
        sot_sequence: Start of every prompt: start of transcript, language, task.
        eot, sot, sot_prev, no_speech, no_timestamps, timestamp_begin: See `SpecialTokens`.
        non_speech_tokens, suppressed_tokens: See `Vocabulary`.
        all_language_codes, all_language_tokens: `language_codes` and `language_tokens` of the
            vocabulary.
    """

    def __init__(self, n_vocab: int, language: str | None = None, task: str | None = None) -> None:
        """Choose the tokens of a language and task.

        Args:
            n_vocab: Size of the model's vocabulary: 51864, 51865 or 51866.
            language: Code or name.
            task: `transcribe` or `translate`.

        Raises:
            InvalidModel: no Whisper model has a vocabulary of that size.
            InvalidOptions: language or task is unknown, or not this model's.
        """
        vocabulary = get_vocabulary(n_vocab)
        special = vocabulary.special
        self.vocabulary = vocabulary
        self.is_multilingual = vocabulary.is_multilingual
        self.eot, self.sot, self.sot_prev = special.eot, special.sot, special.sot_prev
        self.no_speech, self.no_timestamps = special.no_speech, special.no_timestamps
        self.timestamp_begin = special.timestamp_begin
        self.non_speech_tokens = vocabulary.non_speech_tokens
        self.suppressed_tokens = vocabulary.suppressed_tokens
        self.all_language_codes = vocabulary.language_codes
        self.all_language_tokens = vocabulary.language_tokens
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
        special = self.vocabulary.special
        task = special.translate if self.task == "translate" else special.transcribe
        return (self.sot, self.language_token(self.language), task)

    @property
    def sot_sequence_including_notimestamps(self) -> tuple[int, ...]:
        """Return the start of a prompt that asks for text without timestamps."""
        return (*self.sot_sequence, self.no_timestamps)

    def language_token(self, language: str) -> int:
        """Return the token of a language given as code or name.

        Raises:
            InvalidOptions: this model has no such language.
        """
        code = parse_language(language)
        if code not in self.vocabulary.language_codes:
            raise InvalidOptions("language", "must be one that this model knows", language)
        return self.vocabulary.special_tokens[f"<|{code}|>"]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of text; special tokens spelt in it are plain text."""
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
        words = characters if self.language in UNSPACED else self._join_on_spaces(characters)
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


def _is_whole(text: str, rest: str) -> bool:
    """Return whether text ends between characters, or `rest` is broken at the same place."""
    broken = text.find("\ufffd")
    return broken < 0 or rest[broken : broken + 1] in {"", "\ufffd"}
