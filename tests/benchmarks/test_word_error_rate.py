"""The word error rate that the README's table is made with."""

import pytest

from tests.benchmarks.word_error_rate import (
    Hypotheses,
    count_errors,
    golden,
    markdown,
    normalize,
    peers,
    references,
    table,
)


def test_case_punctuation_and_spelling_are_no_errors():
    """Whisper's normaliser takes away what is not a word error."""
    errors = count_errors(
        "MISTER HALE'S NEIGHBOUR PAID TWENTY DOLLARS", "Mr. Hale's neighbor paid $20.", "en"
    )
    assert errors.num_errors == 0


def test_substitutions_deletions_and_insertions_count_over_the_references_words():
    """Three kinds of word edits, over the number of words in the reference."""
    errors = count_errors("eins zwei drei vier", "eins zwo vier fünf", "de")
    assert (errors.num_errors, errors.num_words) == (3, 4)
    assert errors.rate == 0.75


def test_no_text_at_all_is_every_word_wrong():
    """An engine that gives nothing has a rate of one, not an exception."""
    assert count_errors("eins zwei", "", "de").rate == 1.0


def test_other_languages_keep_their_letters():
    """Accents are words' own letters; punctuation goes."""
    assert normalize("L'été, à Genève !", "fr") == "l été à genève"


def test_a_row_without_all_files_of_a_set_is_marked():
    """A rate over some of the files must not pass for the set's rate."""
    known = {f"audio/fleurs/{n}.ogg": ("ein Satz", "de") for n in range(2)}
    half = Hypotheses("half", "base", {"audio/fleurs/0.ogg": "Ein Satz."})
    assert "0.0*" in markdown(table([half], known))
    whole = Hypotheses("whole", "base", dict.fromkeys(known, "Ein Satz."))
    assert "*" not in markdown(table([whole], known))


@pytest.mark.archive
def test_every_stored_row_covers_its_sets(shared_data):
    """The golden and the peers' texts are there for each file of the sets that they claim."""
    records = table([*golden(shared_data), *peers()], references(shared_data))
    assert len(records) >= 2
    for record in records:
        assert all(cell["complete"] for cell in record["sets"].values()), record["name"]
        wanted = 2 if record["model"] == "tiny.en" else 6
        assert len(record["sets"]) == wanted, record["name"]
