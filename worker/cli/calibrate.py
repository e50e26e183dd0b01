"""`scribefarm-worker calibrate`: what was measured of this machine for a model, and what follows.

MLX is imported by the command, so that `--help` does without it.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from producer import log
from producer.console import SettingsFile
from producer.settings import Settings, load_settings

if TYPE_CHECKING:
    from worker.engine.memory_plan import MemoryPlan
    from worker.engine.times import Times

app = typer.Typer()


@app.command()
def calibrate(
    *,
    model: Annotated[
        str | None, typer.Option(help="Packaged name, folder or hub id; else the settings'.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure, whatever is kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Show what this machine takes for a model's work, and the slots that a worker chooses by it.

    Measured if it was not before, for ten seconds or so, and kept for each model: workers read it
    when they start. Measure while nothing else runs; needs no server.

    Exit codes: 0 shown, 1 the model is broken or has nothing to measure, 2 wrong usage or settings.

    Examples:
      scribefarm-worker calibrate
      scribefarm-worker calibrate --model openai/whisper-small --again
    """
    sections: dict[str, Any] = {"model": {"name": model}} if model is not None else {}
    effective = load_settings(settings, **sections)
    log.configure(effective.log.model_copy(update={"level": "warning"}))
    plan, times = _planned(effective, again=again)
    if as_json:
        typer.echo(json.dumps(_described(plan, times), indent=2))
    else:
        _print(effective.model.name, plan, times)
        if advice := plan.advice_on_reading(effective.audio.processes):
            Console().print(f"Reading is too slow: {advice}.", soft_wrap=True)
    if times is None:
        raise typer.Exit(1)


def _planned(settings: Settings, *, again: bool) -> tuple["MemoryPlan", "Times | None"]:
    from worker.models.load import open_family, planned  # noqa: PLC0415 - see the module's docstring

    return planned(open_family(settings), settings, "again" if again else "missing")


def _described(plan: "MemoryPlan", times: "Times | None") -> dict[str, Any]:
    """Return what was chosen and measured, as JSON types."""
    chosen = {name: getattr(plan, name) for name in ("slots", "batch_size", "steps_ahead", "rows")}
    return {"chosen": chosen, "measured": None if times is None else asdict(times)}


def _print(model: str, plan: "MemoryPlan", times: "Times | None") -> None:
    console = Console()
    console.print(f"{model}: {plan.slots} slots, {plan.batch_size} encoded together,")
    console.print(f"{plan.steps_ahead} steps ahead; {plan}", soft_wrap=True)
    if times is None:
        console.print("This family brings nothing to measure.")
        return
    table = Table("together", "encoded in", "a window", box=None, pad_edge=False)
    for size, seconds in times.encode_s:
        table.add_row(str(size), _ms(seconds), _ms(seconds / size))
    console.print(table)
    if times.step_s:
        console.print(_steps_table(plan, times))
    console.print(plan.why, soft_wrap=True)


def _steps_table(plan: "MemoryPlan", times: "Times") -> Table:
    """Return a row for each number of slots that could be chosen."""
    table = Table("slots", "a step", "of it host", "a window in all", "", box=None, pad_edge=False)
    for slots in times.slot_sizes():
        batch = min(plan.batch_size, times.most_together(slots))
        table.add_row(
            str(slots),
            _ms(times.step_of(slots)),
            _ms(times.host_of(slots)),
            _ms(times.window_s(slots, batch)),
            "chosen" if slots == plan.slots else "",
        )
    return table


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"
