"""What is printed: nothing that a terminal would act on, and durations in one form."""

import json
import subprocess
import sys

import pytest

from producer.console import format_duration, one_line, visible
from producer.masking import mask_urls, server_of

HOSTILE = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202e gnp.\u2066 \u2028 \r\n \ufeff"


def test_controls_overrides_and_line_separators_become_visible():
    """No name can move the cursor, forge a line, or turn its own letters around."""
    shown = one_line(HOSTILE)
    assert shown.isprintable()
    assert shown == r"\x1b]0;title\x07 \x1b[2J \x9b31m \u202e gnp.\u2066 \u2028 \r\n \ufeff"
    assert one_line("a\tb") == r"a\tb"
    assert one_line("caf\udce9.wav") == r"caf\udce9.wav"


def test_names_of_people_stay_as_they_are():
    """Scripts, accents, special spaces, emoji of several characters, and text of right to left."""
    names = ["Żółć", "録音 1", "5.00\u202fPM", "👩\u200d🔬", "नमस्\u200cते", "שלום"]
    assert [one_line(name) for name in names] == names


def test_text_of_results_keeps_its_lines_and_tabs():
    """A transcript on a terminal is otherwise as harmless as a name."""
    assert visible("a\tb\n\x1b[2Jc\n") == "a\tb\n\\x1b[2Jc\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (725, "12 min 05 s"),
        (3599.6, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (3_600_000, "1000 h 00 min"),
        (float("inf"), "unknown"),
    ],
)
def test_a_duration_has_one_form_everywhere(seconds, shown):
    """Two units at most, and never 60 of one."""
    assert format_duration(seconds) == shown


def test_urls_in_messages_lose_their_secrets():
    """User, password and query; of a webhook the path too."""
    message = "post to https://me:pw@example.org:8443/a?token=x failed"
    assert mask_urls(message) == "post to https://***@example.org:8443/a?*** failed"
    assert server_of("https://me:pw@example.org:8443/T0/secret?a=b") == (
        "https://example.org:8443/***"
    )
    assert server_of("no url") == "***"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_log_line_has_neither_secrets_nor_controls(style):
    """Whoever logs what: names of files and errors of libraries come from outside."""
    program = (
        "import json, sys, structlog; from producer import log\n"
        "from producer.settings import LogSettings\n"
        f"log.configure(LogSettings(format={style!r}))\n"
        "structlog.get_logger().warning('event', text=json.loads(sys.argv[1]))\n"
    )
    text = json.dumps(HOSTILE + " redis://u:hush@farm/0")
    done = subprocess.run(
        [sys.executable, "-c", program, text], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "hush" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.removesuffix("\n").isprintable()
