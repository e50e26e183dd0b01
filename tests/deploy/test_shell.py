"""The installer's shell: parsed, linted, and in the grammar of macOS's bash 3.2."""

import re
import shutil
import subprocess

import pytest

from tests.stage.stand_in_mac import BASH, ROOT

SCRIPTS = [
    ROOT / "deploy" / "install",
    *sorted((ROOT / "deploy" / "installer").glob("*.sh")),
    *sorted((ROOT / "tests" / "deploy").glob("*.sh")),
]
# What bash 4 and 5 brought, and what 3.2 does wrong.
NEWER = {
    "an associative array": r"\b(?:declare|local|typeset) -\w*A",
    "a reference to a variable": r"\b(?:declare|local) -\w*n\b",
    "mapfile": r"\b(?:mapfile|readarray)\b",
    "upper or lower case": r"\$\{\w+(?:\[[^]]*\])?[\^,]",
    "a transformed variable": r"\$\{\w+@",
    "both streams to a file": r"&>>",
    "both streams into a pipe": r"\|&",
    "falling through a case": r";;?&",
    "a co-process": r"\bcoproc\b",
    "a test for a variable": r"-v \w+ \]",
    "waiting for any": r"\bwait -n\b",
    "time from printf": r"printf '?%\(",
    "reading with a fraction of a second": r"read .*-t 0?\.",
    "the last of an array": r"\[-1\]",
    "EPOCHSECONDS": r"\bEPOCH(?:SECONDS|REALTIME)\b",
    "a case inside $( ), which ends at its first bracket": r"\$\([^)\n]*\bcase\b",
    "an array, which is unset while it is empty": r"\$\{\w+\[@\]\}",
    "grep -q behind a pipe, which breaks it": r"\| *grep -q",
}  # fmt: skip
# GNU's, not macOS's.
NOT_ON_A_MAC = {
    "readlink -f": r"readlink -f",
    "sed -i without a suffix": r"sed -i ",
    "GNU date": r"date -d",
    "timeout": r"(?:^|[|;&] *)timeout ",
    "cp --": r"\b(?:cp|mv|rm|ln|mkdir) --\w",
}


def code_of(path):
    """Return the script without comments."""
    return re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_parses(path):
    """macOS's own bash does so in the workflow for Macs."""
    subprocess.run([BASH, "-n", path], check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_it_says_nothing_that_a_mac_does_not_understand(path):
    """bash 3.2 is of 2007."""
    code = code_of(path)
    found = [
        name for name, form in (NEWER | NOT_ON_A_MAC).items() if re.search(form, code, re.MULTILINE)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "declare -A table", "local -n name=$1", "mapfile -t lines", "echo ${name^^}",
        "run &>> log", "run |& grep x", "run;& ", "wait -n", "x=$(case a in a) echo 1;; esac)",
        'run "${items[@]}"', "run | grep -q x", 'readlink -f "$0"', "sed -i s/a/b/ file",
    ],
)  # fmt: skip
def test_the_rules_find_what_they_are_for(line):
    """A rule that never matches protects nobody."""
    assert any(re.search(form, line, re.MULTILINE) for form in (NEWER | NOT_ON_A_MAC).values())


def test_shellcheck_has_nothing_to_say():
    """All files together, since they read each other's variables."""
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: apt-get install shellcheck, brew install shellcheck")
    subprocess.run(["shellcheck", "-x", *SCRIPTS], cwd=ROOT, check=True)
