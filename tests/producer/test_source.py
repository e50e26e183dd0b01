"""What a job may name: paths and addresses, their names, versions and secrets."""

import pytest

from producer.archive.find import Names, find
from producer.job import Job
from producer.source import (
    SourceVersion,
    is_fetched,
    name_of_address,
    shown_source,
    upload_source,
    uploaded_sha256,
)

HASH = "a" * 64


@pytest.fixture
def names():
    with Names() as names:
        yield names


AT = "https://a.example/talk.wav"


@pytest.mark.parametrize("source", ["/a.wav", "a.wav", "file:///a.wav", "C:/a", "ftp://a/b", "://"])
def test_a_path_is_opened(source):
    assert not is_fetched(source)


@pytest.mark.parametrize("source", [AT, "HTTP://a/b", "s3://bucket/key", "upload://x/y"])
def test_an_address_is_fetched(source):
    assert is_fetched(source)
    assert Job(source=source).location == source


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://a.example/talks/a%20b.mp3?token=x#f", "talks/a b.mp3"),
        ("https://a.example/", "a.example"),
        ("https://a.example/../..%2f..%2fetc/passwd", "etc/passwd"),
        ("https://a.example/%00.wav", "\ufffd.wav"),
        ("s3://bucket/deep/key.flac", "deep/key.flac"),
        ("https://[", "recording"),
    ],
)
def test_the_name_is_the_path_within_the_address(address, name):
    """It is relative, and leads nowhere else."""
    assert name_of_address(address) == name


def test_what_is_shown_has_no_secret():
    """No user, no password, no query."""
    address = "https://me:hush@a.example:8443/talk.wav?X-Amz-Signature=hush&key=hush"
    assert shown_source(address) == "https://***@a.example:8443/talk.wav?***"
    assert shown_source("/a?b@c.wav") == "/a?b@c.wav"


@pytest.mark.parametrize(
    "address", ["ftp://me:hush@a.example/b.wav", "sftp://a/?hush", "smb://hush@a/b.wav"]
)
def test_an_address_that_nobody_fetches_is_refused_without_its_secrets(names, address):
    """It is no path either."""
    (problem,) = find([address], names)
    assert problem.error.code == "unsupported_format"
    assert "hush" not in str(problem)


def test_the_same_version_of_an_address_is_the_same_work():
    """Whatever its signature, its user and the time that one of many servers tells."""
    one = SourceVersion(etag='"1"', modified="Monday", size_bytes=5)
    two = SourceVersion(etag='"1"', modified="Tuesday", size_bytes=5)
    signed = f"{AT}?X-Amz-Signature=1&X-Amz-Date=2&id=7"
    anew = "https://me:pw@a.example/talk.wav?id=7&X-Amz-Signature=3"
    assert one.identity(signed) == two.identity(anew)
    assert not one.is_other_than(two)


@pytest.mark.parametrize(
    ("address", "version"),
    [
        (AT, {"etag": '"2"', "size_bytes": 5}),
        (AT, {"etag": '"1"', "size_bytes": 6}),
        (f"{AT}?id=8", {"etag": '"1"', "size_bytes": 5}),
        (f"{AT}?token=8", {"etag": '"1"', "size_bytes": 5}),
        (AT.replace("https", "http"), {"etag": '"1"', "size_bytes": 5}),
        (AT.replace("a.example", "b.example"), {"etag": '"1"', "size_bytes": 5}),
    ],
)
def test_another_version_or_address_is_other_work(address, version):
    """Parameters that may name a file count."""
    known = SourceVersion(etag='"1"', size_bytes=5)
    assert SourceVersion(**version).identity(address) != known.identity(AT)


def test_a_hash_stands_before_a_version():
    """And a version stands for nothing but an address: a path has a hash."""
    version = SourceVersion(etag='"1"')
    assert Job(source=AT, version=version).identity.startswith("version:")
    assert Job(source=AT, version=version, audio_sha256=HASH).identity == HASH
    assert Job(source="/a.wav", version=version).identity is None


def test_an_upload_is_named_by_its_hash():
    source = upload_source(HASH, "talks/a b.wav")
    assert uploaded_sha256(source) == HASH
    assert shown_source(source) == source
