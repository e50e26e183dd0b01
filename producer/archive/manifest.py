"""Manifests: lists of recordings that say more than a path, as JSON Lines or CSV.

A JSON line is an object with `path` and, as wished, `id`, `name`, `language`, `prompt`, `model`,
`options` (fields of `producer.job.Options`), `audio` (of `AudioOptions`) and `metadata`. A CSV file
has a header with the same names; of the last three each field is a column, such as
`options.word_timestamps` and `metadata.speaker`.
`id` and `metadata` come back in the result. Relative paths count from the manifest's folder.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.archive.find import Found, Names, Problem, checked, readable
from producer.errors import (
    InvalidOptions,
    ScribefarmError,
    UnsupportedFormat,
)
from producer.job import AudioOptions, Job, Options, invalid_options
from producer.reading_errors import reading_errors
from producer.source import is_remote, name_of_address

# Deeper metadata could not be written as JSON everywhere.
_MAX_DEPTH = 100


class Row(BaseModel):
    """What a manifest may say about one recording."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(min_length=1, max_length=4096, description="File, or address.")
    id: str | int | None = Field(None, description="Yours; comes back as metadata.id.")
    name: str | None = Field(None, min_length=1, max_length=4096, description="Where results go.")
    language: str | None = None
    prompt: str | None = Field(None, description="Short for options.initial_prompt.")
    model: str | None = None
    options: dict[str, Any] = {}
    audio: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    def to_job_fields(self) -> dict[str, Any]:
        """Return what the row sets of a `Job`; what it leaves out keeps the submission's value.

        Raises:
            InvalidOptions: a field is misspelt or out of bounds.
        """
        options = dict(self.options)
        if self.language is not None:
            options["language"] = self.language
        if self.prompt is not None:
            options["initial_prompt"] = self.prompt
        metadata = dict(self.metadata) if self.id is None else {**self.metadata, "id": self.id}
        return {
            "options": _checked_fields("options", Options, options),
            "audio": _checked_fields("audio", AudioOptions, self.audio),
            "metadata": metadata,
            "model": self.model,
        }


def _checked_fields(context: str, model: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """Return given fields as the model reads them: checked here, the manifest's own line is named."""
    try:
        parsed = model.model_validate(given)
    except ValidationError as error:
        raise invalid_options(context, error) from error
    return {key: getattr(parsed, key) for key in given}


class _Line(NamedTuple):
    number: int
    fields: dict[str, Any] | ScribefarmError


def read_manifest(path: Path, names: Names) -> Iterator[Found]:
    """Yield a manifest's recordings; a line that is wrong is a `Problem` that names it.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the manifest cannot be read.
        UnsupportedFormat: it is neither JSON Lines (.jsonl, .ndjson) nor CSV (.csv), or has no header.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UnsupportedFormat("manifest", "must end in .jsonl, .ndjson or .csv", path.name)
    try:
        with reading_errors("manifest", path):
            for line in reader(path):
                yield _found(path, line, names)
    except csv.Error as error:
        raise UnsupportedFormat("manifest", f"must have a header: {error}", path) from error


def _found(manifest: Path, line: _Line, names: Names) -> Found:
    where = f"{readable(str(manifest))}:{line.number}"
    try:
        row = _checked_row(line)
        fields = row.to_job_fields()
        # All that a job checks is checked here as well, where the line is known.
        job = Job(source=row.path, **fields)
        if is_remote(row.path):
            return names.claim_address(row.path, row.name or name_of_address(row.path), fields)
        path = (manifest.parent / job.path).absolute()
    except ValidationError as error:
        return Problem(where, invalid_options(where, error))
    except ScribefarmError as error:
        return Problem(where, _at(where, error))
    usable = checked(path)
    if isinstance(usable, Problem):
        return Problem(usable.path, _at(where, usable.error))
    return names.claim(usable, row.name or _name_of(usable, manifest), fields)


def _checked_row(line: _Line) -> Row:
    """Return a line as a row.

    Raises:
        InvalidOptions: it is none, too deep, or not text.
        ValidationError: a field is misspelt or out of bounds.
    """
    if isinstance(line.fields, ScribefarmError):
        raise line.fields
    if _is_deeper(line.fields, _MAX_DEPTH):
        raise InvalidOptions("manifest", f"must be nested at most {_MAX_DEPTH} deep")
    try:
        json.dumps(line.fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = readable(error.object[error.start : error.end])
        raise InvalidOptions("manifest", "must be valid UTF-8 text", found) from error
    return Row.model_validate(line.fields)


def _at(where: str, error: ScribefarmError) -> ScribefarmError:
    """Return an error that names the manifest and the line."""
    general = error.context in {"manifest", "submit"}
    context = where if general else f"{where}: {error.context}"
    return type(error)(context, error.constraint, error.value)


def _is_deeper(value: object, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return limit == 0 or any(_is_deeper(item, limit - 1) for item in inner)


def _name_of(path: Path, manifest: Path) -> str:
    above = manifest.parent.absolute()
    return readable(str(path.relative_to(above if path.is_relative_to(above) else "/")))


def _open(path: Path) -> TextIO:
    """Open a manifest; bytes that are not UTF-8 become surrogates, which `_checked_row` refuses.

    Spreadsheets put a byte order mark in front, which is no part of the text.
    """
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _json_lines(path: Path) -> Iterator[_Line]:
    with _open(path) as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                fields = json.loads(text)
            except ValueError as error:
                yield _Line(number, InvalidOptions("manifest", f"must be a JSON object: {error}"))
                continue
            except RecursionError:
                limit = f"must be nested at most {_MAX_DEPTH} deep"
                yield _Line(number, InvalidOptions("manifest", limit))
                continue
            if isinstance(fields, dict):
                yield _Line(number, fields)
            else:
                found = type(fields).__name__
                yield _Line(number, InvalidOptions("manifest", "must be a JSON object", found))


def _csv_rows(path: Path) -> Iterator[_Line]:
    with _open(path) as lines:
        reader = csv.reader(lines)
        header = next(reader, [])
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _Line(reader.line_num, InvalidOptions("manifest", f"must be CSV: {error}"))
                continue
            if len(cells) > len(header):
                limit = f"has more columns than the header's {len(header)}"
                yield _Line(reader.line_num, InvalidOptions("manifest", limit, len(cells)))
            elif cells:
                yield _Line(reader.line_num, _nested(dict(zip(header, cells, strict=False))))


def _nested(cells: dict[str, str]) -> dict[str, Any]:
    """Gather columns such as `options.x`; empty cells say nothing."""
    fields: dict[str, Any] = {}
    for column, cell in cells.items():
        if not cell:
            continue
        group, dot, key = column.partition(".")
        if dot and group in {"options", "audio", "metadata"}:
            fields.setdefault(group, {})[key] = _cell_value(cell)
        else:
            fields[column] = cell
    return fields


def _cell_value(cell: str) -> Any:
    """Read lists such as [0.0, 0.2]; text, numbers and true or false are read by the options."""
    if not cell.startswith("["):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


_READERS: dict[str, Callable[[Path], Iterator[_Line]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv_rows,
}
