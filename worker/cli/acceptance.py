"""The steps of `scribefarm-worker accept`: what is expected of a Mac, beside what was found.

Each step asks other programs through one runner and yields rows; none of them raises. What has no
meaning on this machine is a row that says so.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from producer.errors import ScribefarmError
from producer.settings import Settings
from worker.cli.finding import Finding, Ran, Run

Verdict: TypeAlias = Literal["as expected", "look", "not shown"]

# Figures that are computed, without host time: so much of them is a good result.
GOOD_SHARE = 0.7
LOCAL = ("127.", "localhost", "[::1]", "unix:")
REPORTS = "/Library/Logs/DiagnosticReports"
ON_A_MAC = "only on a Mac"


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    check: str
    expected: str
    found: str
    verdict: Verdict


def doctor_rows(findings: Sequence[Finding]) -> Iterator[Row]:
    """Yield what doctor found; all of it should be ok."""
    for finding in findings:
        verdict: Verdict = "as expected" if finding.status == "ok" else "look"
        found = f"{finding.status}: {finding.found}"
        yield Row(f"doctor: {finding.check}", "ok", found, verdict)


@dataclass(frozen=True)
class Bench:
    """What is measured, in processes of their own.

    Attributes:
        model: As in `model.name`.
        slots: Numbers to measure.
        seconds: For which the clip is repeated.
        settings_file: Of the settings, which the processes read themselves.
        expected: Times real time by slots, where there is an expectation.
        way: How is decoded, in words.
    """

    model: str
    slots: tuple[int, ...]
    seconds: float
    settings_file: Path | None = None
    expected: Mapping[int, float] = field(default_factory=dict)
    way: str = "greedy"

    @property
    def file_option(self) -> list[str]:
        """The option that names the settings file, if there is one."""
        return ["--settings", str(self.settings_file)] if self.settings_file else []


def bench_rows(bench: Bench, run: Run) -> Iterator[Row]:
    """Measure the model with each number of slots."""
    program = [sys.executable, "-P", "-m", "worker.__main__", "bench", "--json"]
    for number in bench.slots:
        asked = ["--model", bench.model, "--slots", str(number), "--seconds", str(bench.seconds)]
        ran = run([*program, *asked, *bench.file_option])
        computed = bench.expected.get(number)
        check = f"bench, {number} slots, {bench.way}"
        wanted = f"{computed:.0f} times real time (computed)" if computed else "no figure"
        measured = _json_of(ran).get("measured")
        if not isinstance(measured, dict):
            yield Row(check, wanted, _failure(ran), "look")
            continue
        speed = measured["audio_s_per_s"]
        found = (
            f"{speed:.1f} times real time; encoder {_share(measured, 'encoder_s')}, decoder "
            f"{_share(measured, 'decoder_s')}, host {_share(measured, 'host_s')}; "
            f"{measured['peak_device_bytes'] / 1e9:.1f} GB"
        )
        is_good = computed is None or speed >= GOOD_SHARE * computed
        yield Row(check, wanted, found, "as expected" if is_good else "look")


def rows_alone_rows(bench: Bench, dtypes: Sequence[str], run: Run) -> Iterator[Row]:
    """Compare each recording's text alone and in a batch, in each dtype."""
    program = [sys.executable, "-P", "-m", "worker.cli.rows_alone"]
    for dtype in dtypes:
        check, wanted = f"alone as in a batch, {dtype}", "the same text"
        ran = run([*program, "--model", bench.model, "--dtype", dtype, *bench.file_option])
        said = _json_of(ran)
        if "skipped" in said:
            yield Row(check, wanted, said["skipped"], "not shown")
        elif not said or said["failures"]:
            found = said["failures"][0] if said else _failure(ran)
            yield Row(check, wanted, found, "look")
        else:
            count, different = said["num_recordings"], said["differences"]
            found = f"{count - len(different)} of {count} the same"
            first = f"; {different[0][0]!r} and alone {different[0][1]!r}" if different else ""
            yield Row(check, wanted, found + first, "look" if different else "as expected")


def server_row(settings: Settings, findings: Sequence[Finding], platform: str) -> Row:
    """Say whether launchd's job reached a server on another machine."""
    check, wanted = "Redis on another machine, from launchd", "answers"
    url = settings.redis.url.get_secret_value() if settings.redis.url else "unix:"
    address = url.partition("://")[2].rpartition("@")[2] if "://" in url else url
    if url.startswith("unix") or address.startswith(LOCAL):
        return Row(check, wanted, "the server is on this machine", "not shown")
    if platform != "darwin":
        return Row(check, wanted, ON_A_MAC, "not shown")
    for finding in findings:
        if finding.check == "server from launchd":
            verdict: Verdict = "as expected" if finding.status == "ok" else "look"
            return Row(check, wanted, finding.found, verdict)
    return Row(check, wanted, "launchd was not asked: see doctor's findings", "not shown")


def share_row(
    share: Path | None, prepare: Callable[[Path], Iterator[object]], run: Run, platform: str
) -> Row:
    """Unmount a share while a recording on it is being read.

    Args:
        share: Where it is mounted; None leaves it alone.
        prepare: Writes a recording there, and yields as it reads it.
        run: Runs the commands.
        platform: As `sys.platform`.
    """
    check, wanted = "a share unmounted while it is read", "source_unreachable, to be tried again"
    if share is None:
        return Row(check, wanted, "needs --share", "not shown")
    unmount = ["/usr/sbin/diskutil", "unmount", "force"] if platform == "darwin" else ["umount"]
    reading = prepare(share)
    try:
        next(reading)
    except (OSError, RuntimeError, StopIteration, ScribefarmError) as error:
        return Row(check, wanted, f"no recording could be written there: {error}", "not shown")
    ran = run([*unmount, str(share)])
    if ran.code != 0:
        return Row(check, wanted, f"was not unmounted: {ran.last_line}", "not shown")
    try:
        for _ in reading:
            pass
    except ScribefarmError as error:
        verdict: Verdict = "as expected" if error.code == "source_unreachable" else "look"
        return Row(check, wanted, f"{error.code}: {error}", verdict)
    return Row(check, wanted, "the recording was read to its end, from a cache", "look")


def night_rows(run: Run, platform: str, now: datetime | None = None) -> Iterator[Row]:
    """Look whether the Mac slept in the last 24 hours, or has a report of a panic.

    Args:
        run: Runs the commands.
        platform: As `sys.platform`.
        now: With a time zone; the clock's if not given.
    """
    sleeps, panics = ("sleep, last 24 h", "none while it worked"), ("panics", "none")
    if platform != "darwin":
        for check, wanted in (sleeps, panics):
            yield Row(check, wanted, ON_A_MAC, "not shown")
        return
    log = run(["/usr/bin/pmset", "-g", "log"])
    since = (now or datetime.now().astimezone()) - timedelta(hours=24)
    slept = [line for line in log.output.splitlines() if _is_sleep(line, since)]
    found = f"{len(slept)}; the last: {slept[-1]}" if slept else "none"
    yield Row(*sleeps, found, "look" if slept or log.code else "as expected")
    listed = run(["/bin/ls", REPORTS])
    names = [name for name in listed.output.split() if name.endswith(".panic")]
    found = ", ".join(names) or ("none" if listed.code == 0 else listed.last_line)
    yield Row(*panics, found, "look" if names or listed.code else "as expected")


def _is_sleep(line: str, since: datetime) -> bool:
    """Return whether a line of `pmset -g log` is a sleep of that time."""
    try:
        at = datetime.strptime(line[:25], "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return False
    return at >= since and line[25:].split()[:1] == ["Sleep"]


def markdown(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    """Return the report as an issue takes it."""
    lines = [
        "# scribefarm on this machine",
        "",
        "Made by `scribefarm-worker accept`. Expected speeds are computed from the chip, not measured.",
        "It may name folders and machines: look through it before you paste it.",
        "",
        *(f"- {name}: {_cell(str(value))}" for name, value in facts.items()),
        "",
        "| check | expected | found | |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.check, row.expected, row.found, row.verdict)
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Return text for a table's cell: one line, its bars and tags shown as they are."""
    return " ".join(text.replace("|", r"\|").replace("<", "&lt;").split())


def _json_of(ran: Ran) -> dict[str, Any]:
    """Return the JSON object in a program's output; warnings may surround it."""
    start, end = ran.output.find("{"), ran.output.rfind("}")
    try:
        found = json.loads(ran.output[start : end + 1]) if start >= 0 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failure(ran: Ran) -> str:
    return f"ended with {ran.code}: {ran.last_line}"


def _share(measured: dict[str, Any], name: str) -> str:
    return f"{measured[name] / max(1e-9, measured['wall_s']):.0%}"
