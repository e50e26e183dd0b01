"""What the system says when a file that somebody named cannot be read, as our errors."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from producer.errors import SourceForbidden, SourceNotFound, SourceUnreachable

# ValueError: a NUL in the name.
NO_RECORDING = (FileNotFoundError, NotADirectoryError, ValueError)
NO_DOCUMENT = (FileNotFoundError, IsADirectoryError)


@contextlib.contextmanager
def reading_errors(
    context: str, path: Path, absent: tuple[type[Exception], ...] = NO_DOCUMENT
) -> Iterator[None]:
    """Translate what opening and reading a file raises.

    Args:
        context: Of the errors.
        path: The file.
        absent: What is raised if it is not there.

    Raises:
        SourceNotFound: it is not there.
        SourceForbidden: we may not read it.
        SourceUnreachable: the disk or share gave an error.
    """
    try:
        yield
    except absent as error:
        raise SourceNotFound(context, "must be an existing file", path) from error
    except PermissionError as error:
        raise SourceForbidden(context, "must be readable", path) from error
    except OSError as error:
        raise SourceUnreachable(context, f"must be readable: {error.strerror}", path) from error
