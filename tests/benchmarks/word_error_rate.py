"""Word error rates by file set and model: ours beside openai-whisper and the other engines.

    python tests/benchmarks/word_error_rate.py [--ours NAME=FILE.json ...] [--json] [--files]

A row is one engine's texts. The peers' lie in tests/data/peers (made by peers/transcribe.py, with
versions and options); openai-whisper's greedy text is the shared golden.jsonl, that of its command
tests/data/beam_goldens.jsonl; ours is any JSON {path: text}, or {"model": "base", "texts": {path: text}}, with paths as in the shared manifest.

Texts are normalised as Whisper's paper does (appendix C), by its own rules in the package
whisper-normalizer: English with numbers, contractions and spelling unified, other languages in
lower case without punctuation and symbols. Errors are substitutions, deletions and insertions of
words over the words of the reference, summed over a set's files (jiwer).
"""

import argparse
import json
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jiwer

with warnings.catch_warnings():
    # A docstring of whisper-normalizer 0.1.15 has an escape that compiling it complains about.
    warnings.simplefilter("ignore")
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
HYPOTHESES = REPOSITORY / "tests" / "data" / "peers"
BEAM_GOLDENS = REPOSITORY / "tests" / "data" / "beam_goldens.jsonl"
# Columns of the table: the manifest's folder, FLEURS by language.
SETS = ("english", "fleurs en", "fleurs de", "fleurs es", "fleurs fr", "fleurs pt")

normalize_english = EnglishTextNormalizer()
normalize_other = BasicTextNormalizer()


@dataclass(frozen=True)
class Hypotheses:
    """One engine's texts: `name` is the row, `texts` maps a manifest path to its text."""

    name: str
    model: str
    texts: dict[str, str]


@dataclass
class Errors:
    """Word errors and the words of the reference; adds up over files."""

    num_errors: int = 0
    num_words: int = 0

    def add(self, other: "Errors") -> None:
        self.num_errors += other.num_errors
        self.num_words += other.num_words

    @property
    def rate(self) -> float:
        """Share of wrong words; insertions can bring it over 1."""
        return self.num_errors / self.num_words


def normalize(text: str, language: str) -> str:
    """Return `text` as words that are worth comparing, one space between them."""
    rules = normalize_english if language == "en" else normalize_other
    return " ".join(rules(text).split())


def count_errors(reference: str, hypothesis: str, language: str) -> Errors:
    """Count the word edits between two texts of one language."""
    counted = jiwer.process_words(normalize(reference, language), normalize(hypothesis, language))
    wrong = counted.substitutions + counted.deletions + counted.insertions
    return Errors(wrong, counted.hits + counted.substitutions + counted.deletions)


def set_of(path: str, language: str) -> str:
    """Return the column that a manifest path belongs to."""
    return f"fleurs {language}" if path.startswith("audio/fleurs/") else "english"


def references(shared_data: Path = SHARED_DATA) -> dict[str, tuple[str, str]]:
    """Map each speech file with a reference text to (text, language)."""
    with (shared_data / "manifest.jsonl").open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return {
        entry["path"]: (entry["reference"], entry["language"])
        for entry in entries
        if entry["path"].startswith(("audio/english/", "audio/fleurs/")) and entry["reference"]
    }


def golden(shared_data: Path = SHARED_DATA) -> Iterable[Hypotheses]:
    """openai-whisper, greedy: the transcripts that ours must equal token for token."""
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    with (shared_data / "golden.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            texts[entry["model"]][entry["path"]] = entry["text"]
    for model, found in texts.items():
        yield Hypotheses("openai-whisper greedy", model, found)


def command(goldens: Path = BEAM_GOLDENS) -> Iterable[Hypotheses]:
    """openai-whisper as its command decodes: five beams, then the likeliest of five samples."""
    texts: dict[str, dict[str, str]] = defaultdict(dict)
    for line in goldens.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if len(entry["temperatures"]) > 1:
            texts[entry["model"]][entry["path"]] = entry["text"]
    for model, found in texts.items():
        yield Hypotheses("openai-whisper's command (beam 5)", model, found)


def peers(folder: Path = HYPOTHESES) -> Iterable[Hypotheses]:
    """The stored texts of the other engines, with their versions in the row's name."""
    for file in sorted(folder.glob("*.json")):
        stored = json.loads(file.read_text(encoding="utf-8"))
        yield Hypotheses(f"{stored['peer']} {stored['mode']}", stored["model"], stored["texts"])


def read_hypotheses(argument: str) -> Hypotheses:
    """Read `NAME=FILE`: {path: text}, or that under "texts" with "model" beside it."""
    name, _, file = argument.rpartition("=")
    stored = json.loads(Path(file).read_text(encoding="utf-8"))
    if "texts" in stored:
        return Hypotheses(name or "ours", stored.get("model", "?"), stored["texts"])
    return Hypotheses(name or "ours", "?", stored)


def errors_by_set(
    hypotheses: Hypotheses, known: dict[str, tuple[str, str]]
) -> dict[str, dict[str, Errors]]:
    """Return {set: {path: Errors}} over the files that have both texts."""
    found: dict[str, dict[str, Errors]] = defaultdict(dict)
    for path, text in sorted(hypotheses.texts.items()):
        if path in known:
            reference, language = known[path]
            found[set_of(path, language)][path] = count_errors(reference, text, language)
    return found


def table(rows: Iterable[Hypotheses], known: dict[str, tuple[str, str]]) -> list[dict]:
    """Return one record a row: name, model and per set the rate, words and number of files."""
    num_files: dict[str, int] = defaultdict(int)
    for path, (_, language) in known.items():
        num_files[set_of(path, language)] += 1
    records = []
    for row in rows:
        sets = {}
        for name, files in errors_by_set(row, known).items():
            total = Errors()
            for errors in files.values():
                total.add(errors)
            sets[name] = {
                "rate": total.rate,
                "num_words": total.num_words,
                "num_files": len(files),
                # A row that lacks files is not comparable with the others.
                "complete": len(files) == num_files[name],
                "files": {path: errors.rate for path, errors in files.items()},
            }
        records.append({"name": row.name, "model": row.model, "sets": sets})
    return sorted(records, key=lambda record: (record["model"], record["name"]))


def markdown(records: list[dict]) -> str:
    """Return the table for the README: per cent of words wrong; `*` marks an incomplete set."""
    lines = [
        "| model | engine | " + " | ".join(SETS) + " |",
        "|---|---|" + "---:|" * len(SETS),
    ]
    for record in records:
        cells = []
        for name in SETS:
            cell = record["sets"].get(name)
            mark = "" if cell is None or cell["complete"] else "*"
            cells.append("" if cell is None else f"{100 * cell['rate']:.1f}{mark}")
        lines.append(f"| {record['model']} | {record['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", action="store_true", help="with the rate of every file")
    parser.add_argument("--files", action="store_true", help="list each file's rate, by row")
    arguments = parser.parse_args()
    if not SHARED_DATA.is_dir():
        sys.exit(f"the reference texts are in {SHARED_DATA}, which is not there")
    rows = [*golden(), *command(), *peers(), *map(read_hypotheses, arguments.ours)]
    records = table(rows, references())
    if arguments.json:
        print(json.dumps(records, indent=1))
        return
    print(markdown(records))
    if arguments.files:
        for record in records:
            for name, cell in record["sets"].items():
                for path, rate in cell["files"].items():
                    print(f"{record['model']}\t{record['name']}\t{name}\t{path}\t{100 * rate:.1f}")


if __name__ == "__main__":
    main()
