"""Buckets: signed addresses, fetched as any others are."""

import pytest

from producer.archive.find import FoundAddress, Ignored, Names, find
from producer.buckets import s3_client, signed_url
from producer.errors import SourceChanged, SourceForbidden, SourceNotFound
from producer.settings import AudioSettings
from producer.versions import source_version
from tests.stage.buckets import BUCKET, environment, own_bucket, s3_server
from tests.stage.web import whole

AUDIO = bytes(range(256)) * 1000
ANY = AudioSettings()


@pytest.fixture(autouse=True)
def _client_of_this_test():
    s3_client.cache_clear()
    yield
    s3_client.cache_clear()


@pytest.fixture
def found_at(monkeypatch):
    """Return a function that sets by which address S3 is found."""

    def find(address):
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)

    return find


@pytest.fixture(scope="module")
def address():
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(address, found_at):
    found_at(address)
    with own_bucket(s3_client()) as client:
        yield client


def test_an_address_is_signed_for_one_object(found_at):
    """With the machine's own credentials; the secret itself is not in it."""
    found_at("http://127.0.0.1:9")
    url = signed_url("s3://recordings/talks/a b?.wav", ANY)
    assert url.startswith("http://127.0.0.1:9/recordings/talks/a%20b%3F.wav?")
    assert "X-Amz-Signature=" in url
    assert "hush-hush" not in url


@pytest.mark.parametrize("source", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key"])
def test_what_names_no_object_is_refused(source):
    with pytest.raises(SourceNotFound):
        signed_url(source, ANY)


def test_only_the_buckets_that_are_named_are_read():
    """Whoever may enqueue a job cannot use a worker's credentials for more."""
    with pytest.raises(SourceForbidden, match=r"audio\.s3_buckets"):
        signed_url("s3://salaries/a.wav", AudioSettings(s3_buckets=("recordings",)))


def test_what_is_cut_is_resumed_with_a_signature_of_its_own(found_at, web, fetch):
    """Signed addresses run out; the endpoint may be private, since no job names it."""
    found_at(web.url(""))
    web.routes["/recordings/a.wav"] = whole(AUDIO, cuts=(1000,))
    assert fetch("s3://recordings/a.wav", allow_private_hosts=()) == AUDIO
    assert [headers.get("range") for _, _, headers in web.seen] == [None, "bytes=1000-"]
    assert all("X-Amz-Signature=" in path for _, path, _ in web.seen)


def test_an_error_names_the_object_and_no_signature(found_at, web, fetch):
    found_at(web.url(""))
    with pytest.raises(SourceNotFound) as refused:
        fetch("s3://recordings/a.wav")
    assert str(refused.value).startswith("s3://recordings/a.wav: ")
    assert "X-Amz" not in repr(refused.value)


@pytest.mark.slow
def test_an_object_of_a_real_server_is_fetched(bucket, fetch):
    """Its version is known before, and another one is refused."""
    bucket.put_object(Bucket=BUCKET, Key="talks/a b.wav", Body=AUDIO)
    source = f"s3://{BUCKET}/talks/a b.wav"
    version = source_version(source, ANY)
    assert version.etag
    assert version.size_bytes == len(AUDIO)
    assert fetch(source, version=version) == AUDIO
    bucket.put_object(Bucket=BUCKET, Key="talks/a b.wav", Body=AUDIO[::-1])
    with pytest.raises(SourceChanged):
        fetch(source, version=version)


@pytest.mark.slow
def test_a_prefix_is_searched_as_a_folder(bucket):
    """The listing says the versions that each object says itself."""
    for key in ("talks/a.wav", "talks/deep/b.flac", "talks/c.txt", "talks/.d.wav", "other/e.wav"):
        bucket.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    bucket.put_object(Bucket=BUCKET, Key="talks/deep/", Body=b"")
    with Names() as names:
        found = list(find([f"s3://{BUCKET}/talks/"], names))
    taken = {item.name: item for item in found if isinstance(item, FoundAddress)}
    assert sorted(taken) == ["talks/a.wav", "talks/deep/b.flac"]
    assert sorted(item.kind for item in found if isinstance(item, Ignored)) == [".txt", "hidden"]
    item = taken["talks/a.wav"]
    asked = source_version(item.address, ANY)
    assert asked.identity(item.address) == item.version.identity(item.address)


@pytest.mark.slow
def test_a_bucket_that_cannot_be_listed_is_a_problem(bucket):
    with Names() as names:
        (problem,) = find(["s3://no-such-bucket/"], names)
    assert problem.error.code == "source_not_found"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["s3://recordings/none.wav", "s3://no-such-bucket/a.wav"])
def test_an_object_that_is_not_there_is_not_found(bucket, fetch, source):
    with pytest.raises(SourceNotFound):
        fetch(source)
    with pytest.raises(SourceNotFound):
        source_version(source, ANY)
