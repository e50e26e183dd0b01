"""Buckets: sign addresses of s3:// sources, with whatever credentials this machine has.

They are botocore's: the environment, `~/.aws`, a role of the machine; endpoint and region as well
(`AWS_ENDPOINT_URL`, `AWS_REGION`). Without credentials public buckets are asked unsigned. The
bytes then travel like those of any other address.
"""

from functools import cache
from typing import Any
from urllib.parse import unquote

from producer.errors import InvalidSettings, SourceForbidden, SourceNotFound
from producer.installation import install_hint
from producer.settings import AudioSettings

# Of a signature: longer than any download may take is allowed by nobody.
_LIFE_S = 3600
_DEFAULT_REGION = "us-east-1"


def signed_url(source: str, settings: AudioSettings, operation: str = "get_object") -> str:
    """Return the address from which an s3:// source is read for an hour.

    Raises:
        SourceNotFound: no bucket or no key in it.
        SourceForbidden: a bucket that audio.s3_buckets does not name.
        InvalidSettings: the package botocore is missing, or its settings are wrong.
    """
    bucket, key = split_s3(source)
    if settings.s3_buckets and bucket not in settings.s3_buckets:
        raise SourceForbidden(source, "must lie in one of audio.s3_buckets", bucket)
    given = {"Bucket": bucket, "Key": key}
    client = s3_client()
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        url = client.generate_presigned_url(operation, Params=given, ExpiresIn=_LIFE_S)
    except (BotoCoreError, ValueError) as error:
        raise SourceNotFound(source, "must be s3://BUCKET/KEY", type(error).__name__) from None
    return str(url)


def split_s3(source: str) -> tuple[str, str]:
    """Return bucket and key of an s3:// source; the key as it is, nothing is decoded.

    Raises:
        SourceNotFound: one of them is missing.
    """
    bucket, _, key = source.partition("://")[2].partition("/")
    if not bucket or not key or unquote(bucket) != bucket:
        raise SourceNotFound(source, "must be s3://BUCKET/KEY")
    return bucket, key


@cache
def s3_client() -> Any:
    """Return botocore's client, made once: that takes a third of a second.

    Raises:
        InvalidSettings: the package is missing, or the machine's AWS settings are wrong.
    """
    try:
        import botocore.session  # noqa: PLC0415
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        needed = f"must be installed for s3://; {install_hint('s3')}"
        raise InvalidSettings("s3: packages", needed, error.name) from error
    try:
        session = botocore.session.get_session()
        signature = "s3v4" if session.get_credentials() else UNSIGNED
        return session.create_client(
            "s3",
            region_name=session.get_config_variable("region") or _DEFAULT_REGION,
            config=Config(signature_version=signature),
        )
    except (BotoCoreError, ValueError) as error:
        raise InvalidSettings(
            "s3", "the AWS settings must be sound", type(error).__name__
        ) from None
