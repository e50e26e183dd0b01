"""Glossary files: what they may hold, and what is said of a wrong line."""

import re

import pytest

from producer.errors import InvalidOptions, SourceNotFound, UnsupportedFormat
from producer.glossary import read_glossary

PAIRS = (("Kate", "Cate"), ("New York", "NYC"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Kate,Cate\nNew York,NYC\n"),
        ("a.csv", "\ufeffwrong,right\r\nKate,Cate\r\n\r\nNew  York, NYC \r\n"),
        ("a.CSV", '"Kate","Cate"\n"New\nYork",NYC'),
        ("a.toml", 'Kate = "Cate"\n"New York" = "NYC"\n'),
        ("a.toml", '[replacements]\n"New York" = "NYC"\nKate = "Cate"\n'),
    ],
)
def test_a_glossary_is_csv_or_toml(name, content, tmp_path):
    """With a header or without, in any order."""
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_glossary(path) == PAIRS


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.csv", b"Kate,Cate\nKate;Cate\n", "a.csv:2: must have two columns: wrong,right (got 1)"),
        ("a.csv", b"Kate,Cate\nBob,\n", "1 to 200 characters"),
        ("a.csv", b"Kate,Cate\nKate,Kait\n", "one replacement a phrase"),
        ("a.csv", b"Kate,Cate\n\xff,x\n", "a.csv:2: must be UTF-8 text"),
        ("a.csv", b"a" * ((1 << 20) + 1), "at most 1048576 bytes"),
        ("a.csv", b"a" * 200_000 + b",b", "must be CSV"),
        ("a.toml", b"Kate = 1", "a.toml: Kate: must be text in quotation marks"),
        ("a.toml", b"Kate = ", "must be TOML"),
    ],
)
def test_a_wrong_line_is_named(name, content, named, tmp_path):
    """With the file, and the line where there is one."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidOptions, match=re.escape(named)):
        read_glossary(path)


def test_a_glossary_that_is_none_is_refused(tmp_path):
    """Absent, or of another kind."""
    with pytest.raises(SourceNotFound):
        read_glossary(tmp_path / "a.csv")
    with pytest.raises(SourceNotFound):
        read_glossary(tmp_path.with_suffix(".csv").parent.joinpath("no", "b.toml"))
    with pytest.raises(UnsupportedFormat, match=re.escape(".csv or .toml")):
        read_glossary(tmp_path / "a.xlsx")
