"""Download a recording from a bucket: its address is signed, and the rest is a web server's."""

from functools import partial

from producer.buckets import signed_url
from producer.job import Job
from producer.remote_hosts import Access
from producer.settings import AudioSettings
from producer.source import shown_source
from worker.sources.http import Beat, Bounds, Download


def download_object(job: Job, settings: AudioSettings, bounds: Bounds, beat: Beat) -> Download:
    """Return the download of an s3:// source; each request has a signature of its own.

    The endpoint may be private: this machine's settings name it, and no job.
    """
    access = Access(settings.allow_private_hosts, settings.read_timeout_s, trusts_first=True)
    address = partial(signed_url, job.source, settings)
    return Download(shown_source(job.source), address, access, bounds, job.version, beat)
