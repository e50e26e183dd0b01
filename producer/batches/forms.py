"""The forms that a report can take, by name or by the name of the file that it becomes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from producer.batches.html import to_html
from producer.batches.markdown import MAX_ROWS, to_markdown
from producer.batches.plain import to_text
from producer.batches.report import Report
from producer.batches.tables import check_xlsx, to_csv, to_xlsx
from producer.errors import InvalidOptions
from producer.hints import hint


class _Form(NamedTuple):
    extensions: tuple[str, ...]
    render: Callable[[Report, int | None], str | bytes]


_DEFAULT = "markdown"
_FORMS = {
    "text": _Form((".txt",), to_text),
    _DEFAULT: _Form((".md", ".markdown"), to_markdown),
    "json": _Form((".json",), lambda report, _: report.model_dump_json(indent=2)),
    "html": _Form((".html", ".htm"), to_html),
    # Tables have all that the report lists.
    "csv": _Form((".csv",), lambda report, _: to_csv(report)),
    "xlsx": _Form((".xlsx",), lambda report, _: to_xlsx(report)),
}
FORMS = tuple(_FORMS)
_BINARY = "xlsx"


def form_of(given: str | None, output: Path | None) -> str:
    """Return the form of a report: the given one, else as the output is named, else Markdown.

    Raises:
        InvalidOptions: there is no such form, or it cannot be written there.
    """
    named = output.suffix.lower() if output else ""
    by_name = next((form for form in FORMS if named in _FORMS[form].extensions), _DEFAULT)
    form = by_name if given is None else given
    if form not in _FORMS:
        must = f"must be one of {', '.join(FORMS)}{hint(form, FORMS)}"
        raise InvalidOptions("--format", must, form)
    if form == _BINARY:
        if output is None:
            raise InvalidOptions("--format", "xlsx must be written to a file: -o FILE", form)
        check_xlsx()
    return form


def render(report: Report, form: str, *, full: bool) -> str | bytes:
    """Return the report in one of `FORMS`; unless it is `full`, long lists are cut."""
    return _FORMS[form].render(report, None if full else MAX_ROWS)
