"""Do real words come out of the GPU as they do in float32 on a CPU? tiny.en, eight English recordings.

    python -m tests.benchmarks.gpu.words --speech FOLDER --golden golden.jsonl [--weights tiny.en] [--slots 16,128]

FOLDER holds the manifest's `audio/english`; `golden.jsonl` openai-whisper's greedy transcripts of it.
Tells for each dtype and number of slots which files have the golden tokens and times, and how many
words are others. float32 is without TF32.
"""

import difflib
import json
import time
from pathlib import Path

from producer.job import Job, Options
from producer.settings import Settings
from tests.benchmarks.gpu.shapes import leave, numbers, parser, tell
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Ticket
from worker.models.load import load_family

GREEDY = Options(temperatures=(0.0,), beam_size=None)
MODEL, FOLDER = "tiny.en", "audio/english"


def golden(path):
    """Return the transcripts of tiny.en by file name."""
    entries = map(json.loads, path.read_text("utf-8").splitlines())
    ours = (each for each in entries if each["model"] == MODEL)
    return {Path(each["path"]).name: each for each in ours if each["path"].startswith(FOLDER)}


def transcribe(engine, paths):
    """Return the transcripts by file name, all in flight at once."""
    for path in paths:
        engine.submit(Ticket(path.name, path.name, Job(source=str(path), options=GREEDY)))
    transcripts = {}
    while len(transcripts) < len(paths):
        for event in engine.poll(1.0):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Done):
                transcripts[event.execution_id] = event.transcript
    return transcripts


def other_words(ours, theirs):
    """Return how many words are put in, left out or written in another's place."""
    codes = difflib.SequenceMatcher(None, ours.split(), theirs.split(), False).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in codes if kind != "equal")


def compared(transcripts, entries):
    """Return how the transcripts differ from the golden ones."""
    alike, others, words = 0, {}, 0
    for name, transcript in transcripts.items():
        entry = entries[name]
        ours = [(s.start, s.end, list(s.tokens)) for s in transcript.segments]
        alike += ours == [(s["start"], s["end"], s["tokens"]) for s in entry["segments"]]
        words += len(entry["text"].split())
        others[name] = other_words(transcript.text, entry["text"])
    differing = {name: count for name, count in others.items() if count}
    return {
        "golden_files": alike,
        "files": len(transcripts),
        "words": words,
        "other_words": sum(others.values()),
        "in": differing,
    }


def main():
    flags = parser(__doc__)
    flags.add_argument("--speech", type=Path, required=True)
    flags.add_argument("--golden", type=Path, required=True)
    flags.add_argument("--weights", default=MODEL, help="tiny.en, or a folder with it")
    flags.add_argument("--slots", type=numbers, default=[16, 128])
    flags.add_argument("--memory-bytes", type=int, help="of the device, for another beside it")
    arguments = flags.parse_args()
    entries = golden(arguments.golden)
    paths = [arguments.speech / name for name in sorted(entries)]
    for dtype in ("float32", "float16"):
        for slots in arguments.slots:
            started = time.perf_counter()
            settings = Settings(
                model={"name": arguments.weights, "dtype": dtype},
                worker={"slots": slots, "memory_limit_bytes": arguments.memory_bytes},
            )
            engine = BatchEngine(settings, load_family)
            figures = compared(transcribe(engine, paths), entries)
            engine.stop()
            taken_s = round(time.perf_counter() - started, 1)
            tell({f"{dtype}, {slots} slots": figures | {"taken_s": taken_s}})
    leave()


if __name__ == "__main__":
    main()
