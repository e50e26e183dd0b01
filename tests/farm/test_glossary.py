"""A glossary applied to a transcript: whole words, longest first, once; times are kept."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import InvalidOptions
from producer.job import Job, Options
from producer.replacements import MAX_REPLACEMENTS
from producer.result import Replacement
from tests.stage.transcripts import segment, timed_transcripts, transcript, words
from worker.farm.glossary import with_replacements

AUDIO = "0" * 64


def replaced(text, pairs, **options):
    """Return the text of one segment after a glossary."""
    spoken = transcript([segment(0, 0, 4, text)], text)
    result = with_replacements(spoken, Options(replacements=pairs, **options))
    assert result.text == result.segments[0].text
    return result.text


@pytest.mark.parametrize(
    ("text", "pairs", "expected"),
    [
        (" Kate, Kate's and Katey.", {"Kate": "Cate"}, " Cate, Cate's and Katey."),
        (" kate KATE", {"Kate": "Cate"}, " kate KATE"),
        (" New York City, New York", {"New York": "NY", "New York City": "NYC"}, " NYC, NY"),
        (" a b", {"a": "b", "b": "a"}, " b a"),
        (" New  York\nnow", {"New York": "NY"}, " NY\nnow"),
        (" I love C++.", {"C++": "C plus plus"}, " I love C plus plus."),
        (" Caf\u00e9 caf\u00e9s", {"Cafe\u0301": "Bar"}, " Bar caf\u00e9s"),
        (" cafe\u0301", {"cafe": "bar"}, " cafe\u0301"),
        (" \u0915\u0940 \u0915", {"\u0915": "x"}, " \u0915\u0940 x"),
        (
            "\u6211\u662f\u5f20\u4e09\u7684",
            {"\u5f20\u4e09": "\u5f20\u5c71"},
            "\u6211\u662f\u5f20\u5c71\u7684",
        ),
        (" x.*y", {".*": "!"}, " x!y"),
        (" Kate", {"Kate": r"\1 \g<0>"}, r" \1 \g<0>"),
        (" New York ", {"New York": "New York", "York": "x"}, " New York "),
    ],
)
def test_whole_words_are_replaced_longest_first_and_once(text, pairs, expected):
    """Case counts, marks belong to their letters, and phrases are no patterns."""
    assert replaced(text, pairs) == expected


def test_capitals_are_found_where_they_are_asked_for():
    """What is put in is as the glossary has it."""
    pairs = {"kate winslow": "Cate Winslow"}
    assert replaced(" KATE Winslow", pairs, replacements_ignore_case=True) == " Cate Winslow"


def test_what_was_replaced_is_listed_and_the_rest_is_what_the_model_said():
    """By segment, with counts; tokens and figures stay; a phrase across a border stays."""
    spoken = transcript(
        [segment(0, 0, 1, " Kate, Kate. New"), segment(1, 1, 2, " York and Bob")],
        " Kate, Kate. New York and Bob",
    )
    pairs = {"Kate": "Cate", "New York": "NY", "Bob": "Rob"}
    result = with_replacements(spoken, Options(replacements=pairs))
    assert result.text == " Cate, Cate. New York and Rob"
    assert result.replacements == [
        Replacement(segment=0, wrong="Kate", right="Cate", count=2),
        Replacement(segment=1, wrong="Bob", right="Rob", count=1),
    ]
    for before, after in zip(spoken.segments, result.segments, strict=True):
        assert after.model_copy(update={"text": before.text}) == before


def test_without_anything_to_replace_the_transcript_is_the_same():
    """Not even its text is put together anew."""
    spoken = transcript([segment(0, 0, 1, " a")], "another text")
    assert with_replacements(spoken, Options(replacements={"b": "c"})) is spoken
    assert with_replacements(spoken, Options()) is spoken


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ({"New York": "Old Town"}, [(" Old", 0, 1), (" Town,", 1.5, 2), (" now", 2, 3)]),
        ({"New York": "NYC"}, [(" NYC,", 0, 2), (" now", 2, 3)]),
        ({"now": "right now"}, [(" New", 0, 1), (" York,", 1.5, 2), (" right", 2, 2.625), (" now", 2.625, 3)]),
        ({"York, now": "x"}, [(" New", 0, 1), (" x", 1.5, 3)]),
        ({"New": "a", "York": "b"}, [(" a", 0, 1), (" b,", 1.5, 2), (" now", 2, 3)]),
    ],
)  # fmt: skip
def test_words_keep_their_times(pairs, expected):
    """As many words take the times one by one; others share them by characters."""
    spoken = words((" New", 0, 1), (" York,", 1.5, 2), (" now", 2, 3))
    text = "".join(word.word for word in spoken)
    result = with_replacements(
        transcript([segment(0, 0, 3, text, spoken)], text), Options(replacements=pairs)
    )
    (only,) = result.segments
    assert [(word.word, word.start, word.end) for word in only.words] == expected
    assert "".join(word.word for word in only.words) == only.text == result.text
    assert {word.probability for word in only.words} == {0.5}


SOME = st.sampled_from(
    ["a", "b", "ab", "a b", "b, a", "\u4f60", "\u4f60\u597d", "-", "\u0301", "a-b"]
)


@settings(deadline=None)
@given(
    timed_transcripts(SOME, with_words=True),
    st.dictionaries(SOME, SOME | st.just("x y z"), max_size=4),
    st.booleans(),
)
def test_words_and_text_always_agree(spoken, pairs, ignore_case):
    """Whatever is replaced: words spell the text, their times rise within the old ones."""
    options = Options(replacements=pairs, replacements_ignore_case=ignore_case)
    result = with_replacements(spoken, options)
    for before, after in zip(spoken.segments, result.segments, strict=True):
        assert "".join(word.word for word in after.words) == after.text
        times = [time for word in after.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert (times[0], times[-1]) == (before.words[0].start, before.words[-1].end)
        assert after.tokens == before.tokens
    told = sum(each.count for each in result.replacements)
    assert (told > 0) == bool(result.replacements)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", ",", "."]), max_size=12), st.permutations("abc"))
def test_every_word_is_replaced_as_a_table_says(said, others):
    """Against the plainest way: word by word."""
    table = dict(zip("abc", others, strict=True))
    text = " " + " ".join(said)
    expected = re.sub(r"[abc]", lambda match: table[match[0]], text)
    assert replaced(text, table) == expected


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        ({f"w{number}": "x" for number in range(MAX_REPLACEMENTS + 1)}, "at most 1000"),
        ({"a" * 201: "x"}, "1 to 200 characters"),
        ({" ": "x"}, "1 to 200 characters"),
        ({"x": ""}, "1 to 200 characters"),
        ({f"{number:03}" + "a" * 190: "x" for number in range(100)}, "16384 characters together"),
        ([("a", "b"), ("a", "c")], "one replacement a phrase"),
        ([("a", "b", "c")], "replacements"),
        ({"\ud800": "x"}, "UTF-8"),
        ({"a": 1}, "string"),
    ],
)
def test_a_glossary_out_of_bounds_is_refused_with_the_limit(pairs, named):
    """As an option that is wrong."""
    with pytest.raises(InvalidOptions, match=named):
        Job.from_kwargs({"source": "/a.wav", "options": {"replacements": pairs}})


def test_phrases_that_differ_in_capitals_alone_may_not_disagree():
    """Where capitals do not count."""
    options = {"replacements": {"kate": "Cate", "Kate": "Kait"}}
    assert Job.from_kwargs({"source": "/a.wav", "options": options})
    with pytest.raises(InvalidOptions, match="one replacement a phrase"):
        Job.from_kwargs(
            {"source": "/a.wav", "options": options | {"replacements_ignore_case": True}}
        )


def test_a_glossary_is_part_of_the_jobs_id_in_whatever_order():
    """Through JSON and back too."""
    forward = Job(source="/a.wav", options=Options(replacements={"a": "b", "c": "d"}))
    backward = Job(source="/a.wav", options=Options(replacements=[("c", "d"), ("a", " b ")]))
    assert forward.content_id(AUDIO) == backward.content_id(AUDIO)
    assert Job.from_kwargs(forward.to_kwargs()) == forward
    assert forward.content_id(AUDIO) != Job(source="/a.wav").content_id(AUDIO)
