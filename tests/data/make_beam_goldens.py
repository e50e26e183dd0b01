"""Writes beam_goldens.jsonl: openai-whisper's transcripts with five beams, a file and model a line.

Run in the reference environment of README.md: `python tests/data/make_beam_goldens.py`. It takes an
hour or more on one core, appends each line as it comes, and goes on where it stopped.

Each file is decoded as the reference's command does (`beam_size=5, best_of=5`, temperatures 0 to 1
by 0.2). Where a window fell back it is decoded once more with `temperature=0` alone, a second line;
where none did, that second decode would repeat the first to the last bit, so the one line stands
for both (`num_fallbacks` is 0). `--twice` decodes again anyway: what came out is then compared.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from make_goldens import ffmpeg_version
from reference_models import SHARED_DATA, load_openai
from whisper.audio import load_audio

GOLDENS = Path(__file__).with_name("beam_goldens.jsonl")
FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BEAMS = {"beam_size": 5, "best_of": 5, "fp16": False}
# Every third file of these folders by name, but the 32-minute one: an hour of one core by itself.
BY_THIRDS = ("audio/speakers/", "audio/world/")
WHOLE = ("audio/english/", "audio/fleurs/")
TOO_LONG = "audio/speakers/fillets-cs-long.ogg"


def chosen() -> list[tuple[str, str]]:
    """The (model, path) of each transcript, whole folders first; tiny.en for the English ones."""
    lines = (SHARED_DATA / "manifest.jsonl").read_text("utf-8").splitlines()
    files = {entry["path"]: entry for entry in map(json.loads, lines) if entry["path"] != TOO_LONG}
    paths = [path for path in files if path.startswith(WHOLE)]
    for folder in BY_THIRDS:
        paths += sorted(path for path in files if path.startswith(folder))[::3]
    return [
        (model, path)
        for path in sorted(
            paths, key=lambda path: (path.startswith(BY_THIRDS), files[path]["duration_s"])
        )
        for model in ("tiny.en", "base")
        if model == "base" or files[path]["language"] == "en"
    ]


class Counted:
    """A model whose decodes above temperature 0 are counted: each is a window that fell back."""

    def __init__(self, model) -> None:
        self.model = model
        self.num_fallbacks = 0
        self._decode = model.decode
        model.decode = self.decode

    def decode(self, mel, options):
        self.num_fallbacks += options.temperature > 0
        return self._decode(mel, options)


def describe(segment: dict) -> dict:
    """A segment as stored: floats to six digits; its text is the tokens'."""
    stored = {key: segment[key] for key in ("seek", "start", "end", "tokens")}
    stored["temperature"] = segment["temperature"]
    for key in ("avg_logprob", "no_speech_prob"):
        stored[key] = round(segment[key], 6)
    return stored


def transcribed(counted: Counted, name: str, path: str, temperatures) -> dict:
    """One line: the language, text and segments of `path`."""
    samples = load_audio(str(SHARED_DATA / path))
    torch.manual_seed(0)
    counted.num_fallbacks = 0
    result = counted.model.transcribe(samples, temperature=temperatures, **BEAMS)
    return {
        "model": name,
        "path": path,
        "temperatures": temperatures,
        "num_fallbacks": counted.num_fallbacks,
        "language": result["language"],
        "text": result["text"],
        "segments": [describe(segment) for segment in result["segments"]],
        "ffmpeg": ffmpeg_version(),
    }


def lines_of(counted: Counted, name: str, path: str, *, twice: bool) -> list[dict]:
    """The one or two lines of a file."""
    first = transcribed(counted, name, path, FALLBACK)
    if not first["num_fallbacks"] and not twice:
        return [first]
    second = transcribed(counted, name, path, (0.0,))
    if first["num_fallbacks"]:
        return [first, second]
    if first["segments"] != second["segments"]:
        raise RuntimeError(f"{path}: no window fell back, and yet temperature 0 gives another text")
    return [first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--twice", action="store_true")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    stored = GOLDENS.read_text("utf-8").splitlines() if GOLDENS.exists() else []
    done = {(entry["model"], entry["path"]) for entry in map(json.loads, stored)}
    models: dict[str, Counted] = {}
    for name, path in chosen():
        if (name, path) in done:
            continue
        if name not in models:
            models[name] = Counted(load_openai(name))
        began = time.monotonic()
        lines = lines_of(models[name], name, path, twice=arguments.twice)
        with GOLDENS.open("a", encoding="utf-8") as goldens:
            goldens.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        took_s = time.monotonic() - began
        print(f"{name} {path}: {lines[0]['num_fallbacks']} fallbacks, {took_s:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
