"""RQ's field `data`: written as RQ does, read as untrusted input."""

import json
import zlib

import pytest

from producer.errors import JobRefused
from producer.rq_data import MAX_FIELD_BYTES, dump_call, load_call


def test_a_call_comes_back_as_it_was_written():
    """Function and keyword arguments; there are no others."""
    assert load_call(dump_call("f", {"a": "Ü"})) == ("f", None, [], {"a": "Ü"})


def test_data_that_is_not_compressed_is_read_too():
    """As RQ reads it."""
    assert load_call(json.dumps(["f", None, [], {}]).encode()) == ("f", None, [], {})


@pytest.mark.parametrize("data", [b"", b"\x80pickle", b"[1, 2]", b"{}", b"null", b"[" * 100_000])
def test_what_is_no_call_is_refused(data):
    """Whatever another program wrote."""
    with pytest.raises(JobRefused, match="job: data"):
        load_call(data)


def test_a_bomb_is_refused_before_it_is_unpacked():
    """A few bytes that would become a gigabyte."""
    bomb = zlib.compress(b" " * (MAX_FIELD_BYTES + 1))
    with pytest.raises(JobRefused, match=f"at most {MAX_FIELD_BYTES} bytes"):
        load_call(bomb)
