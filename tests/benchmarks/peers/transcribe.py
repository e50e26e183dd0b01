"""Stores a peer's text for every speech file: the rows of the word error rate table.

`python tests/benchmarks/peers/transcribe.py mlx-whisper greedy base` writes
tests/data/peers/mlx-whisper-greedy-base.json: {peer, mode, model, versions, options,
texts: {path: text}}. Until the last file is done the name ends in .part; a run that was stopped
goes on from there.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines import PEERS, REPOSITORY, load, read_samples, reference_models

HYPOTHESES = REPOSITORY / "tests" / "data" / "peers"


def speech_files(model: str) -> list[str]:
    """The files with a reference text that `model` can read: tiny.en has English only."""
    with (reference_models.SHARED_DATA / "manifest.jsonl").open() as lines:
        entries = [json.loads(line) for line in lines]
    return [
        entry["path"]
        for entry in entries
        if entry["path"].startswith(("audio/english/", "audio/fleurs/"))
        and entry["reference"]
        and (entry["language"] == "en" or not model.endswith(".en"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("mode")
    parser.add_argument("model", choices=sorted(reference_models.SOURCES))
    arguments = parser.parse_args()
    output = HYPOTHESES / f"{arguments.peer}-{arguments.mode}-{arguments.model}.json"
    part = output.with_suffix(".part")
    texts = json.loads(part.read_text())["texts"] if part.exists() else {}
    peer = load(arguments.peer, arguments.model, arguments.mode)
    started = time.monotonic()
    for path in speech_files(arguments.model):
        if path in texts:
            continue
        texts[path] = peer.transcribe(read_samples(path))
        record = {
            "peer": arguments.peer,
            "mode": arguments.mode,
            "model": arguments.model,
            "versions": peer.versions,
            "options": peer.options,
            "texts": texts,
        }
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        print(f"{time.monotonic() - started:7.1f} s  {path}", flush=True)
    part.replace(output)


if __name__ == "__main__":
    main()
