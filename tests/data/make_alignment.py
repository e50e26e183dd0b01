"""Writes alignment.npz and word_merging.json: word times with no model in the loop.

Run in the reference environment of README.md: `python tests/data/make_alignment.py`.
openai-whisper's own `find_alignment` and `add_word_timestamps` ran; where a model is scripted,
its attention and logits come from `recipes.py`. README.md describes the fields.
"""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import numpy as np
import torch
import whisper.timing
from recipes import scripted_attention, scripted_costs, scripted_logits
from reference_models import SHARED_DATA, load_openai
from whisper.audio import load_audio, log_mel_spectrogram, pad_or_trim
from whisper.timing import WordTiming, add_word_timestamps, dtw, find_alignment
from whisper.tokenizer import get_tokenizer

FOLDER = Path(__file__).parent
ENGLISH = ' And so, my fellow Americans: "ask not" what your country (yes, yours) can do for you...'
TEXTS = {
    "en": ENGLISH,
    "de": " Über die Brücke - »langsam« - fährt der Straßenbahn-Zug; 3,5 km weit!",
    "fr": " L'été, c'est « ici » : aujourd'hui, n'est-ce pas ?",
    "ja": "私は東京に住んでいます。とても楽しい!",
    "zh": "你好,世界。今天天气很好?",
    "es": " ¿Qué pasa? ¡Nada! (¿de veras?)",
}


def tokenizer_of(language: str, *, multilingual: bool = True):
    if not multilingual:
        return get_tokenizer(multilingual=False, num_languages=99)
    return get_tokenizer(multilingual=True, num_languages=99, language=language, task="transcribe")


def describe(words: list[WordTiming]) -> list[list]:
    """[word, tokens, start, end, probability], times in seconds from the window's start."""
    return [
        [word.word, list(word.tokens), float(word.start), float(word.end), float(word.probability)]
        for word in words
    ]


class RecordDtw:
    """Keeps the matrix and the path of the last `find_alignment`."""

    def __enter__(self) -> Self:
        self.original = whisper.timing.dtw
        whisper.timing.dtw = self
        return self

    def __exit__(self, *_: object) -> None:
        whisper.timing.dtw = self.original

    def __call__(self, costs: torch.Tensor) -> np.ndarray:
        self.matrix = -costs.numpy()
        self.path = self.original(costs)
        return self.path


class CrossAttention(torch.nn.Module):
    """Stands for one decoder layer's cross-attention; openai-whisper hooks its output."""

    def __init__(self, scores: torch.Tensor):
        super().__init__()
        self.scores = scores

    def forward(self) -> tuple:
        return None, self.scores[None]


class ScriptedModel:
    """One layer with every head an alignment head; its scores and logits are given."""

    def __init__(self, scores: np.ndarray, logits: np.ndarray):
        layer = SimpleNamespace(cross_attn=CrossAttention(torch.from_numpy(scores)))
        self.dims = SimpleNamespace(n_text_layer=1)
        self.decoder = SimpleNamespace(blocks=[layer])
        self.device = torch.device("cpu")
        self.alignment_heads = torch.ones(1, len(scores), dtype=torch.bool).to_sparse()
        self.logits = torch.from_numpy(logits)

    def __call__(self, _mel: torch.Tensor, _tokens: torch.Tensor) -> torch.Tensor:
        self.decoder.blocks[0].cross_attn()
        return self.logits[None]


def dtw_cases() -> list[dict]:
    shapes = [(1, 1), (1, 6), (6, 1), (2, 2), (3, 3), (5, 24), (9, 9), (24, 5), (30, 200)]
    cases = []
    for kind in ("smooth", "ties", "constant"):
        for seed, (num_tokens, num_frames) in enumerate(shapes):
            costs = scripted_costs(kind, num_tokens, num_frames, seed)
            text_indices, time_indices = dtw(torch.from_numpy(costs))
            cases.append(
                {
                    "kind": kind,
                    "shape": [num_tokens, num_frames],
                    "seed": seed,
                    "text_indices": text_indices.tolist(),
                    "time_indices": time_indices.tolist(),
                }
            )
    return cases


def scripted_cases(arrays: dict) -> list[dict]:
    """`find_alignment` on scripted attention: softmax, normalisation, median filter, DTW, words."""
    wanted = [(language, 600, 6) for language in TEXTS]
    wanted += [
        ("en", 3000, 3),
        ("en", 2, 2),
        ("en", 6, 2),
        ("en", 7, 2),
        ("en", 8, 2),
        ("de", 14, 1),
    ]
    cases = []
    for seed, (language, num_frames, num_heads) in enumerate(wanted):
        multilingual = not (language == "en" and num_frames == 600)
        tokenizer = tokenizer_of(language, multilingual=multilingual)
        text_tokens = tokenizer.encode(TEXTS[language])
        if num_frames == 3000:
            text_tokens = text_tokens[:3]
        num_rows = len(tokenizer.sot_sequence) + 1 + len(text_tokens) + 1
        num_vocab = 51865 if multilingual else 51864
        scores = scripted_attention(num_heads, num_rows, 1500, num_frames // 2, seed)
        logits = np.stack(
            [scripted_logits(num_vocab, 100 * seed + row, []) for row in range(num_rows)]
        )
        # A plausible decoder: each row leans towards the next text token.
        offset = len(tokenizer.sot_sequence)
        for row, token in enumerate(text_tokens):
            logits[offset + row, token] += np.float32(9 + row % 5)
        name = f"scripted-{seed}"
        model = ScriptedModel(scores, logits)
        with RecordDtw() as record:
            words = find_alignment(model, tokenizer, text_tokens, torch.zeros(80, 3000), num_frames)
        arrays[f"{name}/matrix"] = record.matrix
        cases.append(
            {
                "name": name,
                "multilingual": multilingual,
                "language": language,
                "num_frames": num_frames,
                "num_heads": num_heads,
                "seed": seed,
                "text_tokens": text_tokens,
                "time_indices": record.path[1].tolist(),
                "text_indices": record.path[0].tolist(),
                "words": describe(words),
            }
        )
    return cases


def real_cases(arrays: dict) -> list[dict]:
    """One real window: its averaged matrix, jump times and words before punctuation is merged."""
    wanted = [
        ("tiny.en", "audio/english/jfk.flac", "en", 0, 176_000),
        ("base", "audio/english/librispeech-test-other-2414.flac", "en", 0, 96_000),
        ("base", "audio/fleurs/fleurs-de-003.ogg", "de", 0, 96_000),
    ]
    cases = []
    for number, (model_name, path, language, start, stop) in enumerate(wanted):
        model = load_openai(model_name)
        samples = load_audio(str(SHARED_DATA / path))[start:stop]
        mel = log_mel_spectrogram(samples, model.dims.n_mels, padding=480_000)
        num_frames = mel.shape[1] - 3000
        window = pad_or_trim(mel[:, :num_frames], 3000)
        tokenizer = tokenizer_of(language, multilingual=model.is_multilingual)
        decoded = model.decode(window, whisper.DecodingOptions(language=language, fp16=False))
        text_tokens = [token for token in decoded.tokens if token < tokenizer.eot]
        with RecordDtw() as record:
            words = find_alignment(model, tokenizer, text_tokens, window, num_frames)
        jumps = np.pad(np.diff(record.path[0]), (1, 0), constant_values=1).astype(bool)
        name = f"real-{number}"
        arrays[f"{name}/matrix"] = record.matrix
        cases.append(
            {
                "name": name,
                "model": model_name,
                "path": path,
                "samples": [start, stop],
                "language": language,
                "multilingual": model.is_multilingual,
                "num_frames": num_frames,
                "text_tokens": text_tokens,
                "jump_times": (record.path[1][jumps] / 50).tolist(),
                "words": describe(words),
            }
        )
        print(name, [word.word for word in words])
    return cases


def random_alignment(rng: random.Random, tokenizer, tokens: list[int]) -> list[WordTiming]:
    """Words of `tokens` with times that rest, run on or stand still, and some very long ones."""
    words, word_tokens = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    now, timings = round(rng.choice([0, 0, rng.random() * 8]) * 50) / 50, []
    for word, ids in zip(words, word_tokens, strict=True):
        length = rng.choice([0, 0.02, 0.1, 0.2, 0.24, 0.3, 0.5, 0.9, rng.random() * 4])
        end = now + round(length * 50) / 50
        timings.append(WordTiming(word, ids, now, end, round(rng.random(), 3)))
        now = end
    return timings[:-1]  # EOT's own entry is only there for its boundary


def merging_case(rng: random.Random) -> dict:
    """`add_word_timestamps` on a scripted alignment: clamping, merging, segment borders."""
    language = rng.choice(list(TEXTS))
    tokenizer = tokenizer_of(language)
    pieces = [TEXTS[language]] + [
        rng.choice(
            [" Yes.", " No!", " -", " well,", " (", " end)", " ...", ENGLISH[:30], " 日本。"]
        )
        for _ in range(rng.randrange(1, 8))
    ]
    rng.shuffle(pieces)
    time_s, segments = 0.0, []
    seek = rng.choice([0, 2796, 5296, 123_456])
    for piece in pieces[: rng.randrange(1, 5)]:
        tokens = tokenizer.encode(piece)
        start = time_s + rng.choice([0, 0.5, 2.0])
        time_s = start + rng.choice([0.02, 1.0, 3.0, 6.0])
        begin = tokenizer.timestamp_begin
        segments.append(
            {
                "seek": seek,
                "start": seek / 100 + start,
                "end": seek / 100 + time_s,
                "tokens": [begin + round(start * 50), *tokens, begin + round(time_s * 50)],
            }
        )
    text_tokens = [t for s in segments for t in s["tokens"] if t < tokenizer.eot]
    alignment = random_alignment(rng, tokenizer, text_tokens)
    case = {
        "language": language,
        "segments": json.loads(json.dumps(segments)),
        "last_speech_timestamp": round(max(0.0, seek / 100 - rng.choice([0, 0.5, 3, 20])), 2),
        "alignment": describe(alignment),
    }
    original = whisper.timing.find_alignment
    whisper.timing.find_alignment = lambda *_args, **_kwargs: alignment
    try:
        add_word_timestamps(
            segments=segments,
            model=None,
            tokenizer=tokenizer,
            mel=None,
            num_frames=3000,
            last_speech_timestamp=case["last_speech_timestamp"],
        )
    finally:
        whisper.timing.find_alignment = original
    case["expected"] = [
        {
            "start": float(segment["start"]),
            "end": float(segment["end"]),
            "words": [
                [word["word"], float(word["start"]), float(word["end"]), word["probability"]]
                for word in segment["words"]
            ],
        }
        for segment in segments
    ]
    return case


def main() -> None:
    torch.set_grad_enabled(False)
    arrays: dict[str, np.ndarray] = {}
    document = {
        "dtw": dtw_cases(),
        "scripted": scripted_cases(arrays),
        "real": real_cases(arrays),
    }
    output = FOLDER / "alignment.npz"
    np.savez_compressed(
        output,
        cases=np.array(json.dumps(document)),
        **{k: v.astype(np.float32) for k, v in arrays.items()},
    )
    rng = random.Random(20_250_625)
    cases = [merging_case(rng) for _ in range(120)]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (FOLDER / "word_merging.json").write_text(f"[\n{lines}\n]\n")
    print(f"{output.stat().st_size} + {(FOLDER / 'word_merging.json').stat().st_size} bytes")


if __name__ == "__main__":
    main()
