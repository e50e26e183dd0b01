"""What a person looks for, in the words of SQLite's full-text search, and what was found, in pieces."""

import re

from producer.unspaced import UNSPACED

_MAX_QUERY_CHARS = 300
# Stands between the characters of scripts without spaces, so that each is found as a word.
_BREAK = "\u200b"
_UNSPACED = re.compile(f"([{UNSPACED}])")
# Around what was found in a snippet, of characters that no text of ours has.
MARKS = ("\ufdd0", "\ufdd1")
_NO_MARKS = dict.fromkeys(map(ord, MARKS), "\ufffd")
_MARKED = re.compile(f"{MARKS[0]}(.*?){MARKS[1]}", re.DOTALL)
_WORDS = re.compile(r'"([^"]*)"?|(\S+)')


def full_text_query(query: str) -> str:
    """Return a query for all words and quoted phrases, the last word perhaps unfinished.

    Nothing in it has a meaning of its own; "" looks for nothing.
    """
    terms, is_open = [], False
    for phrase, word in _WORDS.findall(query[:_MAX_QUERY_CHARS]):
        given = searchable(phrase or word)
        if any(char.isalnum() for char in given):
            terms.append('"' + given.replace('"', " ") + '"')
            is_open = bool(word)
    if is_open and not query.endswith(" "):
        terms[-1] += "*"
    return " ".join(terms)


def searchable(text: str) -> str:
    """Return a text as it is indexed; its letters stay as they are."""
    return _UNSPACED.sub(rf"{_BREAK}\1{_BREAK}", text.translate(_NO_MARKS))


def pieces(snippet: str) -> list[tuple[str, bool]]:
    """Return a snippet's text in pieces, each with whether it is what was looked for."""
    found, end = [], 0
    text = snippet.replace(_BREAK, "")
    for match in _MARKED.finditer(text):
        found += [(text[end : match.start()], False), (match[1], True)]
        end = match.end()
    found.append((text[end:], False))
    return [(piece, is_match) for piece, is_match in found if piece]
