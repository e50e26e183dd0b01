"""Ask the servers of sources that are no files which version they have."""

from producer.settings import AudioSettings
from producer.source import S3_SCHEME, SourceVersion, scheme_of, shown_source


def source_version(source: str, settings: AudioSettings) -> SourceVersion:
    """Return what the server of an http(s):// or s3:// source says of it, without reading it.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the server does not give it to us.
        UnsupportedFormat: it says that it is no audio.
        InvalidSettings: s3:// without the packages or credentials that it needs.
    """
    # Programs that submit files do without TLS and signatures.
    from producer.remote import ask_version  # noqa: PLC0415
    from producer.remote_hosts import Access  # noqa: PLC0415

    access = Access(settings.allow_private_hosts, settings.read_timeout_s)
    if scheme_of(source) == S3_SCHEME:
        from producer.buckets import signed_url  # noqa: PLC0415

        access = Access(settings.allow_private_hosts, settings.read_timeout_s, trusts_first=True)
        return ask_version(signed_url(source, settings), access, shown_source(source))
    return ask_version(source, access)
