"""Write transcripts into a bucket: the same names as in a folder, under a prefix."""

import hashlib
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from producer.buckets import s3_client
from producer.errors import InvalidOptions, OutputFailed
from producer.output_files import Written

# By our own mark, since a bucket's ETag is not always a hash of the content.
_MARK = "scribefarm-sha256"
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})


class BucketFolder(NamedTuple):
    """A prefix in a bucket, under which outputs are written.

    Attributes:
        prefix: Empty, or ends in a slash.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, address: str) -> "BucketFolder":
        """Return the place that `s3://BUCKET/PREFIX` names.

        Raises:
            InvalidOptions: it names no bucket.
        """
        bucket, _, prefix = address.partition("://")[2].partition("/")
        if not bucket:
            raise InvalidOptions("results", "must be s3://BUCKET/PREFIX", address)
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def address(self, name: str) -> str:
        """Return the address of an output."""
        return f"{self}{name}"

    def has(self, name: str) -> bool:
        """Return whether there is an object of this name, of whatever content.

        Raises:
            OutputFailed: the bucket does not say.
        """
        with _bucket_errors(self.address(name)):
            return self._mark_of({"Bucket": self.bucket, "Key": self.prefix + name}) is not None

    def write(self, name: str, text: str, *, overwrite: bool) -> Written:
        """Write an object, whole or not at all.

        One that has our mark with the same content is left alone, one of other content is replaced
        only with `overwrite`.

        Raises:
            OutputFailed: the bucket does not take it.
            InvalidSettings: the package botocore is missing, or its settings are wrong.
        """
        client, content = s3_client(), text.encode()
        digest = hashlib.sha256(content).hexdigest()
        where = {"Bucket": self.bucket, "Key": self.prefix + name}
        with _bucket_errors(self.address(name)):
            found = self._mark_of(where)
            if found == digest:
                return "unchanged"
            if found is not None and not overwrite:
                return "kept"
            kind = mimetypes.guess_type(name)[0] or "text/plain"
            client.put_object(
                **where,
                Body=content,
                ContentType=f"{kind}; charset=utf-8",
                Metadata={_MARK: digest},
            )
        return "written"

    def _mark_of(self, where: dict[str, str]) -> str | None:
        """Return our mark of an object, "" if it is of somebody else; None if there is none."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 with the extra `s3` alone

        try:
            head = s3_client().head_object(**where)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _ABSENT:
                return None
            raise
        return str(head.get("Metadata", {}).get(_MARK, ""))


@contextmanager
def _bucket_errors(address: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "error"))[:100]
        raise OutputFailed("results", "the bucket must take it", f"{address}: {code}") from None
    except (BotoCoreError, ValueError) as error:
        found = f"{address}: {type(error).__name__}"
        raise OutputFailed("results", "the bucket must take it", found) from None
