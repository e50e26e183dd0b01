"""Writes openai-whisper's greedy transcripts of a folder of yours, in the form of golden.jsonl.

`make parity FOLDER=~/recordings MODEL=base` runs it in an environment of its own, which it installs,
and compares with ours: tests/models/whisper/own_goldens.py. The `ffmpeg` command must be installed:
openai-whisper reads with it.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from reference_models import SOURCES, load_openai

FIELDS = ("seek", "start", "end", "text", "tokens")
FIGURES = ("avg_logprob", "compression_ratio", "no_speech_prob")


def ffmpeg_version() -> str:
    """The version of the command that reads the recordings."""
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
    return re.search(r"version (\S+)", said.stdout)[1]


def transcribed(model, name: str, folder: Path, path: Path) -> dict | None:
    """One line of the file; None if openai-whisper cannot read the recording."""
    try:
        result = model.transcribe(str(path), temperature=0, beam_size=None, fp16=False)
    except RuntimeError as error:
        print(f"{path}: {str(error).splitlines()[-1]}", file=sys.stderr)
        return None
    return {
        "path": str(path.relative_to(folder)),
        "model": name,
        "language": result["language"],
        "text": result["text"],
        "segments": [
            {key: segment[key] for key in (*FIELDS, *FIGURES)} for segment in result["segments"]
        ],
        "ffmpeg": ffmpeg_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("goldens", type=Path)
    parser.add_argument("--model", default="tiny.en", choices=sorted(SOURCES))
    arguments = parser.parse_args()
    model = load_openai(arguments.model)
    with arguments.goldens.open("w") as goldens:
        for path in sorted(path for path in arguments.folder.rglob("*") if path.is_file()):
            line = transcribed(model, arguments.model, arguments.folder, path)
            if line is not None:
                goldens.write(json.dumps(line) + "\n")
                print(f"{path}: {len(line['segments'])} segments", flush=True)


if __name__ == "__main__":
    main()
