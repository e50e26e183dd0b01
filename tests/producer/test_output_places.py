"""Transcripts in a bucket, on a real S3 server."""

import re

import pytest

from producer.bucket_outputs import BucketFolder
from producer.buckets import s3_client
from producer.errors import InvalidOptions, InvalidSettings, OutputFailed
from producer.installation import install_hint
from producer.output_places import is_there, locate, place_of, write_output
from tests.stage.buckets import BUCKET, environment, own_bucket, s3_server


@pytest.fixture(autouse=True)
def _client_of_this_test():
    s3_client.cache_clear()
    yield
    s3_client.cache_clear()


@pytest.fixture(scope="module")
def address():
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(address, monkeypatch):
    for name, value in environment(address).items():
        monkeypatch.setenv(name, value)
    with own_bucket(s3_client()) as client:
        yield client


def test_a_place_is_a_folder_or_a_prefix(tmp_path, monkeypatch):
    """A file is neither."""
    for name, value in environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    assert place_of(str(tmp_path)) == tmp_path
    assert place_of("s3://bucket/texts/") == BucketFolder("bucket", "texts/")
    assert str(place_of("s3://bucket")) == "s3://bucket/"
    (tmp_path / "a").touch()
    for wrong in (str(tmp_path / "a"), "s3://"):
        with pytest.raises(InvalidOptions):
            place_of(wrong)


def test_what_is_missing_for_buckets_is_said(monkeypatch):
    """Which extra brings it."""
    monkeypatch.setitem(__import__("sys").modules, "botocore.session", None)
    with pytest.raises(InvalidSettings, match=re.escape(install_hint("s3"))):
        place_of("s3://bucket/texts")


@pytest.mark.slow
def test_an_output_is_written_once_and_not_over_others(bucket):
    """As in a folder: the same is left alone, other content is kept unless it may go."""
    place = place_of(f"s3://{BUCKET}/texts")
    where = locate(place, "talks/a b", "txt")
    assert where == f"s3://{BUCKET}/texts/talks/a b.txt"
    assert not is_there(place, where)
    written = [
        write_output(place, where, text, overwrite=overwrite)
        for text, overwrite in (("one", False), ("one", False), ("two", False), ("two", True))
    ]
    assert written == ["written", "unchanged", "kept", "written"]
    assert is_there(place, where)
    stored = bucket.get_object(Bucket=BUCKET, Key="texts/talks/a b.txt")
    assert stored["Body"].read() == b"two"
    assert stored["ContentType"] == "text/plain; charset=utf-8"


@pytest.mark.slow
def test_what_a_bucket_does_not_take_is_output_failed(bucket):
    place = place_of("s3://no-such-bucket/texts")
    with pytest.raises(OutputFailed, match="NoSuchBucket"):
        write_output(place, locate(place, "a", "txt"), "one", overwrite=False)


def test_a_name_stays_below_the_prefix():
    with pytest.raises(InvalidOptions):
        locate(BucketFolder("bucket", "texts/"), "../a", "txt")
