"""`scribefarm-worker models`: list, fetch and convert weights.

`worker.__main__` reports the errors. MLX and huggingface_hub are imported by the commands, so that
`--help` needs neither.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from producer.errors import InvalidModel
from producer.model_names import knows_english_alone
from producer.settings import load_settings
from worker.models import MODELS

if TYPE_CHECKING:
    from worker.models.whisper.weights.load import Weights

app = typer.Typer(no_args_is_help=True, help="List, fetch and convert weights.")

_MIB = 1 << 20
_WIDTH = 140


class DType(StrEnum):
    """The floating-point types of a converted model."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@app.command("list")
def list_models() -> None:
    """Show the packaged models, and the Whisper models that were fetched from the hub.

    The one in the settings, which a worker here would use, has a star.
    """
    from worker.models.hub import fetched  # noqa: PLC0415 - see the module's docstring
    from worker.models.whisper.weights.config import is_whisper  # noqa: PLC0415 - the same

    used = load_settings().model.name
    table = Table("model", "from", "here", "languages", "licence", "used")
    for column in table.columns:
        column.overflow = "fold"
    for name, packaged in MODELS.items():
        size = packaged.size_bytes()
        here = "no" if not packaged.is_installed() else _mib(size) if size else "yes"
        source = packaged.requirement.replace(" ", "\n")
        table.add_row(name, source, here, _languages(name), packaged.licence, _star(name == used))
    for name, size_text, licence in fetched(is_whisper):
        shown = licence or "see its page"
        table.add_row(name, "hub", size_text, _languages(name), shown, _star(name == used))
    # Off a terminal there is no width to go by, and nothing is to be cut.
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _languages(model: str) -> str:
    return "English" if knows_english_alone(model) else "many"


def _star(is_used: bool) -> str:
    return "*" if is_used else ""


def _card(name: str) -> str:
    return f"see https://huggingface.co/{name}"


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / _MIB:.0f} MiB"


@app.command("fetch")
def fetch_model(
    name: Annotated[
        str, typer.Argument(help="Packaged name or hub id, like openai/whisper-small.")
    ],
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
) -> None:
    """Download a model, or bring it up to date, and check every tensor."""
    from worker.models.hub import fetch, is_hub_id, licence_of  # noqa: PLC0415 - see the module's docstring
    from worker.models.whisper.weights.load import load_weights  # noqa: PLC0415 - the same

    if name not in MODELS and is_hub_id(name):
        folder, revision = fetch(name, revision, refresh=True)
        licence = licence_of(folder) or _card(name)
    elif name not in MODELS:
        known = ", ".join(MODELS)
        raise InvalidModel("model", f"must be one of {known}, or a hub id", name)
    else:
        licence = MODELS[name].licence
    _report(load_weights(name, revision=revision))
    typer.echo(f"licence: {licence}")


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
    from worker.device.backend import choose_dtype  # noqa: PLC0415 - the same
    from worker.models.whisper.weights import convert as to  # noqa: PLC0415 - see the module's docstring
    from worker.models.whisper.weights.load import load_weights  # noqa: PLC0415 - the same

    # Before a model is downloaded for nothing.
    to.check_out(out)
    if bits is not None:
        to.check_bits(bits)
    kind = None if dtype is None else choose_dtype(dtype)
    weights = load_weights(source, revision=revision, dtype=kind)
    to.save(weights if bits is None else to.quantize(weights, bits), out)
    # Read back, so that what is reported is what was written.
    _report(load_weights(str(out)))


def _report(weights: "Weights") -> None:
    num_bytes = sum(array.nbytes for array in weights.arrays.values())
    from worker.device.backend import dtype_name  # noqa: PLC0415 - see the module's docstring

    kind = dtype_name(weights.dtype)
    if weights.quantization is not None:
        kind = f"{weights.quantization['bits']} bits and {kind}"
    typer.echo(
        f"{weights.name}: {len(weights.arrays)} tensors, {kind}, {_mib(num_bytes)}, "
        f"revision {weights.revision}, in {weights.source}"
    )
