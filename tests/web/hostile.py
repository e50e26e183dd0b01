"""Recordings whose names, texts, tags and metadata try to become a part of the page."""

from producer.result import Segment
from tests.stage.shown_farm import said, transcript, write_tone

BATCH = '<img src=x onerror="alert(1)">'
SCRIPT = "<script>alert('text')</script>"
QUOTES = "\"'><b onmouseover=alert(1)>"
# Turns the direction, hides, colours a terminal, ends a header, ends a line.
CONTROLS = "a\u202egpj.exe\u2066\x1b[31m\r\nSet-Cookie: x=1\u2028b\0"
NAMES = (
    f"{SCRIPT}.wav",
    f"{QUOTES}.wav",
    f"{CONTROLS}.wav",
    "javascript:alert(1)",
    "{{ 7 * 1093 }}{% raw %}.wav",
    "../../../../etc/passwd",
    "&lt;i&gt;&amp;#x3c;.wav",
    "日本語 \u0627\u0644\u0639 \u200f.wav",
)


def hostile(root):
    """Return (name, path, answer) of recordings that are all text to us."""
    made = []
    for number, name in enumerate(NAMES):
        path = write_tone(root / "odd" / f"{number}.wav", 2)
        text = f" {SCRIPT} {QUOTES} {CONTROLS} {{{{ 6 * 1093 }}}} needle{number}"
        segments = [*said(["A plain beginning."]), _segment(text)]
        answer = transcript(
            segments,
            duration_s=9.0,
            language=QUOTES,
            flags=["likely_silence", SCRIPT],
            metadata={QUOTES: SCRIPT, "list": [SCRIPT, {"a": QUOTES}]},
            audio={"tags": {"title": SCRIPT, QUOTES: CONTROLS}},
        )
        made.append((name, path, answer))
    return made


def _segment(text):
    first, *_ = said(["x"], start=4)
    return Segment(
        **{**first.model_dump(), "id": 1, "text": text, "words": None, "flags": [QUOTES]}
    )
