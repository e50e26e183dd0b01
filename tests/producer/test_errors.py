"""Errors: a stable code each, and nothing lost on the way through pickle and JSON."""

import json
import math
import pickle
import re

import pytest

from producer import errors
from producer.errors import (
    ERRORS,
    UNKNOWN_ADVICE,
    Exit,
    Internal,
    OutOfRange,
    PermanentError,
    ScribefarmError,
    advice_for,
)


def leaves(branch=ScribefarmError):
    """Return every class of the tree that has no subclass."""
    found = branch.__subclasses__()
    return [leaf for child in found for leaf in leaves(child)] if found else [branch]


@pytest.mark.parametrize("leaf", leaves())
def test_a_leaf_has_a_docstring_a_code_of_its_name_and_a_verdict_on_retrying(leaf):
    """The code is the class name in snake case, so programs and people say the same."""
    assert leaf.__doc__
    assert leaf.code == re.sub(r"(?<!^)(?=[A-Z])", "_", leaf.__name__).lower()
    assert leaf.retryable is not issubclass(leaf, PermanentError)
    assert ERRORS[leaf.code] is leaf


@pytest.mark.parametrize("leaf", leaves())
def test_a_leaf_has_advice_of_its_own(leaf):
    """A code without a word on what to do is of little help in the morning."""
    assert vars(leaf)["advice"]
    assert advice_for(leaf.code) == leaf.advice


def test_a_code_of_another_program_gets_general_advice():
    """Reports show it beside the others."""
    assert advice_for("invented_later") == UNKNOWN_ADVICE


def test_wrong_usage_is_2_nobody_there_3_and_all_else_1():
    """A command that an error ends has its exit code."""
    codes = {leaf.code: leaf.exit_code for leaf in leaves() if leaf.exit_code != Exit.SOME_FAILED}
    assert codes == {
        "invalid_options": Exit.USAGE,
        "invalid_settings": Exit.USAGE,
        "server_unreachable": Exit.NOBODY_THERE,
        "local_network_denied": Exit.NOBODY_THERE,
        "no_worker": Exit.NOBODY_THERE,
    }
    assert [*Exit] == [0, 1, 2, 3, 130]


def test_codes_are_unique():
    """A code means one thing."""
    assert len({leaf.code for leaf in leaves()}) == len(leaves()) == len(ERRORS)


@pytest.mark.parametrize("leaf", leaves())
@pytest.mark.parametrize("value", [None, 31.5, 0, "text", [80, 3000], True])
def test_pickle_and_json_give_the_error_back(leaf, value):
    """Type, context, constraint and value survive both ways of crossing a process."""
    error = leaf("audio", "at most 30 s", value)
    unpickled = pickle.loads(pickle.dumps(error))
    from_json = ScribefarmError.from_dict(json.loads(json.dumps(error.to_dict())))
    for copy in (unpickled, from_json):
        assert type(copy) is leaf
        assert (copy.context, copy.constraint, copy.value) == ("audio", "at most 30 s", value)
        assert str(copy) == str(error)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1}, b"bytes", ValueError("why")])
def test_values_that_json_cannot_hold_are_told_in_words(value):
    """A result key holds strict JSON whatever an error found."""
    stored = json.dumps(OutOfRange("mel", "must be finite", value).to_dict(), allow_nan=False)
    assert json.loads(stored)["value"] == str(value)


def test_the_message_says_where_what_and_what_was_found():
    """One line has all that a person needs."""
    error = OutOfRange("talk.wav", "at most 30 s", 31.5)
    assert str(error) == "talk.wav: at most 30 s (got 31.5)"


def test_an_unknown_code_of_a_later_version_reads_as_internal():
    """An old producer can read the results of a new worker."""
    stored = {**OutOfRange("a", "b", 1).to_dict(), "code": "invented_later"}
    assert type(ScribefarmError.from_dict(stored)) is Internal


def test_the_tree_drawn_in_the_docstring_is_the_tree():
    """Nobody adds a leaf without drawing it."""
    drawn = re.findall(r"[├└]── (\w+) +(\w+) {2,}", errors.__doc__)
    assert {name: code for name, code in drawn if code in ERRORS} == {
        leaf.__name__: leaf.code for leaf in leaves()
    }
    permanent, transient = errors.__doc__.split("TransientError")
    for leaf in leaves():
        assert leaf.__name__ in (permanent if issubclass(leaf, PermanentError) else transient)
