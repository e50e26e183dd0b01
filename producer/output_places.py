"""Where transcripts are written: a folder of this machine, or a prefix in a bucket."""

from pathlib import Path

from producer.bucket_outputs import BucketFolder
from producer.buckets import s3_client
from producer.errors import InvalidOptions
from producer.output_files import Written, output_errors, output_path, write_whole
from producer.source import S3_SCHEME, scheme_of

Place = Path | BucketFolder

# Names of outputs are checked as those below a folder are.
_TOP = Path("/")


def place_of(argument: str) -> Place:
    """Return the place that a command line names: a folder, or s3://BUCKET/PREFIX.

    Raises:
        InvalidOptions: a file, or an address without a bucket.
        InvalidSettings: s3:// without the package botocore or with wrong AWS settings.
    """
    if scheme_of(argument) == S3_SCHEME:
        s3_client()
        return BucketFolder.parse(argument)
    folder = Path(argument)
    if folder.is_file():
        raise InvalidOptions("--output-dir", "must be a folder or s3://BUCKET/PREFIX", argument)
    return folder


def locate(place: Place, stem: str, format_name: str) -> Path | str:
    """Return where an output stands: a path, or an address.

    Raises:
        InvalidOptions: the stem leads out of the place.
    """
    if isinstance(place, BucketFolder):
        return place.address(str(output_path(_TOP, stem, format_name).relative_to(_TOP)))
    return output_path(place, stem, format_name)


def write_output(place: Place, where: Path | str, text: str, *, overwrite: bool) -> Written:
    """Write an output whole or not at all; what has the same content is left alone.

    Raises:
        OutputFailed: the place does not take it.
    """
    if isinstance(place, BucketFolder):
        return place.write(str(where).removeprefix(str(place)), text, overwrite=overwrite)
    path = Path(where)
    with output_errors("results", path):
        return write_whole(path, text, within=place, overwrite=overwrite)


def is_there(place: Place, where: Path | str) -> bool:
    """Return whether something stands in an output's place.

    Raises:
        OutputFailed: the bucket does not say.
    """
    if isinstance(place, BucketFolder):
        return place.has(str(where).removeprefix(str(place)))
    return Path(where).exists()
