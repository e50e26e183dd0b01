"""`scribefarm-worker bench`: how fast this machine transcribes, and where the time goes.

MLX is imported by the command, so that `--help` does without it.
"""

import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from producer import log
from producer.console import SettingsFile, note
from producer.errors import InvalidOptions
from producer.job import Options
from producer.settings import Settings, load_settings
from worker.cli.finding import decoding
from worker.engine import messages

if TYPE_CHECKING:
    from worker.cli.measure import Measurement

app = typer.Typer()

# Seconds for which the clip is repeated without --audio.
DEFAULT_S = 20.0
AUTO = "auto"


@app.command()
def bench(
    *,
    model: Annotated[
        str | None, typer.Option(help="Packaged name, folder or hub id; else the settings'.")
    ] = None,
    slots: Annotated[
        str | None, typer.Option(help="Windows decoded together, or auto; else the settings'.")
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recording, submitted together with the others given; else a packaged clip.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Repeat the recordings for so long; else each once."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Measure how fast this machine transcribes, and where the time goes.

    Decodes with the beams of the settings (`options.beam_size`), without fallback; needs no server.
    Encoder batches are waited for one by one, which costs about a step's host work each.

    Exit codes: 0 measured, 1 a recording failed, 2 wrong usage or settings.

    Examples:
      scribefarm-worker bench
      scribefarm-worker bench --model openai/whisper-small --slots 16 --audio talk.mp3 --json
    """
    effective = _settings(settings, model, slots)
    log.configure(effective.log.model_copy(update={"level": "warning"}))
    options = effective.options.model_copy(update={"temperatures": (0.0,)})
    measured, workload = _measure(effective, options, audio or [], seconds)
    if as_json:
        typer.echo(json.dumps(describe(measured, workload), indent=2))
    elif measured.num_recordings:
        _print(measured, workload)
    for failure in measured.failures:
        note(f"failed: {failure}")
    if measured.failures:
        raise typer.Exit(1)


def describe(measured: "Measurement", workload: dict[str, Any]) -> dict[str, Any]:
    """Return figures with all that they depend on, as JSON types."""
    from worker.cli.machine import machine, versions  # noqa: PLC0415 - see the module's docstring

    return {
        "machine": machine() | {"blas": measured.blas},
        "versions": versions(),
        "workload": workload,
        "measured": measured.to_dict(),
    }


def _settings(file: Path | None, model: str | None, slots: str | None) -> Settings:
    sections: dict[str, dict[str, Any]] = {}
    if model is not None:
        sections["model"] = {"name": model}
    if slots is not None:
        sections["worker"] = {"slots": _num_slots(slots)}
    return load_settings(file, **sections)


def _num_slots(slots: str) -> int | str:
    if slots != AUTO and not slots.isdecimal():
        raise InvalidOptions("--slots", "must be a number or auto", slots)
    return AUTO if slots == AUTO else int(slots)


def _measure(
    settings: Settings, options: Options, audio: list[Path], seconds: float | None
) -> tuple["Measurement", dict[str, Any]]:
    """Load, run, and say what was run."""
    from worker.cli.measure import Workbench, clip, write_window  # noqa: PLC0415 - the same

    with ExitStack() as stack:
        sources, name = [path.absolute() for path in audio], "files"
        if not sources:
            found = clip()
            if found is None:
                absent = "the clip's package, useful-moonshine-onnx, is not installed"
                raise InvalidOptions("--audio", f"must name a recording: {absent}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sources, name = [folder / "clip.wav"], f"{found.name}, one full window"
            write_window(sources[0], found)
            seconds = DEFAULT_S if seconds is None else seconds
        bench = stack.enter_context(Workbench(settings))
        bar = stack.enter_context(Bar(seconds, len(sources)))
        measured = bench.run(sources, options, seconds=seconds, on_event=bar.take)
    described = {
        "audio": name,
        "num_files": len(sources),
        "num_recordings": measured.num_recordings,
        "seconds_asked": seconds,
        "temperatures": list(options.temperatures),
        "decoding": decoding(settings),
        "condition_on_previous_text": options.condition_on_previous_text,
    }
    return measured, described


class Bar:
    """A line on stderr that says how far it is; silent off a terminal."""

    def __init__(self, seconds: float | None, num_files: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._by_time = seconds is not None
        self._task = self._progress.add_task("measuring", total=seconds or num_files)
        self._num_done = 0
        self._audio_s = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._progress.stop()

    def take(self, event: messages.Event) -> None:
        """Move with each window, and with each recording's end."""
        if isinstance(event, messages.Done):
            self._audio_s += event.transcript.audio.duration_s
        self._num_done += isinstance(event, messages.Done | messages.Failed)
        elapsed = self._progress.tasks[0].elapsed or 0.0
        self._progress.update(
            self._task,
            completed=elapsed if self._by_time else self._num_done,
            description=f"{self._num_done} recordings, {self._audio_s:.0f} s of audio",
        )


def _print(measured: "Measurement", workload: dict[str, Any]) -> None:
    console = Console()
    facts = describe(measured, workload)
    for title in ("machine", "versions", "workload"):
        console.print(title, *(f"{name} {value};" for name, value in facts[title].items()))
    table = Table("measured", "", box=None, pad_edge=False)
    for name, value in _rows(measured):
        table.add_row(name, value)
    console.print(table)


def _rows(measured: "Measurement") -> Iterable[tuple[str, str]]:
    """Yield the lines of the table."""
    wall_s, model = measured.wall_s, measured.model

    def share(seconds: float) -> str:
        return f"{seconds / wall_s:6.1%}"

    yield "model", f"{model.name}, {model.dtype}, loaded in {measured.load_s:.1f} s"
    yield "audio", f"{measured.audio_s:.1f} s in {measured.num_recordings} recordings"
    yield "time", f"{wall_s:.2f} s"
    yield "speed", f"{measured.audio_s_per_s:.2f} audio seconds per second"
    yield "windows", f"{measured.windows}, {measured.windows / wall_s:.2f} per second"
    yield "tokens", f"{measured.tokens}, {measured.tokens / wall_s:.1f} per second"
    occupancy = measured.rows_per_step / measured.slots
    windows = f"{measured.rows_per_step:.1f} of {measured.slots} windows a step ({occupancy:.0%})"
    yield "batch", f"{windows}, encoded by {measured.encode_batch}"
    yield "encoder", share(measured.encoder_s)
    yield "decoder", share(measured.decoder_s)
    yield "host", share(measured.host_s)
    yield "idle", share(measured.idle_s)
    mlx, resident = measured.peak_device_bytes / 1e6, measured.peak_resident_bytes / 1e6
    yield "memory", f"at most {mlx:.0f} MB of MLX, {resident:.0f} MB of the process"
