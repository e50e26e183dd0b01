"""Makes the package's page on an index: README's links lead somewhere there, and URLs are true.

Only who releases knows where the repository is: `PACKAGE_REPOSITORY_URL` says so, and the workflow
`release.yml` sets it. A build without it names no URL, and relative links become plain text.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "PACKAGE_REPOSITORY_URL"
# A link in Markdown whose target is neither an address nor a heading of the same page.
_RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+://|#)([^)]+)\)")


class Metadata(MetadataHookInterface):
    """Fills in what pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set readme and URLs."""
        url = os.environ.get(VARIABLE, "").rstrip("/")
        at = f"{url}/blob/v{metadata['version']}" if url else ""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, at)}
        if url:
            metadata["urls"] = {
                "Repository": url,
                "Documentation": f"{at}/README.md",
                "Changelog": f"{at}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }


def absolute(text: str, at: str) -> str:
    """Return Markdown whose relative links begin with an address, or are none if it is empty."""
    return _RELATIVE_LINK.sub(rf"[\1]({at}/\2)" if at else r"\1", text)
