"""Text of strangers as part of a document: names, messages and transcripts are never markup."""

import html
import re

from producer.console import one_line

# What begins Markdown anywhere in a line, GitHub's kind included: code, emphasis, links and images,
# strikethrough, formulas, mentions. Within a word an underscore is only itself.
_MARKDOWN = re.compile(r"[\\`*\[\]!~$@#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# A bare address becomes a link.
_ADDRESS = re.compile(r"(?i)(:(?=//)|\.(?<=www\.))")

# What XML 1.0 or HTML does not allow even as a reference: controls, surrogates, noncharacters.
_NO_CHARACTER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)

# What a spreadsheet may take for the beginning of a formula, full-width forms included; and our
# own mark, so that a reader who takes one apostrophe off has the text again.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")


def markdown_text(text: str) -> str:
    """Return text so that nothing in it is markup, in a line or in a cell of a table.

    It must not stand at the beginning of a line, where a dash or a number would begin a list.
    """
    plain = one_line(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;")
    escaped = _ADDRESS.sub(r"\\\1", _MARKDOWN.sub(r"\\\g<0>", plain))
    # Tables are split at bars before backslashes are looked at.
    return escaped.replace("|", "&#124;")


def markup_text(text: str) -> str:
    """Return text as content or quoted attribute of HTML and XML.

    White space becomes single spaces; what no document may hold becomes U+FFFD.
    """
    return html.escape(_NO_CHARACTER.sub("\ufffd", " ".join(text.split())))


def spreadsheet_text(text: str) -> str:
    """Return text that no spreadsheet computes: an apostrophe is put before what looks like it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
