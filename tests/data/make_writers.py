"""Writes writers/: files by openai-whisper's own writers, and cases.json that says from what.

Run in the reference environment of README.md, after make_golden_options.py:
`python tests/data/make_writers.py`. cases.json is {results: {name: result}, cases: [{result,
format, options, file}]}; a result is what openai-whisper's `transcribe` returns.
"""

import io
import json
import shutil
from pathlib import Path

from reference_models import SHARED_DATA
from whisper.utils import get_writer

FOLDER = Path(__file__).parent
OUTPUT = FOLDER / "writers"
FORMATS = ("txt", "srt", "vtt", "tsv", "json")
WORD_OPTIONS = [
    {"max_line_width": 20},
    {"max_line_count": 1},
    {"max_line_width": 42, "max_line_count": 2},
    {"max_line_width": 10, "max_line_count": 1},
    {"max_line_width": 5, "max_line_count": 3},
    {"max_words_per_line": 1},
    {"max_words_per_line": 3},
    {"max_words_per_line": 4, "max_line_width": 15},
    {"max_words_per_line": 3, "max_line_width": 42, "max_line_count": 2},
    {"highlight_words": True},
    {"highlight_words": True, "max_words_per_line": 4},
    {"highlight_words": True, "max_line_width": 30, "max_line_count": 2},
]
ODD_TEXTS = [
    (0.0, 1.0, " - Who is there? - It is I."),
    (1.0, 2.5, " An arrow --> in the text, and --> another"),
    (2.5, 2.5, " no length"),
    (2.5, 3.0, ""),
    (3.0, 4.0, "   "),
    (4.0, 5.5, " a\ttab and  two spaces "),
    (5.5, 6.0, " two\nlines"),
    (6.0, 7.0005, " rounds half to even"),
    (7.9994, 7.9996, " rounds up to the next second"),
    (59.9995, 60.0, " rounds up to the next minute"),
    (3599.9996, 3600.0, " rounds up to the next hour"),
    (3661.5, 3662.04, ' "quotes", \\backslashes\\ & <tags>'),
    (86_399.0, 86_400.1, " Über Ångström, façade, 日本語, \u202bعربي"),
    (360_000.0, 360_001.0, " a hundred hours"),
    (4.100000000000001, 7.74, " goes back"),
]
# (segment start, segment end, words); a word is (text, start, end).
ODD_WORDS = [
    (0.0, 0.4, []),
    (0.5, 2.0, [(" -", 0.5, 0.5), (" Who", 0.5, 0.8), (" --> where?", 0.8, 2.0)]),
    (2.0, 2.2, [("no", 2.0, 2.1), ("space", 2.1, 2.2)]),
    (6.0, 9.0, [(" after", 6.0, 6.2), (" a", 6.2, 6.3), (" pause", 9.7, 9.9)]),
    (9.9, 9.9, []),
    (9.9, 14.0, [(" Donaudampfschifffahrtsgesellschaft", 9.9, 12.0), (" hält,", 12.0, 14.0)]),
    (14.0, 15.0, [(" two\nlines", 14.0, 14.5), (" 日本語", 14.5, 15.0)]),
    (3599.0, 3603.0, [(" an", 3599.0, 3599.9996), (" hour", 3599.9996, 3603.0)]),
    (3606.1, 3607.0, [(" one", 3606.1, 3606.2), (" more", 3606.2, 3607.0)]),
]


def complete(segments: list[dict]) -> list[dict]:
    """Fill in the fields that a stored segment leaves out, in openai-whisper's order."""
    defaults = {"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5}
    full = []
    for number, segment in enumerate(segments):
        one = {"id": number, "seek": 0, **segment}
        stored = {
            key: one.get(
                key, {**defaults, "no_speech_prob": 0.01, "tokens": [50363, 50364]}.get(key)
            )
            for key in (
                *("id", "seek", "start", "end", "text", "tokens", "temperature"),
                *("avg_logprob", "compression_ratio", "no_speech_prob"),
            )
        }
        if "words" in one:
            keys = ("word", "start", "end", "probability")
            stored["words"] = [
                dict(zip(keys, (*word, 0.9)[:4], strict=True)) for word in one["words"]
            ]
        full.append(stored)
    return full


def result(segments: list[dict], language: str = "en") -> dict:
    full = complete(segments)
    return {"text": "".join(one["text"] for one in full), "segments": full, "language": language}


def results() -> dict[str, dict]:
    """The inputs: golden segments with and without words, and the odd cases."""
    golden = [json.loads(line) for line in (SHARED_DATA / "golden.jsonl").open()]
    worded = json.loads((FOLDER / "word_timestamps.json").read_text())

    def pick(entries: list[dict], model: str, stem: str) -> dict:
        for entry in entries:
            if entry["model"] == model and Path(entry.get("path", "")).stem == stem:
                return result(entry["segments"], entry["language"])
        raise LookupError(stem)

    empty_words = [{"start": 0.0, "end": 1.0, "text": " text but no words", "words": []}]
    return {
        "jfk": pick(golden, "tiny.en", "jfk"),
        "chapter": pick(golden, "base", "librispeech-test-other-1688"),
        "french": pick(golden, "base", "fleurs-fr-001"),
        "jfk_words": pick(worded, "base", "jfk"),
        "chapter_words": pick(worded, "tiny.en", "librispeech-test-other-1998"),
        "odd": result([{"start": a, "end": b, "text": text} for a, b, text in ODD_TEXTS]),
        "odd_words": result(
            [
                {"start": a, "end": b, "text": "".join(w[0] for w in words), "words": words}
                for a, b, words in ODD_WORDS
            ]
        ),
        "words_but_none": result(empty_words),
        "empty": {"text": "", "segments": [], "language": "en"},
    }


def main() -> None:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    inputs, cases = results(), []
    for name, content in inputs.items():
        runs = [(kind, {}) for kind in FORMATS]
        if name in ("chapter_words", "odd_words"):
            runs += [(kind, options) for kind in ("srt", "vtt") for options in WORD_OPTIONS]
        for kind, options in runs:
            number = WORD_OPTIONS.index(options) + 1 if options else 0
            file = f"{name}.{number}.{kind}" if options else f"{name}.{kind}"
            text = io.StringIO()
            get_writer(kind, str(OUTPUT)).write_result(content, text, options)
            (OUTPUT / file).write_bytes(text.getvalue().encode("utf-8"))
            cases.append({"result": name, "format": kind, "options": options, "file": file})
    document = {"results": inputs, "cases": cases}
    (OUTPUT / "cases.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    total = sum(file.stat().st_size for file in OUTPUT.iterdir())
    print(f"{len(cases)} files, {total} bytes")


if __name__ == "__main__":
    main()
