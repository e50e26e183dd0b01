"""What the installer writes with the new environment's Python, and the question to the server.

Run by `deploy/install`:

    files.py settings FILE --address URL --model NAME    writes FILE.new; the password is on stdin
    files.py name FILE, files.py revision FILE            prints what FILE says of the model
    files.py server FILE                                  asks the server that FILE names
    files.py plist TEMPLATE --prefix ... > FILE           fills in a launchd file
"""

import argparse
import json
import os
import plistlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

DEFAULT_MODEL = "mlx-community/whisper-large-v3-turbo"


def write_settings(path: Path, address: str, model: str, password: str) -> None:
    """Write PATH.new, readable by its owner only: PATH with another address or model.

    Lines that say something else stay as they are. An empty address or model changes nothing,
    but for a first file, which gets the default model.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not path.exists():
        model = model or DEFAULT_MODEL
    wanted = {("redis", "url"): with_password(address, password), ("model", "name"): model}
    if model and model != model_of(text, "name"):
        # It is a commit of the other model.
        text = without(text, "model", "revision")
    for (section, key), value in wanted.items():
        if value:
            text = with_value(text, section, key, value)
    try:
        read = tomllib.loads(text)
        is_set = all(not value or read[part][key] == value for (part, key), value in wanted.items())
    except (ValueError, KeyError, TypeError):
        is_set = False
    if not is_set:
        sys.exit(f"install: {path} has a form of its own: write redis.url and model.name by hand")
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_text(text, encoding="utf-8")


def model_of(text: str, key: str) -> str:
    """Return what [model] says of itself, or nothing."""
    try:
        return str(tomllib.loads(text).get("model", {}).get(key, ""))
    except (ValueError, AttributeError):
        return ""


def with_password(address: str, password: str) -> str:
    """Return the address with the password behind its user, as URLs write it."""
    if not password:
        return address
    scheme, _, rest = address.partition("://")
    user, _, server = rest.rpartition("@")
    return f"{scheme}://{user}:{quote(password, safe='')}@{server}"


def with_value(text: str, section: str, key: str, value: str) -> str:
    """Return the TOML text with a key of a section set: replaced, or added where it is missing."""
    # A JSON string is a TOML string, but for DEL, which no value here has.
    line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    lines = text.splitlines()
    header, place = find(lines, section, key)
    if place is not None:
        lines[place] = line
    elif header is not None:
        lines.insert(header + 1, line)
    else:
        lines += [*([""] if lines else []), f"[{section}]", line]
    return "\n".join(lines) + "\n"


def without(text: str, section: str, key: str) -> str:
    """Return the TOML text without a section's key."""
    lines = text.splitlines(keepends=True)
    _, place = find(lines, section, key)
    return "".join(lines[:place] + lines[place + 1 :]) if place is not None else text


def find(lines: list[str], section: str, key: str) -> tuple[int | None, int | None]:
    """Return the numbers of the lines with a section's header and with its key."""
    at, header, place = "", None, None
    for number, line in enumerate(lines):
        if found := re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?\s*", line):
            at = found[1].strip()
            header = number if at == section else header
        elif at == section and re.match(rf"\s*{key}\s*=", line):
            place = number
    return header, place


def filled_in(template: Path, values: dict[str, str]) -> bytes:
    """Return a launchd file whose @NAME@ are replaced, whatever characters the values have."""

    def fill(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: fill(value) for key, value in item.items()}
        if isinstance(item, list):
            return [fill(value) for value in item]
        if isinstance(item, str):
            # All at once: a value that looks like a name is not replaced again.
            return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], item)
        return item

    return plistlib.dumps(fill(plistlib.loads(template.read_bytes())))


def ask_server(path: Path) -> int:
    """Return 0 if the server of these settings lets us in, else the error's exit code."""
    # Half a second that the other commands do without.
    from producer.connection import connect  # noqa: PLC0415
    from producer.console import note, report  # noqa: PLC0415
    from producer.errors import ScribefarmError, advice_for  # noqa: PLC0415
    from producer.settings import load_settings  # noqa: PLC0415

    # launchd's worker has none of the caller's variables.
    for name in [name for name in os.environ if name.upper().startswith("SCRIBEFARM_")]:
        del os.environ[name]
    try:
        connect(load_settings(path)).close()
    except ScribefarmError as error:
        report(error)
        note(advice_for(error.code))
        return error.exit_code
    return 0


def main() -> None:
    """Do what the installer asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["settings", "name", "revision", "server", "plist"])
    parser.add_argument("path", type=Path)
    for name in ("address", "model", "prefix", "user", "home", "log"):
        parser.add_argument(f"--{name}", default="")
    asked = parser.parse_args()
    if asked.what == "settings":
        password = sys.stdin.readline().removesuffix("\n")
        write_settings(asked.path, asked.address, asked.model, password)
    elif asked.what in {"name", "revision"}:
        print(model_of(asked.path.read_text(encoding="utf-8"), asked.what))  # noqa: T201 - the answer
    elif asked.what == "server":
        sys.exit(ask_server(asked.path))
    else:
        values = {name.upper(): getattr(asked, name) for name in ("prefix", "user", "home", "log")}
        sys.stdout.buffer.write(filled_in(asked.path, values))


if __name__ == "__main__":
    main()
