"""Write `tokenizer_vectors.json`: what openai-whisper's own tokenizer says.

    python tests/data/make_tokenizer_vectors.py     (with openai-whisper 20250625 installed)

openai-whisper is no dependency of ours: it needs torch. The vectors are facts computed by it.
"""

import json
from importlib.metadata import version
from pathlib import Path

from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE, get_tokenizer

TEXTS = {
    "en": " And so, my fellow Americans: ask not what your country can do for you -- it's 1961!",
    "de": " Über die Größe der Straße streiten sich 3,5 Millionen Bürger.",
    "zh": "我們今天去學校，因為下雨。𠮷野家",  # noqa: RUF001 - Chinese punctuation is the point
    "ja": "これはテストです。ありがとう！",  # noqa: RUF001 - and Japanese
    "th": "สวัสดีชาวโลก",
    "yue": "佢哋喺度做緊嘢",
    "ru": " Привет, мир! «Да»",
    "hi": " नमस्ते दुनिया",
    "ar": " مرحبا بالعالم",
    "fr": " L'été, c'est déjà l'automne\u00a0? d'où",
    "mixed": " 🙂👩‍👩‍👧 ♪ la ♪♪ [Musik] (lacht)  two  spaces\n\ttab \u0000 end ",
    "empty": "",
}


def describe(multilingual: bool, num_languages: int) -> dict:
    """Return ids, encodings and word splits of one vocabulary."""
    tokenizer = get_tokenizer(multilingual, num_languages=num_languages)
    names = ("eot", "sot", "sot_lm", "sot_prev", "no_speech", "no_timestamps", "timestamp_begin")
    return {
        "n_vocab": tokenizer.encoding.n_vocab,
        "ids": {name: getattr(tokenizer, name) for name in (*names, "transcribe", "translate")},
        "special_tokens": tokenizer.special_tokens,
        "non_speech_tokens": tokenizer.non_speech_tokens,
        "all_language_tokens": sorted(tokenizer.all_language_tokens),
        "sot_sequences": sot_sequences(multilingual, num_languages),
        "texts": {name: encoded(tokenizer, text) for name, text in TEXTS.items()},
        "words": [
            words(multilingual, num_languages, code, tokens)
            for code in (
                ("en", "de", "zh", "ja", "th", "yue") if num_languages == 100 else ("en", "zh")
            )
            for tokens in sequences(tokenizer)
        ],
    }


def sot_sequences(multilingual: bool, num_languages: int) -> list:
    """Return the start of the prompt for each language and task."""
    if not multilingual:
        return [[None, None, get_tokenizer(False).sot_sequence]]
    return [
        [
            code,
            task,
            get_tokenizer(True, num_languages=num_languages, language=code, task=task).sot_sequence,
        ]
        for code in [None, *list(LANGUAGES)[:num_languages]]
        for task in (None, "transcribe", "translate")
    ]


def encoded(tokenizer, text: str) -> dict:
    """Return a text, its tokens, and what they and a part of them decode to."""
    tokens = tokenizer.encode(text)
    stamped = [tokenizer.timestamp_begin + 7, *tokens, tokenizer.timestamp_begin + 1500]
    return {
        "text": text,
        "tokens": tokens,
        "decoded_from_second": tokenizer.decode(tokens[1:]),
        "stamped": stamped,
        "decoded_stamped": tokenizer.decode(stamped),
        "decoded_with_timestamps": tokenizer.decode_with_timestamps(stamped),
    }


def sequences(tokenizer) -> list:
    """Return the token rows to split into words: whole texts, cut ones, with timestamps and EOT."""
    rows = [tokenizer.encode(text) for text in TEXTS.values()]
    rows += [row[1:-1] for row in rows]
    return [
        *rows,
        [tokenizer.timestamp_begin, *rows[0], tokenizer.timestamp_begin + 50, tokenizer.eot],
    ]


def words(multilingual: bool, num_languages: int, language: str, tokens: list) -> dict:
    """Return how one language splits tokens; None where the reference raises IndexError."""
    tokenizer = get_tokenizer(multilingual, num_languages=num_languages, language=language)
    try:
        texts, groups = tokenizer.split_to_word_tokens(tokens)
    except IndexError:
        texts, groups = None, None
    return {"language": language, "tokens": tokens, "words": texts, "word_tokens": groups}


vectors = {
    "made_by": f"openai-whisper {version('openai-whisper')}",
    "languages": LANGUAGES,
    "to_language_code": TO_LANGUAGE_CODE,
    "vocabularies": [describe(False, 99), describe(True, 99), describe(True, 100)],
}
out = Path(__file__).parent / "tokenizer_vectors.json"
out.write_text(json.dumps(vectors, separators=(",", ":")) + "\n", encoding="utf-8")
