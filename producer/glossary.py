"""Glossary files: tables of what the model writes and what is right, as CSV or TOML."""

import csv
import io
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from producer.errors import (
    InvalidOptions,
    UnsupportedFormat,
)
from producer.job import Options, invalid_options
from producer.reading_errors import reading_errors
from producer.replacements import Pairs

# Many times what a job can carry.
_MAX_BYTES = 1 << 20
_NUM_COLUMNS = 2


def read_glossary(path: Path) -> Pairs:
    """Return the replacements that a glossary holds, for `Options.replacements`.

    CSV has two columns, wrong and right; a first line `wrong,right` is a header. TOML has lines
    `"wrong" = "right"`, in a table `[replacements]` or without one.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        UnsupportedFormat: it is neither CSV nor TOML.
        InvalidOptions: a line is wrong, or there are too many; it names the file, and the line.
    """
    reader = {".csv": _read_csv, ".toml": _read_toml}.get(path.suffix.lower())
    if reader is None:
        raise UnsupportedFormat("glossary", "must end in .csv or .toml", path.name)
    pairs = reader(path, _text_of(path))
    try:
        return Options.model_validate({"replacements": pairs}).replacements
    except ValidationError as error:
        wrong = invalid_options("glossary", error)
        raise InvalidOptions(str(path), wrong.constraint, wrong.value) from error


def _text_of(path: Path) -> str:
    with reading_errors("glossary", path), path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise InvalidOptions(str(path), f"must be at most {_MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidOptions(f"{path}:{line}", "must be UTF-8 text") from error


def _read_csv(path: Path, text: str) -> list[tuple[str, str]]:
    pairs = []
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            if not row:
                continue
            if len(row) != _NUM_COLUMNS:
                where = f"{path}:{rows.line_num}"
                raise InvalidOptions(where, "must have two columns: wrong,right", len(row))
            pairs.append((row[0], row[1]))
    except csv.Error as error:
        raise InvalidOptions(f"{path}:{rows.line_num}", f"must be CSV: {error}") from error
    is_header = bool(pairs) and [cell.strip().lower() for cell in pairs[0]] == ["wrong", "right"]
    return pairs[is_header:]


def _read_toml(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidOptions(str(path), f"must be TOML: {error}") from error
    table = document.get("replacements", document)
    if not isinstance(table, dict):
        # A phrase "replacements" may be wrong itself.
        table = document
    for wrong, right in table.items():
        if not isinstance(right, str):
            raise InvalidOptions(f"{path}: {wrong}", "must be text in quotation marks")
    return list(table.items())
