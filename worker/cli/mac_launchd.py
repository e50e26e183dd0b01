"""Ask launchd, not the terminal, what a worker may reach on a Mac.

macOS exempts programs in a terminal, or over SSH, from Local Network Privacy, and gives them the
terminal's own rights to folders: they prove nothing for a worker under launchd. So a job of one run
is started in the domain in which the worker runs, with its Python and as its user. It prints its
findings into a file (`worker.cli.launchd_probe`).
"""

import json
import os
import plistlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from producer.settings import Settings
from worker.cli.finding import Finding, Run

LABEL = "org.scribefarm.worker"
LAUNCHCTL = "/bin/launchctl"
ANSWER_S = 40.0
POLL_S = 0.5
_OUTSIDE = (
    "Headless, mount it with autofs or NFS outside /Volumes: a mount of the Finder is gone after a "
    "restart, and with it the folder."
)


@dataclass(frozen=True)
class Domain:
    """Where launchd runs the worker: `system` or `gui/UID`, and as whom in the system's domain."""

    name: str
    user: str = ""


def examine_launchd(
    settings: Settings, run: Run, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Finding]:
    """Look at the mounts of `audio.roots`; then let launchd try server and roots."""
    mounts = _mounts(run)
    for root in settings.audio.roots:
        yield _mount(root, mounts)
    yield from _from_launchd(settings, run, sleep)


def worker_domain(run: Run, uid: int) -> Domain | None:
    """Return where the worker is installed; None if launchd knows none."""
    for name in ("system", f"gui/{uid}"):
        ran = run([LAUNCHCTL, "print", f"{name}/{LABEL}"])
        if ran.code == 0:
            user = re.search(r"username = (\S+)", ran.output)
            return Domain(name, user[1] if user and name == "system" else "")
    return None


def _from_launchd(
    settings: Settings, run: Run, sleep: Callable[[float], None]
) -> Iterator[Finding]:
    domain = worker_domain(run, _console_uid())
    if domain is None:
        advice = "A terminal's answers do not hold for launchd. Install the worker: deploy/install."
        yield Finding("launchd", "slow", f"knows no {LABEL}", advice)
        return
    if domain.name == "system" and not _is_root():
        advice = "A terminal's answers do not hold for launchd. Run doctor with sudo."
        yield Finding("launchd", "slow", f"{LABEL} is a daemon; only root may ask there", advice)
        return
    if domain.name != "system":
        advice = (
            "An agent ends with the login, and macOS 15 keeps it from the local network: install "
            "the daemon (deploy/install)."
        )
        yield Finding("launchd", "slow", f"{LABEL} is an agent in {domain.name}", advice)
    else:
        yield Finding("launchd", "ok", f"{LABEL} is a daemon of {domain.user or 'root'}")
    yield from probe(settings, run, domain, sleep)


def probe(
    settings: Settings, run: Run, domain: Domain, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Finding]:
    """Start the one-shot job, and yield what it found there."""
    label = f"org.scribefarm.doctor.{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="scribefarm-doctor-") as folder:
        # The job's user must reach the file; the settings, with a password, are the owner's alone.
        Path(folder).chmod(0o755)
        answer, plist = Path(folder, "answer.json"), Path(folder, "job.plist")
        answer.touch()
        answer.chmod(0o666)
        plist.touch(mode=0o600)
        plist.write_bytes(plistlib.dumps(_job(label, settings, domain, answer)))
        ran = run([LAUNCHCTL, "bootstrap", domain.name, str(plist)])
        if ran.code != 0:
            advice = "Ask it yourself: the same command says more."
            found = f"bootstrap of a test job ended with {ran.code}: {ran.last_line}"
            yield Finding("from launchd", "broken", found, advice)
            return
        try:
            yield from _answer(answer, sleep)
        finally:
            run([LAUNCHCTL, "bootout", f"{domain.name}/{label}"])


def _job(label: str, settings: Settings, domain: Domain, answer: Path) -> dict[str, object]:
    job: dict[str, object] = {
        "Label": label,
        "ProgramArguments": [sys.executable, "-m", "worker.cli.launchd_probe"],
        "EnvironmentVariables": settings.to_environment(),
        "WorkingDirectory": "/",
        "StandardOutPath": str(answer),
        "RunAtLoad": True,
    }
    return job | ({"UserName": domain.user} if domain.user else {})


def _answer(path: Path, sleep: Callable[[float], None]) -> Iterator[Finding]:
    """Wait for the job's findings; it prints them all at once, with a line's end."""
    waited_s = 0.0
    while waited_s < ANSWER_S:
        text = path.read_text(encoding="utf-8")
        if text.endswith("\n"):
            for found in json.loads(text):
                yield Finding(**found)
            return
        sleep(POLL_S)
        waited_s += POLL_S
    advice = "A share that hangs, or a Python that launchd cannot start: see Console.app."
    yield Finding("from launchd", "broken", f"no answer within {ANSWER_S:.0f} s", advice)


def _mounts(run: Run) -> dict[str, str]:
    """Return the kind of each mounted file system by its folder."""
    lines = run(["/sbin/mount"]).output.splitlines()
    found = (re.match(r".* on (/.*) \((\w+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _mount(root: Path, mounts: dict[str, str]) -> Finding:
    """Say on what a root lies; the root itself is not touched, since a dead share would hang."""
    check = f"root {root}"
    above = [folder for folder in mounts if root.is_relative_to(folder)]
    folder = max(above, key=len, default="/")
    kind = mounts.get(folder, "unknown")
    found = f"{kind} mounted at {folder}"
    if root.is_relative_to("/Volumes"):
        if len(Path(folder).parts) <= 2:  # noqa: PLR2004 - "/" and "Volumes": nothing in it
            return Finding(check, "broken", f"nothing is mounted there: {found}", _OUTSIDE)
        return Finding(check, "slow", found, _OUTSIDE)
    return Finding(check, "ok", found)


def _is_root() -> bool:
    return os.geteuid() == 0


def _console_uid() -> int:
    """Return whose agents are meant: under sudo those of the user who typed it."""
    return int(os.environ.get("SUDO_UID") or os.getuid())
