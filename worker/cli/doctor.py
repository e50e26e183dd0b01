"""`scribefarm-worker doctor`: whether this machine can work, how fast, and what to do if not.

MLX is imported by the command, so that `--help` does without it.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from producer import embedded, log
from producer.connection import connect, server_errors
from producer.console import SettingsFile
from producer.errors import InvalidSettings, ScribefarmError, advice_for
from producer.installation import install_command
from producer.settings import Settings, load_settings
from worker.cli.finding import Finding, decoding, run_command
from worker.cli.mac_doctor import NO_GPU, examine_mac

if TYPE_CHECKING:
    from worker.cli.measure import Workbench

app = typer.Typer()

# The slowest BLAS worth keeping: the reference one gives 2 GFLOP/s, OpenBLAS tens on each core.
SLOW_GFLOPS = 10.0
# A worker slower than this falls behind a recorder.
SLOW_REAL_TIME_FACTOR = 1.0
# What recordings come in, beside what libsndfile reads.
DECODERS = ("mp3", "aac", "opus", "vorbis", "flac", "alac", "wmav2", "amrnb", "pcm_mulaw")
# In the clip that the self-test hears: "Ever tried, ever failed."
CLIP_WORD = "fail"
SELF_TEST_S = 30.0

_COLOURS = {"ok": "green", "slow": "yellow", "broken": "red"}


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Check this machine: device, memory, BLAS, model, server, decoders; transcribe one window.

    Starts nothing and takes no job.

    Exit codes: 0 it can work, 1 something is broken, 2 wrong settings.
    """
    effective = load_settings(settings)
    log.configure(effective.log.model_copy(update={"level": "error"}))
    findings = list(examine(effective))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.status == "broken" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Run all checks, the quick ones first; none of them raises."""
    yield _server(settings)
    yield _decoders()
    device = _device()
    yield device
    if device.status != "broken":
        yield _blas(settings)
        yield from _model(settings)
    if sys.platform == "darwin":
        yield from examine_mac(settings, run_command)


def _server(settings: Settings) -> Finding:
    """Ask the server that the settings name; an embedded one is looked for, not started."""
    try:
        if settings.redis.url is None:
            status = embedded.status(settings)
            if not status.running:
                program = embedded.server_program(status.data_dir)
                found = f"embedded, started when needed: {program}"
                return Finding("server", "ok", found, "For several machines set redis.url.")
        connection = connect(settings)
        with connection, server_errors(connection):
            facts = connection.info()
    except ScribefarmError as error:
        return Finding("server", "broken", str(error), advice_for(error.code))
    # Valkey says which Redis it is like, and its own version beside it.
    version = facts.get("valkey_version", facts["redis_version"])
    found = f"{facts.get('server_name', 'redis')} {version}"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "Set maxmemory-policy noeviction: a server that evicts keys loses jobs."
        return Finding("server", "slow", f"{found}, maxmemory-policy {policy}", advice)
    return Finding("server", "ok", found)


def _decoders() -> Finding:
    try:
        import av  # noqa: PLC0415 - see the module's docstring
        import soundfile  # noqa: PLC0415 - the same
    except (ImportError, OSError) as error:
        advice = f"Install the worker again: {install_command('worker')}"
        return Finding("audio", "broken", str(error), advice)
    missing = [name for name in DECODERS if name not in av.codecs_available]
    found = f"libsndfile {soundfile.__libsndfile_version__}, PyAV {av.__version__}"
    if missing:
        advice = "Recordings of these kinds will fail as unsupported_format. Use PyAV's own wheel."
        return Finding("audio", "slow", f"{found}, without {', '.join(missing)}", advice)
    return Finding("audio", "ok", f"{found}, {', '.join(DECODERS)}")


def _device() -> Finding:
    try:
        from worker.cli.machine import machine, versions  # noqa: PLC0415 - see the module's docstring

        facts, mlx = machine(), versions()["mlx"]
    except (ImportError, OSError, RuntimeError, IndexError) as error:
        # Where Metal finds no device MLX raises RuntimeError, and IndexError after that.
        advice = f"Install the worker for this machine: {install_command('worker')}"
        if sys.platform == "darwin" and not isinstance(error, ImportError):
            advice = NO_GPU
        return Finding("device", "broken", f"MLX does not start: {error}", advice)
    found = (
        f"{facts['backend']} on {facts['device']}, {facts['num_cpus']} processors,"
        f" {facts['memory_bytes'] / 1e9:.1f} GB, MLX {mlx}"
    )
    if sys.platform == "darwin" and facts["backend"] == "CPU":
        return Finding("device", "slow", found, "Use an arm64 Python on Apple silicon, for Metal.")
    return Finding("device", "ok", found)


def _blas(settings: Settings) -> Finding:
    """Measure how fast matrices are multiplied, which is most of what an encoder does."""
    from worker.cli.machine import blas_library, matmul_gflops  # noqa: PLC0415 - the same
    from worker.device.backend import on_gpu  # noqa: PLC0415 - see the module's docstring

    try:
        gflops, library = matmul_gflops(settings), blas_library(settings)
    except InvalidSettings as error:
        return Finding("blas", "broken", str(error), advice_for(error.code))
    found = f"{gflops:.0f} GFLOP/s in float32, {library}"
    if gflops >= SLOW_GFLOPS or on_gpu():
        return Finding("blas", "ok", found)
    if "reference BLAS" in library:
        advice = (
            'On x86-64, worker.backend = "auto" and model.dtype = "float32" are many times faster.'
        )
    else:
        advice = "The machine is busy with something else, or short of processors."
    return Finding("blas", "slow", found, advice)


def _model(settings: Settings) -> Iterator[Finding]:
    """Load and pin the model as a worker does, and transcribe one window with it."""
    from worker.cli.measure import Workbench  # noqa: PLC0415 - see the module's docstring

    try:
        with Workbench(settings) as bench:
            model = bench.engine.model
            found = f"{model.name} in {model.dtype}, revision {model.revision[:12]}"
            yield Finding("model", "ok", f"{found}, pinned in {bench.load_s:.1f} s")
            yield Finding("memory", "ok", f"{bench.plan.slots} slots: {bench.plan}")
            yield _self_test(bench, settings)
    except ScribefarmError as error:
        yield Finding("model", "broken", f"[{error.code}] {error}", advice_for(error.code))


def _self_test(bench: "Workbench", settings: Settings) -> Finding:
    """Transcribe the packaged speech, or noise where it is not installed."""
    from worker.cli.measure import clip, write_noise, write_window  # noqa: PLC0415 - the same

    speech = clip()
    options = settings.options.model_copy(update={"temperatures": (0.0,), "language": None})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "window.wav"
        write_window(path, speech) if speech else write_noise(path, SELF_TEST_S)
        measured = bench.run([path], options)
    if measured.failures:
        advice = "A defect of the model or of scribefarm: run again with another model.name."
        return Finding("self-test", "broken", measured.failures[0], advice)
    speed = f"{measured.audio_s_per_s:.1f} times real time"
    found = f"one window at {speed}, {decoding(settings)}"
    text = next(iter(measured.texts.values()))
    if speech and CLIP_WORD not in text.lower():
        advice = "The model does not understand clear English speech: fetch it again."
        return Finding("self-test", "broken", f"{found}, but heard {text[:80]!r}", advice)
    heard = "its text is right" if speech else "noise; useful-moonshine-onnx has speech to check"
    if measured.audio_s_per_s < SLOW_REAL_TIME_FACTOR:
        advice = "Slower than people speak: use a smaller model, or see what is slow above."
        return Finding("self-test", "slow", f"{found}, {heard}", advice)
    return Finding("self-test", "ok", f"{found}, {heard}")


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        colour = _COLOURS[finding.status]
        advice = f"\n-> {escape(finding.advice)}" if finding.advice else ""
        table.add_row(
            f"[{colour}]{finding.status}[/]", finding.check, escape(finding.found) + advice
        )
    Console().print(table)
