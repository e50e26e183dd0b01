"""`scribefarm-worker models`: list, fetch, check, remove and convert weights.

`worker.__main__` reports the errors. MLX and huggingface_hub are imported by the commands, so that
`--help` needs neither.
"""

import importlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from producer import log
from producer.console import SettingsFile, format_bytes, note, one_line
from producer.errors import InvalidModel, InvalidOptions
from producer.model_names import KNOWN_MODELS, canonical_model, check_model
from producer.settings import load_settings
from worker.models import MODELS

if TYPE_CHECKING:
    from worker.cli.model_list import ModelRow
    from worker.models.parakeet.weights.parameters import Weights as ParakeetWeights
    from worker.models.whisper.weights.load import Weights

    AnyWeights = Weights | ParakeetWeights

app = typer.Typer(no_args_is_help=True, help="List, fetch, check, remove and convert weights.")

_WIDTH = 140


class DType(StrEnum):
    """The floating-point types of a converted model."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@app.command("list")
def list_models(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show the models that are here, and those that a short name fetches.

    With names, size on disk (about, where it is not here), languages, licence, where it is, and who
    uses it: the settings of this machine, and the running workers of its farm. Starts no server.

    Examples:
      scribefarm-worker models list
      scribefarm-worker models list --json
    """
    from worker.cli.model_list import model_rows  # noqa: PLC0415 - see the module's docstring

    rows = model_rows(load_settings())
    if as_json:
        typer.echo(json.dumps([row.model_dump() for row in rows]))
        return
    table = Table("name", "from", "size", "languages", "licence", "here", "used by")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        size = "" if row.num_bytes is None else format_bytes(row.num_bytes)
        table.add_row(
            ", ".join(row.short_names) or one_line(row.name),
            _source(row),
            f"about {size}" if size and row.here == "no" else size,
            {1: "English", None: ""}.get(row.num_languages, str(row.num_languages)),
            row.licence or "see its page",
            row.here,
            one_line(", ".join(row.used_by)),
        )
    # Off a terminal there is no width to go by, and nothing is to be cut.
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
    for row in rows:
        if row.attribution:
            names = ", ".join(row.short_names) or row.name
            typer.echo(one_line(f"{names}: {row.licence}, by {row.attribution}"))


def _source(row: "ModelRow") -> str:
    """Return what pip installs, or the hub id that a short name stands for."""
    if row.requirement is not None:
        return row.requirement.replace(" ", "\n")
    return one_line(row.name) if row.short_names else row.here.removesuffix(" cache")


def _card(name: str) -> str:
    return f"https://huggingface.co/{name}"


@app.command("fetch")
def fetch_model(
    name: Annotated[
        str,
        typer.Argument(help="Name like large-v3 or turbo, or hub id, like openai/whisper-small."),
    ],
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
) -> None:
    """Download a model, or bring it up to date, and check every tensor.

    Examples:
      scribefarm-worker models fetch turbo
      scribefarm-worker models fetch openai/whisper-small --revision main
    """
    from worker.models.hub import fetch, is_hub_id, licence_of  # noqa: PLC0415 - see the module's docstring
    from worker.models.routing import family_module  # noqa: PLC0415 - the same

    model = canonical_model(name)
    if model in MODELS:
        licence = MODELS[model].licence
    elif is_hub_id(model):
        known = next((known for known in KNOWN_MODELS.values() if known.name == model), None)
        if known is not None:
            by = f", {known.attribution}" if known.attribution else ""
            note(f"{model}: about {format_bytes(known.num_bytes)}, licence {known.licence}{by}")
        folder, revision = fetch(model, revision, refresh=True)
        licence = licence_of(folder) or (known.licence if known else f"see {_card(model)}")
    else:
        names = ", ".join(KNOWN_MODELS)
        raise InvalidModel("model", f"must be one of {names}, or a hub id", name)
    family = importlib.import_module(family_module(model, revision))
    _report(family.load_weights(model, revision=revision))
    typer.echo(f"licence: {licence}")


@app.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(help="Name or hub id of a fetched model.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model that was fetched from the hub, with all its revisions.

    What came as a Python package, and folders of yours, are left alone.

    Example:
      scribefarm-worker models remove turbo --yes
    """
    from worker.cli.model_list import model_rows  # noqa: PLC0415 - see the module's docstring
    from worker.models.hub import remove  # noqa: PLC0415 - the same

    model = canonical_model(name)
    row = next((row for row in model_rows(load_settings()) if row.name == model), None)
    if model in MODELS:
        uninstall = f"is a Python package: pip uninstall {_packages(MODELS[model].requirement)}"
        raise InvalidOptions("model", uninstall, name)
    if row is None or row.here != "hub cache":
        raise InvalidOptions("model", "must have been fetched; see: models list", name)
    used = f"; it is used by {', '.join(row.used_by)}" if row.used_by else ""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidOptions("--yes", "must be given where nobody can be asked")
        size = format_bytes(row.num_bytes or 0)
        typer.confirm(one_line(f"Delete {model}, {size}{used}?"), abort=True, err=True)
    freed = remove(model)
    note(f"deleted {model}: {format_bytes(freed)} are free again{used}")


def _packages(requirement: str) -> str:
    """Return the names of packages without their versions."""
    return " ".join(each.partition("==")[0] for each in requirement.split())


@app.command("verify")
def verify_model(
    name: Annotated[str, typer.Argument(help="Name, folder, archive or hub id.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Show what a model makes of ten seconds of packaged speech, stage by stage.

    The words that are spoken are known, and those that are wrong are counted. Of features and
    encoder nothing is published for this recording: hold them against another machine's.

    Exit codes: 0 at least half of the words are right, 1 fewer are, 2 wrong usage or settings.

    Example:
      scribefarm-worker models verify parakeet
    """
    from worker.cli.verify import SPOKEN, verify  # noqa: PLC0415 - see the module's docstring

    effective = load_settings(settings, model={"name": check_model(name)})
    log.configure(effective.log.model_copy(update={"level": "warning"}))
    found = verify(effective)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        transcript, model = found.transcript, found.transcript.model
        typer.echo(one_line(f"model: {model.name} in {model.dtype}, revision {model.revision}"))
        for stage, shown in found.figures:
            typer.echo(f"{stage}: {shown}")
        typer.echo(one_line(f"text: {transcript.text.strip()}"))
        typer.echo(f"spoken: {SPOKEN}")
        for word in (word for segment in transcript.segments for word in segment.words or []):
            times = f"{word.start:6.2f} {word.end:6.2f} {word.probability:5.2f}"
            typer.echo(one_line(f"{times} {word.word}"))
        typer.echo(f"language: {transcript.language}; flags: {', '.join(transcript.flags) or '-'}")
        typer.echo(f"wrong: {found.num_wrong} of {found.num_words} words")
    if 2 * found.num_wrong > found.num_words:
        raise typer.Exit(1)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Name, folder (any format) or hub id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New MLX folder.")],
    bits: Annotated[
        int | None, typer.Option("--quantize", help="Bits of each weight: 4 or 8.")
    ] = None,
    dtype: Annotated[DType | None, typer.Option(help="Default: as stored.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub branch, tag or commit.")] = None,
) -> None:
    """Write any Whisper as an MLX folder, for this worker and for mlx-whisper."""
    from worker.device.backend import choose_dtype  # noqa: PLC0415 - the same
    from worker.models.packaged import WHISPER  # noqa: PLC0415 - the same
    from worker.models.routing import family_module  # noqa: PLC0415 - the same
    from worker.models.whisper.weights import convert as to  # noqa: PLC0415 - see the module's docstring
    from worker.models.whisper.weights.load import load_weights  # noqa: PLC0415 - the same

    # Before a model is downloaded for nothing.
    to.check_out(out)
    if bits is not None:
        to.check_bits(bits)
    kind = None if dtype is None else choose_dtype(dtype)
    model = canonical_model(source)
    if family_module(model, revision) != WHISPER:
        raise InvalidModel("model", "must be a Whisper: others are read as they are", source)
    weights = load_weights(model, revision=revision, dtype=kind)
    to.save(weights if bits is None else to.quantize(weights, bits), out)
    # Read back, so that what is reported is what was written.
    _report(load_weights(str(out)))


def _report(weights: "AnyWeights") -> None:
    arrays = weights.arrays.values()
    from worker.device.backend import dtype_name  # noqa: PLC0415 - see the module's docstring

    # Packed weights are whole numbers; what they are multiplied with is not.
    kinds = sorted({dtype_name(array.dtype) for array in arrays})
    kind = " and ".join(kind for kind in kinds if "float" in kind)
    if weights.quantization is not None:
        kind = f"{weights.quantization['bits']} bits and {kind}"
    typer.echo(
        f"{weights.name}: {len(arrays)} tensors, {kind}, "
        f"{format_bytes(sum(array.nbytes for array in arrays))}, "
        f"revision {weights.revision}, in {weights.source}"
    )
