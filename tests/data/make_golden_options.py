"""Writes golden_options.json, word_timestamps.json and language_detection.json.

Run in the reference environment of README.md: `python tests/data/make_golden_options.py`.
They hold openai-whisper's transcripts for its options beyond `../shared/data/golden.jsonl`'s greedy
ones, its word times, and its language probabilities; all greedy (temperature 0), in float32.
"""

import json
import sys
from pathlib import Path

import torch
from recipes import assemble
from reference_models import SHARED_DATA, load_openai
from whisper.audio import N_FRAMES, load_audio, log_mel_spectrogram, pad_or_trim

FOLDER = Path(__file__).parent
ENGLISH = "audio/english/"
FLEURS = "audio/fleurs/"
CHAPTERS = [f"{ENGLISH}librispeech-test-other-{n}.flac" for n in (1688, 1998, 2033, 2414, 2609)]
JFK = f"{ENGLISH}jfk.flac"
PROMPT = "A lecture on toxicology: Carl Churke, laudanum, morphine, emetics and antidotes."
# Herman Melville, Moby-Dick, 1851: more tokens than the 223 that a prompt may have.
LONG_PROMPT = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in "
    "my purse, and nothing particular to interest me on shore, I thought I would sail about a "
    "little and see the watery part of the world. It is a way I have of driving off the spleen and "
    "regulating the circulation. Whenever I find myself growing grim about the mouth; whenever it "
    "is a damp, drizzly November in my soul; whenever I find myself involuntarily pausing before "
    "coffin warehouses, and bringing up the rear of every funeral I meet; and especially whenever "
    "my hypos get such an upper hand of me, that it requires a strong moral principle to prevent "
    "me from deliberately stepping into the street, and methodically knocking people's hats off, "
    "then, I account it high time to get to sea as soon as I can. This is my substitute for "
    "pistol and ball. With a philosophical flourish Cato throws himself upon his sword; I quietly "
    "take to the ship. There is nothing surprising in this. If they but knew it, almost all men "
    "in their degree, some time or other, cherish very nearly the same feelings towards the ocean "
    "with me."
)

# (model, path, options); short names, one behaviour each.
OPTIONS = [
    ("tiny.en", CHAPTERS[1], {"initial_prompt": PROMPT}),
    ("tiny.en", CHAPTERS[1], {"initial_prompt": PROMPT, "carry_initial_prompt": True}),
    ("tiny.en", CHAPTERS[1], {"initial_prompt": LONG_PROMPT[:600], "carry_initial_prompt": True}),
    ("tiny.en", CHAPTERS[1], {"initial_prompt": LONG_PROMPT}),
    ("tiny.en", CHAPTERS[1], {"condition_on_previous_text": False}),
    ("tiny.en", CHAPTERS[1], {"initial_prompt": PROMPT, "condition_on_previous_text": False}),
    ("tiny.en", CHAPTERS[2], {"clip_timestamps": "5.5,20,31.3,60"}),
    ("tiny.en", CHAPTERS[2], {"clip_timestamps": "70"}),
    ("tiny.en", CHAPTERS[2], {"clip_timestamps": [0.0, 3.21, 3.21, 9.99, 40.0]}),
    ("tiny.en", CHAPTERS[0], {"without_timestamps": True}),
    ("tiny.en", CHAPTERS[0], {"max_initial_timestamp": None, "suppress_blank": False}),
    ("tiny.en", CHAPTERS[0], {"suppress_tokens": ""}),
    ("tiny.en", CHAPTERS[0], {"suppress_tokens": [11, 13]}),
    ("tiny.en", CHAPTERS[0], {"sample_len": 20, "clip_timestamps": "0,40"}),
    ("tiny.en", JFK, {"no_speech_threshold": 0.05, "logprob_threshold": -0.2}),
    ("tiny.en", JFK, {"no_speech_threshold": None}),
    ("base", JFK, {"without_timestamps": True}),
    ("base", JFK, {"initial_prompt": "AND SO MY FELLOW AMERICANS", "language": "en"}),
    ("base", f"{FLEURS}fleurs-de-000.ogg", {"task": "translate"}),
    ("base", f"{FLEURS}fleurs-fr-001.ogg", {"task": "translate"}),
    ("base", f"{FLEURS}fleurs-es-003.ogg", {"task": "translate", "language": "es"}),
    ("base", f"{FLEURS}fleurs-de-003.ogg", {"language": "en"}),
    ("base", f"{FLEURS}fleurs-de-003.ogg", {"without_timestamps": True}),
    ("base", f"{FLEURS}fleurs-pt-001.ogg", {"initial_prompt": "Quéops, Gizé, Antigo Egito."}),
    ("base", CHAPTERS[3], {"condition_on_previous_text": False}),
]

# Long gaps and noise between speech: every part is 16 kHz, so any reader gives the same samples.
GAPS = [
    {"path": CHAPTERS[0], "start": 0, "stop": 160_000},
    {"silence": 16_000 * 9},
    {"path": "audio/nonspeech/acoustic_guitar_0.wav", "start": 0, "stop": 140_000},
    {"path": CHAPTERS[1], "start": 0, "stop": 16_000 * 12},
    {"silence": 16_000 * 34},
    {"path": CHAPTERS[2], "start": 16_000 * 9, "stop": 16_000 * 16},
    {"noise": 16_000 * 25, "seed": 3, "gain": 0.02},
    {"path": CHAPTERS[4], "start": 0, "stop": 16_000 * 8},
    {"noise": 16_000 * 14, "seed": 4, "gain": 0.2},
]
NOISE_FIRST = [
    {"noise": 16_000 * 11, "seed": 5, "gain": 0.05},
    {"path": "audio/nonspeech/acoustic_guitar_0.wav", "start": 0, "stop": 140_000},
    {"silence": 16_000 * 4},
    {"path": CHAPTERS[3], "start": 0, "stop": 16_000 * 9},
    {"silence": 16_000 * 7},
    {"path": "audio/nonspeech/impulse_response_0.wav", "start": 0, "stop": 8_000},
    {"silence": 16_000 * 5},
    {"path": CHAPTERS[3], "start": 16_000 * 9, "stop": 16_000 * 14},
    {"silence": 16_000 * 12},
]
WORDS = [
    *(
        (model, path, {"word_timestamps": True})
        for model in ("tiny.en", "base")
        for path in (JFK, *CHAPTERS)
    ),
    ("base", f"{FLEURS}fleurs-de-001.ogg", {"word_timestamps": True}),
    ("base", f"{FLEURS}fleurs-fr-002.ogg", {"word_timestamps": True}),
    (
        "tiny.en",
        CHAPTERS[2],
        {"word_timestamps": True, "clip_timestamps": "5.5,20,31.3,60", "initial_prompt": PROMPT},
    ),
    *(
        (model, parts, {"word_timestamps": True, **options})
        for model in ("tiny.en", "base")
        for parts in (GAPS, NOISE_FIRST)
        for options in ({}, {"hallucination_silence_threshold": 2.0})
    ),
]


def read(path: str):
    return load_audio(str(SHARED_DATA / path))


def describe(segment: dict) -> dict:
    """A segment as stored: `id`, `temperature` and floats beyond six digits left out."""
    stored = {key: segment[key] for key in ("seek", "start", "end", "text", "tokens")}
    for key in ("avg_logprob", "compression_ratio", "no_speech_prob"):
        stored[key] = round(segment[key], 6)
    if "words" in segment:
        stored["words"] = [
            [
                word["word"],
                float(word["start"]),
                float(word["end"]),
                round(float(word["probability"]), 6),
            ]
            for word in segment["words"]
        ]
    return stored


def transcribe(model, name: str, source, options: dict) -> dict:
    samples = read(source) if isinstance(source, str) else assemble(source, read)
    # A copy: openai-whisper appends to a suppress_tokens list that it is given.
    given = json.loads(json.dumps(options))
    result = model.transcribe(samples, temperature=0.0, beam_size=None, fp16=False, **given)
    where = {"path": source} if isinstance(source, str) else {"parts": source}
    print(name, where.get("path", "parts"), options, "->", repr(result["text"][:150]), flush=True)
    return {
        "model": name,
        **where,
        "options": options,
        "language": result["language"],
        "text": result["text"],
        "segments": [describe(segment) for segment in result["segments"]],
    }


def detect_languages(model, name: str) -> list[dict]:
    """transcribe()'s detection: the first 3,000 frames of the padded file's spectrogram."""
    detected = []
    for path in sorted((SHARED_DATA / FLEURS).glob("*.ogg")):
        mel = log_mel_spectrogram(load_audio(str(path)), model.dims.n_mels, padding=480_000)
        _, probabilities = model.detect_language(pad_or_trim(mel, N_FRAMES))
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:5]
        detected.append(
            {
                "model": name,
                "path": str(path.relative_to(SHARED_DATA)),
                "probabilities": {code: round(value, 6) for code, value in best},
            }
        )
    return detected


def write(name: str, entries: list[dict]) -> None:
    """One entry a line: a change shows as one line in a diff."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (FOLDER / name).write_text(f"[\n{lines}\n]\n")


def main() -> None:
    wanted = sys.argv[1:] or ["options", "words", "languages"]
    torch.set_grad_enabled(False)
    models = {name: load_openai(name) for name in ("tiny.en", "base")}
    if "options" in wanted:
        write(
            "golden_options.json",
            [transcribe(models[name], name, path, options) for name, path, options in OPTIONS],
        )
    if "words" in wanted:
        write(
            "word_timestamps.json",
            [transcribe(models[name], name, path, options) for name, path, options in WORDS],
        )
    if "languages" in wanted:
        write("language_detection.json", detect_languages(models["base"], "base"))


if __name__ == "__main__":
    main()
