"""`scribefarm-worker models`: list, fetch and convert weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from rich.console import Console
from rich.table import Table

from producer.errors import InvalidModel, ScribefarmError
from worker.models import MODELS
from worker.models.convert import DTYPES, quantize, save
from worker.models.hub import fetch, is_hub_id
from worker.models.weights import Weights, load_weights

app = typer.Typer(no_args_is_help=True, help="List, fetch and convert weights.")

_MIB = 1 << 20


class DType(StrEnum):
    """The floating-point types of a converted model."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@app.command("list")
def list_models() -> None:
    """Show the packaged models, and the Whisper models that were fetched from the hub."""
    table = Table("model", "from", "here")
    for name, packaged in MODELS.items():
        table.add_row(name, packaged.requirement, "yes" if packaged.is_installed() else "no")
    for name, size in _fetched():
        table.add_row(name, "hub", size)
    Console().print(table)


@app.command("fetch")
def fetch_model(
    name: Annotated[
        str, typer.Argument(help="Packaged name or hub id, like openai/whisper-small.")
    ],
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
) -> None:
    """Download a model, or bring it up to date, and check every tensor."""
    with _errors_for_people():
        if name not in MODELS and is_hub_id(name):
            _, revision = fetch(name, revision, refresh=True)
        elif name not in MODELS:
            known = ", ".join(MODELS)
            raise InvalidModel("model", f"must be one of {known}, or a hub id", name)
        _report(load_weights(name, revision=revision))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Packaged name, folder (any format) or hub id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New MLX folder.")],
    bits: Annotated[
        int | None, typer.Option("--quantize", help="Bits of each weight: 4 or 8.")
    ] = None,
    dtype: Annotated[DType | None, typer.Option(help="Default: as stored.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
) -> None:
    """Write any model as an MLX folder, for this worker and for mlx-whisper."""
    with _errors_for_people():
        kind = None if dtype is None else DTYPES[dtype]
        weights = load_weights(source, revision=revision, dtype=kind)
        save(weights if bits is None else quantize(weights, bits), out)
        _report(load_weights(str(out)))


def _report(weights: Weights) -> None:
    num_bytes = sum(array.nbytes for array in weights.arrays.values())
    kind = str(weights.arrays["decoder.ln.weight"].dtype).removeprefix("mlx.core.")
    if weights.quantization is not None:
        kind = f"{weights.quantization['bits']} bits and {kind}"
    typer.echo(
        f"{weights.name}: {len(weights.arrays)} tensors, {kind}, {num_bytes / _MIB:.0f} MiB, "
        f"revision {weights.revision}, in {weights.source}"
    )


def _fetched() -> list[tuple[str, str]]:
    """Return hub id and size on disk of every cached Whisper model."""
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    models = (repo for repo in repositories if repo.repo_type == "model")
    return sorted(
        (repo.repo_id, repo.size_on_disk_str) for repo in models if "whisper" in repo.repo_id
    )


@contextmanager
def _errors_for_people() -> Iterator[None]:
    """Say in one line what is wrong, and exit with 1."""
    try:
        yield
    except ScribefarmError as error:
        typer.echo(f"{error.code}: {error}", err=True)
        raise typer.Exit(1) from error
