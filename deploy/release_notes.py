"""Prints a version's entry of CHANGELOG.md: `python3 deploy/release_notes.py v1.2.3`.

Ends with 1 and a reason if the version is not the one in pyproject.toml, or has no entry with a date.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def entry(changelog: str, version: str) -> tuple[str, str]:
    """Return what follows the version in its heading, and the text below it.

    Raises:
        LookupError: there is no such entry, or it is empty.
    """
    found = re.search(
        rf"^## \[{re.escape(version)}\] - ([^\n]+)\n(.*?)(?=^## |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if found is None or not found[2].strip():
        raise LookupError(f"CHANGELOG.md: must have an entry: ## [{version}] - DATE")
    return found[1].strip(), found[2].strip() + "\n"


def main() -> None:
    """Print the entry of the tag on the command line."""
    tag = sys.argv[1]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    if tag != f"v{version}":
        sys.exit(f"the tag {tag} must be v{version}, the version in pyproject.toml")
    try:
        date, text = entry((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    except LookupError as error:
        sys.exit(str(error))
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        sys.exit(f"CHANGELOG.md: the entry of {version} must have its date (got {date})")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
