"""Find recordings in a bucket: all below a prefix, as all below a folder."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from producer.archive.find import Found, Ignored, Names, Problem
from producer.archive.patterns import Patterns
from producer.buckets import s3_client
from producer.errors import ScribefarmError, SourceForbidden, SourceNotFound, SourceUnreachable
from producer.source import SourceVersion

_ABSENT = frozenset({"NoSuchBucket", "404"})
_REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"})


def find_in_bucket(address: str, names: Names, patterns: Patterns) -> Iterator[Found]:
    """Yield the recordings below `s3://BUCKET/PREFIX/`, named from the prefix' last folder on.

    The listing says their versions, so that none is asked for by itself. Objects of other kinds and
    hidden ones are yielded as `Ignored`; an error ends the listing as a `Problem`.
    """
    bucket, _, prefix = address.partition("://")[2].partition("/")
    above = PurePosixPath(prefix).name or bucket
    try:
        for item in _objects(address, bucket, prefix):
            key = str(item["Key"])
            relative = PurePosixPath(key.removeprefix(prefix))
            found = f"s3://{bucket}/{key}"
            if key.endswith("/"):
                continue  # what stands for a folder in consoles
            if kind := _why_ignored(relative, patterns):
                yield Ignored(found, kind)
                continue
            version = SourceVersion.of(item.get("ETag"), None, item.get("Size"))
            yield names.claim_address(found, f"{above}/{relative}", version=version)
    except ScribefarmError as error:
        yield Problem(address, error)


def _objects(address: str, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    client = s3_client()
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 with the extra `s3`

    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from page.get("Contents", [])
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "error"))[:100]
        kind: type[ScribefarmError] = SourceUnreachable
        if code in _ABSENT:
            kind = SourceNotFound
        elif code in _REFUSED:
            kind = SourceForbidden
        raise kind(address, "the bucket must be listed", code) from None
    except (BotoCoreError, ValueError) as error:
        found = type(error).__name__
        raise SourceUnreachable(address, "the bucket must be listed", found) from None


def _why_ignored(relative: PurePosixPath, patterns: Patterns) -> str:
    if relative.name.startswith("._"):
        return "AppleDouble"
    if any(part.startswith(".") for part in relative.parts):
        return "hidden"
    return patterns.why_ignored(relative)
