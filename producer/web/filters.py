"""Which files of a batch a page lists."""

from typing import Any, NamedTuple


class Filter(NamedTuple):
    """Which files of a batch are wanted; "" is any."""

    state: str = ""
    code: str = ""
    flag: str = ""
    folder: str = ""
    name: str = ""


def condition_of(batch_id: int, wanted: Filter) -> tuple[str, list[Any]]:
    """Return a filter as SQL with places for values, and the values."""
    parts: list[str] = ["batch_id = ?"]
    values: list[Any] = [batch_id]
    if wanted.state:
        parts.append("state = ?")
        values.append(wanted.state)
    if wanted.code:
        parts.append("code = ?")
        values.append(wanted.code)
    if wanted.flag == "any":
        parts.append("(num_flagged > 0 OR flags != '')")
    elif wanted.flag:
        parts.append("instr(flags, ?)")
        values.append(f",{wanted.flag},")
    if wanted.folder:
        parts.append("(folder = ? OR folder LIKE ? ESCAPE '\\')")
        values += [wanted.folder, f"{_escaped(wanted.folder)}/%"]
    if wanted.name:
        parts.append("name LIKE ? ESCAPE '\\'")
        values.append(f"%{_escaped(wanted.name)}%")
    return " AND ".join(parts), values


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
