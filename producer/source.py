"""What a job names as its source: a path, or an address from which a worker fetches the bytes.

A path is as the worker sees it, or a `file://` URL where its bytes are no text. `http://` and
`https://` addresses and `s3://BUCKET/KEY` are fetched; `upload://SHA256/NAME` is a file that was
put into the server itself. An address may hold secrets: what is shown is `shown_source`.
"""

import hashlib
import json
import re
from typing import Annotated, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from producer.masking import mask_url
from producer.plain_json import Text

HTTP_SCHEMES = frozenset({"http", "https"})
S3_SCHEME = "s3"
UPLOAD_SCHEME = "upload"

# Parameters of signed addresses that are new in each signature and name nothing: S3, Google, Azure,
# CloudFront. Others count as a part of the address, `token` and `key` too.
_SIGNATURE_PREFIXES = ("x-amz-", "x-goog-")
_SIGNATURE_FIELDS = frozenset(
    {
        *("awsaccesskeyid", "googleaccessid", "signature", "expires", "key-pair-id", "policy"),
        *("sig", "se", "sp", "st", "sv", "sr", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks"),
        "skv",
    }
)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# Longer ones are no validators but an attempt to fill memories.
_MAX_VALIDATOR_CHARS = 400

Validator = Annotated[Text, StringConstraints(max_length=_MAX_VALIDATOR_CHARS)]


class SourceVersion(BaseModel):
    """What a server says of a source that is no file: the stand-in of its content's hash.

    Attributes:
        etag: Of its `ETag` header, as it is.
        modified: Its `Last-Modified` header, as it is.
        size_bytes: How many bytes it has.
        nonce: Drawn for one submission where the server says neither: each is new work then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    etag: Validator | None = None
    modified: Validator | None = None
    size_bytes: int | None = Field(None, ge=0, lt=2**63)
    nonce: Annotated[Text, StringConstraints(max_length=64)] | None = None

    @classmethod
    def of(cls, etag: str | None, modified: str | None, size_bytes: int | None) -> Self:
        """Return the version that a server names; with neither ETag nor time, one of its own."""
        nonce = None if etag or modified else uuid4().hex
        return cls(
            etag=(etag or "")[:_MAX_VALIDATOR_CHARS] or None,
            modified=(modified or "")[:_MAX_VALIDATOR_CHARS] or None,
            size_bytes=size_bytes,
            nonce=nonce,
        )

    @property
    def validator(self) -> str | None:
        """Return what a server compares in `If-Range`: a strong ETag, or the time."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.modified

    def is_other_than(self, found: Self) -> bool:
        """Return whether `found` is surely another version; what only one of them says is no proof."""
        if self.etag and found.etag:
            return self.etag != found.etag
        pairs = ((self.modified, found.modified), (self.size_bytes, found.size_bytes))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)

    def identity(self, source: str) -> str:
        """Return the stand-in for a hash of the audio in the id of a job: address and version."""
        said = self.model_dump(mode="json", exclude_none=True)
        if self.etag:
            # Of the same ETag, servers behind one address may tell different times.
            said.pop("modified", None)
        canonical = json.dumps([_unsigned(source), said], sort_keys=True, separators=(",", ":"))
        return "version:" + hashlib.sha256(canonical.encode()).hexdigest()


def scheme_of(source: str) -> str:
    """Return the scheme of an address that is fetched; "" of a path and of a `file://` URL."""
    scheme, mark, _ = source.partition("://")
    scheme = scheme.lower()
    known = HTTP_SCHEMES | {S3_SCHEME, UPLOAD_SCHEME}
    return scheme if mark and scheme in known else ""


def is_remote(source: str) -> bool:
    """Return whether a source is on a server that tells its version: http, https or s3."""
    return scheme_of(source) in HTTP_SCHEMES | {S3_SCHEME}


def is_prefix(source: str) -> bool:
    """Return whether an address stands for all that is below it, as a folder does."""
    return scheme_of(source) == S3_SCHEME and source.endswith("/")


def is_fetched(source: str) -> bool:
    """Return whether a worker fetches the source, instead of opening a path."""
    return bool(scheme_of(source))


def is_foreign(source: str) -> bool:
    """Return whether a source is an address of a kind that nobody here fetches, like ftp://."""
    found = _ADDRESS.match(source)
    return found is not None and not is_fetched(source) and found[1].lower() != "file"


def shown_source(source: str) -> str:
    """Return a source for messages, logs and results: an address has no user and no query."""
    return mask_url(source) if is_remote(source) or is_foreign(source) else source


def name_of_address(address: str) -> str:
    """Return the path within an address as a name of a recording: relative, without `..`."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "recording"
    path = unquote(parts.path, errors="replace").replace("\0", "\ufffd")
    names = [name for name in path.split("/") if name not in {"", ".", ".."}]
    return "/".join(names) or parts.hostname or "recording"


def upload_source(audio_sha256: str, name: str) -> str:
    """Return the source of a file in the server; its name is for people."""
    return f"{UPLOAD_SCHEME}://{audio_sha256}/{name.lstrip('/')}"


def uploaded_sha256(source: str) -> str:
    """Return the hash under which an uploaded file lies in the server."""
    return source.partition("://")[2].partition("/")[0].lower()


def _unsigned(address: str) -> str:
    """Return an address without its user and without what a signature adds."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return address
    if parts.scheme.lower() not in HTTP_SCHEMES:
        return address
    fields = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not (name.lower().startswith(_SIGNATURE_PREFIXES) or name.lower() in _SIGNATURE_FIELDS)
    ]
    host = parts.hostname or ""
    return f"{parts.scheme.lower()}://{host}{port}{parts.path}?{urlencode(sorted(fields))}"
