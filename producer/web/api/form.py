"""A form as it comes: its fields in memory, its file on our disk, hashed; nothing beyond the limits."""

import hashlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from python_multipart.multipart import parse_options_header

from producer.errors import DiskFull, InvalidOptions, OutOfRange
from producer.plain_json import as_text
from producer.web.api.errors import Refusal

UPLOAD_PREFIX = ".scribefarm-upload-"

# A form has some fields of a line each, and a prompt.
MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
MAX_NAME_CHARS = 200
# Of the name that we give a spooled file, behind its hash.
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}", re.ASCII)


class FormLimits(NamedTuple):
    """What a form may hold, and how long a silence in it may last."""

    max_file_bytes: int
    silence_s: float
    folder: Path | None = None


@dataclass
class FormFile:
    """The file of a form, as it lies on our disk while the request is answered.

    Attributes:
        path: Where.
        name: Its last part as the client called it, harmless.
        content_type: As the client said, without parameters; "" if it said none.
        sha256: Of its bytes, in hex.
    """

    path: Path
    name: str
    content_type: str
    num_bytes: int = 0
    sha256: str = ""

    @property
    def suffix(self) -> str:
        """Return the name's extension in lower case, "" for an odd one."""
        suffix = Path(self.name).suffix.lower()
        return suffix if _SUFFIX.fullmatch(suffix) else ""


@dataclass
class Form:
    """The fields of a form, in their order, and its file."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    file: FormFile | None = None

    def whole_file(self) -> FormFile:
        """Return the file.

        Raises:
            Refusal: there is none, or it is empty.
        """
        if self.file is None:
            raise Refusal(InvalidOptions("request: file", "must be a file"), param="file")
        if not self.file.num_bytes:
            raise Refusal(InvalidOptions("request: file", "must not be empty"), param="file")
        return self.file


class FormReader:
    """Takes what the parser finds; `write_out` puts what has come of the file onto the disk."""

    def __init__(self, limits: FormLimits) -> None:
        self.form = Form()
        self.has_ended = False
        self._limits = limits
        self._headers: dict[str, str] = {}
        self._header_name, self._header_value = bytearray(), bytearray()
        self._name = ""
        self._text = bytearray()
        self._in_file = False
        self._handle: BinaryIO | None = None
        self._waiting = bytearray()
        self._digest = hashlib.sha256()

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    @property
    def num_waiting(self) -> int:
        """Return how many bytes of the file are in memory."""
        return len(self._waiting)

    def write_out(self) -> None:
        """Write the bytes that wait.

        Raises:
            DiskFull: the disk does not take them.
        """
        if self._handle is None or not self._waiting:
            return
        try:
            self._handle.write(self._waiting)
        except OSError as error:
            raise DiskFull(
                "request: file", "must fit into http.spool_dir, or TMPDIR", error.strerror
            ) from error
        self._digest.update(self._waiting)
        self._waiting.clear()

    def finish(self) -> None:
        """Write the rest, and note the hash.

        Raises:
            DiskFull: the disk does not take it.
        """
        self.write_out()
        if self._handle is not None and self.form.file is not None:
            try:
                self._handle.close()
            except OSError as error:
                raise DiskFull(
                    "request: file", "must fit into http.spool_dir, or TMPDIR", error.strerror
                ) from error
            self.form.file.sha256 = self._digest.hexdigest()

    def close(self) -> None:
        """Remove the file, if it is still there."""
        if self._handle is not None:
            self._handle.close()
        if self.form.file is not None:
            self.form.file.path.unlink(missing_ok=True)

    def _begin_part(self) -> None:
        self._headers, self._name, self._in_file = {}, "", False
        self._text.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        name = self._header_name.decode("latin-1").lower()
        self._headers[name] = self._header_value.decode("utf-8", "replace")
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        kind, parameters = parse_options_header(self._headers.get("content-disposition", ""))
        name = parameters.get(b"name")
        if kind != b"form-data" or name is None:
            raise damaged_form("a part has no name")
        self._name = as_text(name.decode("utf-8", "replace"), MAX_NAME_CHARS)
        filename = parameters.get(b"filename")
        if filename is not None:
            self._begin_file(filename.decode("utf-8", "replace"))
        elif len(self.form.fields) >= MAX_FIELDS:
            raise damaged_form(f"it has more than {MAX_FIELDS} fields")

    def _begin_file(self, given: str) -> None:
        if self._name != "file" or self.form.file is not None:
            raise damaged_form("it may have one file, called file")
        content_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - `close` removes it
                prefix=UPLOAD_PREFIX, dir=self._limits.folder, delete=False
            )
        except OSError as error:
            raise DiskFull(
                "request: file", "must fit into http.spool_dir, or TMPDIR", error.strerror
            ) from error
        self._handle = handle  # type: ignore[assignment]  # a wrapper around one
        self.form.file = FormFile(Path(handle.name), harmless_name(given), content_type)
        self._in_file = True

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            if len(self._text) + end - start > MAX_FIELD_BYTES:
                must = f"must have at most {MAX_FIELD_BYTES} bytes"
                raise Refusal(OutOfRange(f"request: {self._name}", must), param=self._name)
            self._text += data[start:end]
            return
        file = self.form.file
        assert file is not None  # noqa: S101 - `_begin_file` made it
        file.num_bytes += end - start
        if file.num_bytes > self._limits.max_file_bytes:
            raise too_large(self._limits, file.num_bytes)
        self._waiting += data[start:end]

    def _end_part(self) -> None:
        if not self._in_file:
            try:
                text = self._text.decode()
            except UnicodeDecodeError as error:
                raise damaged_form(f"field {self._name} is not UTF-8") from error
            self.form.fields.append((self._name, text))

    def _end(self) -> None:
        self.has_ended = True


def damaged_form(why: str) -> Refusal:
    """Return the refusal of a body that is no sound form."""
    return Refusal(InvalidOptions("request", f"must be a sound form: {why}"))


def too_large(limits: FormLimits, num_bytes: int) -> Refusal:
    """Return the refusal of a file that is larger than it may be."""
    must = f"must have at most {limits.max_file_bytes} bytes"
    return Refusal(OutOfRange("request: file", must, num_bytes), param="file")


def harmless_name(given: str) -> str:
    """Return the last part of a file's name as one printable word: a label, and never a path."""
    last = re.split(r"[/\\]", given)[-1]
    printable = "".join(char if char.isprintable() else "_" for char in as_text(last))
    return printable.strip(". ")[-MAX_NAME_CHARS:] or "audio"
