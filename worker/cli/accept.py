"""`scribefarm-worker accept`: prove on this machine what could not be proved elsewhere, in one file.

MLX is imported by what the command starts, so that `--help` does without it.
"""

import platform
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from producer import log
from producer.console import SettingsFile, note
from producer.errors import InvalidOptions
from producer.settings import Settings, load_settings
from worker.cli import acceptance
from worker.cli.acceptance import Bench, Row
from worker.cli.doctor import examine
from worker.cli.finding import Finding, Run, decoding, run_command
from worker.cli.mac_doctor import MacFacts, mac_facts

app = typer.Typer()

STEP_TIMEOUT_S = 1800.0
DTYPES = ("float32", "float16")
# Of the recording that is read from a share: longer than a system reads ahead.
SHARE_S = 3600


@app.command()
def accept(
    *,
    output: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path(
        "scribefarm-accept.md"
    ),
    model: Annotated[
        str | None, typer.Option(help="Packaged name, folder or hub id; else the settings'.")
    ] = None,
    slots: Annotated[str, typer.Option(help="Slots to measure.")] = "4,8,16,32",
    seconds: Annotated[float, typer.Option(min=0, help="To measure each for.")] = 20.0,
    share: Annotated[
        Path | None,
        typer.Option(help="Mount point to UNMOUNT in the middle of a recording; else left out."),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Prove this machine: doctor, speed by slots, batches, launchd's network, share, sleep, panics.

    Meant for a Mac, where nothing of this was run yet: about twenty minutes. It writes one Markdown
    file with what is expected beside what was found, to paste into an issue. Start it with sudo if
    the worker is a daemon, so that launchd can be asked.

    Exit codes: 0 as expected, 1 something needs a look, 2 wrong usage or settings.

    Examples:
      scribefarm-worker accept
      sudo scribefarm-worker accept --settings ~/.scribefarm/settings.toml --share /Volumes/archive
    """
    named: dict[str, Any] = {} if model is None else {"model": {"name": model}}
    effective = load_settings(settings, **named)
    log.configure(effective.log.model_copy(update={"level": "error"}))
    run = partial(run_command, timeout_s=STEP_TIMEOUT_S)
    facts = _facts(run)
    rows = []
    numbers, name = _slots(slots), effective.model.name
    beams = effective.options.beam_size or 1
    expected = _expected(name, numbers, beams, run)
    measured = Bench(name, numbers, seconds, settings, expected, decoding(effective))
    for row in prove(effective, measured, share, run):
        note(f"{row.verdict:11} {row.check}: {row.found}")
        rows.append(row)
    output.write_text(acceptance.markdown(facts, rows), encoding="utf-8")
    note(f"written: {output}")
    if any(row.verdict == "look" for row in rows):
        raise typer.Exit(1)


def prove(settings: Settings, bench: Bench, share: Path | None, run: Run) -> Iterator[Row]:
    """Go through all steps, the quick ones first."""
    findings: list[Finding] = []
    for finding in examine(settings):
        findings.append(finding)
        yield from acceptance.doctor_rows([finding])
    yield acceptance.server_row(settings, findings, sys.platform)
    yield from acceptance.bench_rows(bench, run)
    yield from acceptance.rows_alone_rows(bench, DTYPES, run)
    yield acceptance.share_row(share, _read_from_share, run, sys.platform)
    yield from acceptance.night_rows(run, sys.platform)


def _slots(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InvalidOptions("--slots", "must be numbers like 4,8,16,32", text)
    return tuple(int(part) for part in parts)


def _expected(model: str, slots: tuple[int, ...], beams: int, run: Run) -> dict[int, float]:
    """Return the computed speeds of this Mac by slots; none for other machines and models."""
    if sys.platform != "darwin":
        return {}
    from worker.cli import expected_speed  # noqa: PLC0415 - imports MLX

    facts = mac_facts(run)
    chip = expected_speed.chip_of(facts.chip, facts.gpu_cores)
    dims = next(
        (dims for name, dims in expected_speed.MODELS.items() if model.endswith(name)), None
    )
    if chip is None or dims is None:
        return {}
    return {number: expected_speed.times_real_time(chip, dims, number, beams) for number in slots}


def _read_from_share(share: Path) -> Iterator[object]:
    """Write an hour of noise to a share, and read it as a worker does, block by block."""
    from worker.audio.recording import open_recording  # noqa: PLC0415 - imports the decoders
    from worker.cli.measure import write_noise  # noqa: PLC0415 - imports MLX

    path = share / "scribefarm-accept.wav"
    write_noise(path, SHARE_S)
    yield from open_recording(str(path), max_seconds=2.0 * SHARE_S)


def _facts(run: Run) -> dict[str, str]:
    """Return what this machine is; names of hosts stay out."""
    from worker.cli.machine import versions  # noqa: PLC0415 - imports MLX

    facts = {"system": f"{platform.system()} {platform.release()} {platform.machine()}"}
    if sys.platform == "darwin":
        mac: MacFacts = mac_facts(run)
        facts["mac"] = (
            f"{mac.chip}, {mac.gpu_cores} GPU cores, {mac.memory_bytes / (1 << 30):.0f} GB"
        )
        facts["macos"] = mac.macos
    return facts | versions()
