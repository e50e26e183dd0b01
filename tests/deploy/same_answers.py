"""Whether each way of computing gives the same text: GPU and CPU, float32 and float16, alone and together.

    python tests/deploy/same_answers.py [--output FILE]

Prints a Markdown table. Exit code 1: the packaged speech was misheard, or in float32 a recording got
another text in a batch than alone. What only the table shows is for a person to judge: a GPU may
round a close choice otherwise than a CPU.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from producer.job import Job, Options  # noqa: E402 - run as a file, it finds the project itself
from producer.settings import Settings  # noqa: E402
from worker.audio.recording import SAMPLE_RATE_HZ, load_audio  # noqa: E402
from worker.cli.measure import clip  # noqa: E402
from worker.engine.engine import BatchEngine  # noqa: E402
from worker.engine.messages import Done, Failed, Ticket  # noqa: E402
from worker.models.load import load_family  # noqa: E402

CLIP_TEXT = "Ever tried, ever failed. No matter, try again. Fail again. Fail better."
# Pieces of the clip in seconds: their windows end at different steps.
PIECES_S = {"all": (0, None), "beginning": (0, 3), "end": (6, None), "middle": (3, 8)}
SLOTS = 4
REPEATS = 3  # more recordings than slots: rows leave and others join
OPTIONS = Options(language="en", temperatures=(0.0,), beam_size=None)


class Way(NamedTuple):
    """A way of computing: a device of MLX and a type."""

    device: str
    dtype: str


WAYS = [Way("gpu", "float32"), Way("gpu", "float16"), Way("cpu", "float32")]


def write_pieces(folder):
    """Write the pieces, and return their paths by name."""
    samples, _ = load_audio(str(clip()))
    paths = {}
    for name, (start, end) in PIECES_S.items():
        paths[name] = folder / f"{name}.wav"
        cut = samples[start * SAMPLE_RATE_HZ : end and end * SAMPLE_RATE_HZ]
        soundfile.write(paths[name], cut, SAMPLE_RATE_HZ, subtype="PCM_16")
    return paths


def is_here(way):
    """Return whether MLX has this device."""
    return way.device == "cpu" or mx.default_device().type == mx.gpu


def engine_of(way):
    """Return an engine with tiny.en that computes this way."""
    settings = Settings(
        model={"name": "tiny.en", "dtype": way.dtype}, worker={"slots": SLOTS, "backend": "auto"}
    )

    def load(settings):
        # In the engine's own thread: the device is the thread's.
        mx.set_default_device(mx.gpu if way.device == "gpu" else mx.cpu)
        return load_family(settings)

    return BatchEngine(settings, load)


def texts_of(engine, paths):
    """Transcribe recordings together, and return the text of each."""
    for number, path in enumerate(paths):
        engine.submit(Ticket(str(number), str(number), Job(source=str(path), options=OPTIONS)))
    texts = {}
    while len(texts) < len(paths):
        for event in engine.poll(1.0):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                texts[int(event.execution_id)] = event.transcript.text.strip()
    return [texts[number] for number in range(len(paths))]


def rows_of(way, paths):
    """Yield name of the piece, text alone, and whether all of a batch are the same."""
    engine = engine_of(way)
    try:
        alone = [texts_of(engine, [path])[0] for path in paths.values()]
        batch = texts_of(engine, list(paths.values()) * REPEATS)
    finally:
        engine.stop()
    for number, name in enumerate(paths):
        yield name, alone[number], set(batch[number :: len(paths)]) == {alone[number]}


def compare(folder):
    """Return the table's lines and what is wrong."""
    lines = ["| device | dtype | recording | text | in a batch |", "|---|---|---|---|---|"]
    wrong = []
    for way in WAYS:
        if not is_here(way):
            lines.append(f"| {way.device} | {way.dtype} | | not here | |")
            continue
        for name, text, is_same in rows_of(way, write_pieces(folder)):
            seen = "the same" if is_same else "another"
            lines.append(f"| {way.device} | {way.dtype} | {name} | {text} | {seen} |")
            if name == "all" and text != CLIP_TEXT:
                wrong.append(f"{way.device} in {way.dtype} misheard the packaged speech: {text}")
            if way.dtype == "float32" and not is_same:
                wrong.append(f"{way.device} in float32: another text of {name} in a batch")
    return lines, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="Write the table there too.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines, wrong = compare(Path(folder))
    table = "\n".join([*lines, "", *wrong]).rstrip() + "\n"
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")
    sys.stdout.flush()
    # Not through the interpreter's exit, where MLX may abort after another thread has used it.
    os._exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
