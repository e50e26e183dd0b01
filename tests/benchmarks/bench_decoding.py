"""Word errors of greedy and five beams, with and without the text before: a table for a decision.

    python -m tests.benchmarks.bench_decoding run MODEL TEXTS.jsonl [--sets english,fleurs,...] [--ways "greedy;5 beams"]
    python -m tests.benchmarks.bench_decoding table TEXTS.jsonl

All recordings of a set are in flight at once, in every way of decoding. Texts are appended as they
come, and a run that was stopped goes on from there. A recording of one window has nothing before
it: its text counts for both. tiny.en takes the English ones. Normalised as word_error_rate.py says.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from producer.job import Job, Options
from producer.model_names import knows_english_alone
from producer.settings import load_settings
from tests.benchmarks.word_error_rate import SHARED_DATA, Errors, count_errors
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Ticket
from worker.models.load import load_family

BEAMS = {"beam_size": 5, "best_of": 5}
ALONE = {"condition_on_previous_text": False}
WAYS = {
    "greedy": {"beam_size": None, "best_of": 1},
    "greedy, windows alone": {"beam_size": None, "best_of": 1} | ALONE,
    "5 beams": BEAMS,
    "5 beams, windows alone": BEAMS | ALONE,
}
# Both are longer than all others together.
LEFT_OUT = ("audio/long/", "audio/speakers/fillets-cs-long.ogg")
SETS = "english,fleurs,world,speakers"


def recordings(model: str, name: str) -> Iterator[dict]:
    """Yield the manifest's entries with text of a set that a model can write."""
    seen = set()
    for line in (SHARED_DATA / "manifest.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        path = entry["path"]
        is_ours = path.startswith(f"audio/{name}/") and not path.startswith(LEFT_OUT)
        is_known = entry.get("language") == "en" or not knows_english_alone(model)
        if is_ours and is_known and entry.get("reference") and path not in seen:
            seen.add(path)
            yield entry


def stored(texts: Path) -> dict[tuple[str, str, str], dict]:
    """Return the lines of the file by model, path and way."""
    lines = texts.read_text("utf-8").splitlines() if texts.exists() else []
    return {(each["model"], each["path"], each["way"]): each for each in map(json.loads, lines)}


def run(model: str, texts: Path, sets: list[str], chosen: list[str]) -> None:
    """Append the texts that are missing."""
    engine = BatchEngine(load_settings(model={"name": model}), load_family)
    try:
        for name in sets:
            # What follows from texts of one window is known only after these.
            for first in (True, False):
                ways = [way for way in chosen if way.endswith("alone") is not first]
                _transcribe(engine, model, texts, name, ways)
    finally:
        engine.stop()


def _transcribe(engine: BatchEngine, model: str, texts: Path, name: str, ways: list[str]) -> None:
    done, asked = stored(texts), {}
    for entry in recordings(model, name):
        for way in ways:
            key = model, entry["path"], way
            whole = done.get((model, entry["path"], way.removesuffix(", windows alone")))
            if key not in done and not (whole and whole["num_windows"] == 1):
                asked["\n".join(key)] = key
                job = Job(source=str(SHARED_DATA / entry["path"]), options=Options(**WAYS[way]))
                engine.submit(Ticket("\n".join(key), "\n".join(key), job))
    while asked:
        for event in engine.poll(1.0):
            if isinstance(event, Failed):
                sys.exit(f"{asked[event.execution_id]}: {event.error}")
            if isinstance(event, Done):
                _store(texts, asked.pop(event.execution_id), event.transcript)


def _store(texts: Path, key: tuple[str, str, str], transcript) -> None:
    model, path, way = key
    line = {
        "model": model,
        "path": path,
        "way": way,
        "num_windows": transcript.timing.windows,
        "language": transcript.language,
        "text": transcript.text,
        "segments": [
            segment.model_dump(include={"seek", "start", "end", "tokens", "temperature"})
            for segment in transcript.segments
        ],
    }
    with texts.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(model, path, way, flush=True)


def table(texts: Path) -> None:
    """Print per cent of words wrong, by model and set; files that a way lacks count for none."""
    lines = stored(texts)
    for model in sorted({model for model, _, _ in lines}):
        print(f"\n| {model} | words | " + " | ".join(WAYS) + " |")
        print("|---|---:|" + "---:|" * len(WAYS))
        for name, columns in _errors(model, lines).items():
            cells = [f"{100 * columns[way].rate:.1f}" for way in WAYS]
            print(f"| {name} | {columns['greedy'].num_words} | " + " | ".join(cells) + " |")


def _errors(model: str, lines: dict) -> dict[str, dict[str, Errors]]:
    found: dict[str, dict[str, Errors]] = defaultdict(lambda: defaultdict(Errors))
    for name in SETS.split(","):
        for entry in recordings(model, name):
            texts = [_text(lines, model, entry["path"], way) for way in WAYS]
            if None in texts:
                continue
            row = "english" if name == "english" else f"{name} {entry['language']}"
            for way, text in zip(WAYS, texts, strict=True):
                errors = count_errors(entry["reference"], text, entry["language"])
                found[row][way].add(errors)
                found["all"][way].add(errors)
    return found


def _text(lines: dict, model: str, path: str, way: str) -> str | None:
    """Return a text; of a recording of one window that of the same way with the text before."""
    own = lines.get((model, path, way))
    whole = lines.get((model, path, way.removesuffix(", windows alone")))
    if own is None and whole is not None and whole["num_windows"] == 1:
        own = whole
    return None if own is None else own["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("model")
    running.add_argument("texts", type=Path)
    running.add_argument("--sets", default=SETS)
    running.add_argument("--ways", default=";".join(WAYS))
    commands.add_parser("table").add_argument("texts", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "table":
        table(arguments.texts)
        return
    run(arguments.model, arguments.texts, arguments.sets.split(","), arguments.ways.split(";"))
    # MLX may abort in the interpreter's own exit once another thread has used it.
    os._exit(0)


if __name__ == "__main__":
    main()
