"""`scribefarm-worker run`, and the one place where all parts of the worker meet."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from producer import log
from producer.connection import connect
from producer.console import SettingsFile
from producer.leaving import leave
from producer.result import Model
from producer.settings import Settings, load_settings
from producer.spans import configure_spans
from worker.engine.memory_plan import MemoryPlan
from worker.farm.farm_worker import EXIT_FORCED, FarmWorker
from worker.log_file import follow
from worker.sources.fetch import Fetch
from worker.status_pages import check_packages, status_pages

app = typer.Typer()


@app.command()
def run(
    *,
    settings: SettingsFile = None,
    burst: Annotated[bool, typer.Option(help="End when the queues are empty.")] = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name in logs and results; the host's name if none is given."),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Write the log there, not to stderr; it may be rotated.")
    ] = None,
) -> None:
    """Work until stopped.

    SIGTERM or Ctrl-C: finish what can be finished within worker.grace_s, hand the rest back to
    the queue with its progress, and end. A second one ends the worker at once.

    Exit codes: 0 drained or done, 1 the model or the engine is broken, 2 wrong usage or settings,
    3 no server, 130 ended at once by a second signal.
    """
    effective = load_settings(settings)
    log.configure(effective.log)
    configure_spans(effective.trace, "scribefarm-worker")
    if log_file is not None:
        follow(log_file)
    leave(_work(effective, name, burst=burst))


def _work(settings: Settings, name: str | None, *, burst: bool) -> int:
    """Load the model, then claim: a worker that cannot work takes nobody's job."""
    check_packages(settings.worker.metrics_listen)
    connection = connect(settings)
    # Imports MLX: not for --help.
    from worker.engine.engine import BatchEngine  # noqa: PLC0415
    from worker.models.load import load_family  # noqa: PLC0415

    structlog.get_logger().info("model_loading", name=settings.model.name)
    started = time.perf_counter()
    # A worker that stays is worth the seconds; on a GPU any start is.
    is_worth_it = not burst and settings.worker.slots == "auto"
    load = partial(load_family, calibrate="missing") if is_worth_it else load_family
    engine = BatchEngine(settings, load, Fetch(settings))
    _log_model(engine.model, time.perf_counter() - started)
    _log_plan(engine.plan, settings.audio.processes)
    code = EXIT_FORCED
    try:
        worker = FarmWorker(engine, settings, connection, name)
        with status_pages(worker, settings.worker.metrics_listen):
            code = worker.run(burst=burst)
    finally:
        # A forced exit does not wait for the device to finish its step.
        if code != EXIT_FORCED:
            engine.stop()
    return code


def _log_model(model: Model, load_s: float) -> None:
    """Say which weights are pinned, once in a worker's life."""
    structlog.get_logger().info("model_pinned", **model.model_dump(), load_s=round(load_s, 3))


def _log_plan(plan: MemoryPlan, processes: int) -> None:
    """Say how much is computed at once from now on, and why; and if reading is too slow for it."""
    structlog.get_logger().info(
        "slots_chosen",
        slots=plan.slots,
        encoded_together=plan.batch_size,
        steps_ahead=plan.steps_ahead,
        rows=plan.rows,
        why=plan.why,
    )
    if advice := plan.advice_on_reading(processes):
        structlog.get_logger().warning("reading_is_slow", advice=advice)
