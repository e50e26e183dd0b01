"""Writes log_mel.npz: openai-whisper's log-mel spectrogram at a few frames of each case.

Run in the reference environment of README.md: `python tests/data/make_log_mel.py`.
Arrays in the file, for case `name` and 80 or 128 mels:
`{name}/{mels}/frames` int32 (k,), `{name}/{mels}/log_mel` float32 (mels, k), and
`filters/{mels}` float32 (mels, 201), the filter bank that openai-whisper ships.
`cases` is JSON: per case the input's recipe, frame counts, the maximum, and how far a float64
computation is from openai-whisper's float32: the noise floor of any comparison.
"""

import json
from pathlib import Path

import numpy as np
import torch
from recipes import synthetic_audio
from reference_models import SHARED_DATA
from whisper.audio import N_FRAMES, N_SAMPLES, load_audio, log_mel_spectrogram, mel_filters
from whisper.audio import pad_or_trim as pad_or_trim_audio

OUTPUT = Path(__file__).with_name("log_mel.npz")
SPEECH = "audio/english/librispeech-test-other-1688.flac"
CASES = {
    "speech_3s": {"path": SPEECH, "num_samples": 48_000},
    "speech_whole": {"path": SPEECH, "num_samples": None},
    # decode() of one clip pads the samples to 30 s instead of appending 30 s.
    "speech_3s_pad_or_trim": {"path": SPEECH, "num_samples": 48_000, "pad_or_trim": True},
    "silence": {"synthetic": "silence", "num_samples": 48_000},
    "one_sample": {"synthetic": "impulse", "num_samples": 1},
    "under_one_frame": {"synthetic": "chirp", "num_samples": 159},
    "one_frame": {"synthetic": "chirp", "num_samples": 160},
    "one_frame_and_one_sample": {"synthetic": "chirp", "num_samples": 161},
    "half_window": {"synthetic": "impulse", "num_samples": 200},
    "tail_of_0": {"synthetic": "chirp", "num_samples": 160 * 300},
    "tail_of_1": {"synthetic": "chirp", "num_samples": 160 * 300 + 1},
    "tail_of_159": {"synthetic": "chirp", "num_samples": 160 * 300 + 159},
    "exactly_30s": {"synthetic": "chirp", "num_samples": N_SAMPLES},
    "30s_less_one": {"synthetic": "chirp", "num_samples": N_SAMPLES - 1},
    "30s_and_one": {"synthetic": "chirp", "num_samples": N_SAMPLES + 1},
    "loud_at_the_end": {"synthetic": "late", "num_samples": 160 * 4000},
    "impulse": {"synthetic": "impulse", "num_samples": 16_000},
    "clipped": {"synthetic": "clipped", "num_samples": 16_000},
}


def read(case: dict) -> np.ndarray:
    if "synthetic" in case:
        return synthetic_audio(case["synthetic"], case["num_samples"])
    return load_audio(str(SHARED_DATA / case["path"]))[: case["num_samples"]]


def in_float64(samples: np.ndarray, num_mels: int) -> np.ndarray:
    """The same quantity in float64 by numpy, to learn the float32 result's own error."""
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    window = np.hanning(401)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:-1]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    log_mel = np.log10(np.maximum(mel_filters("cpu", num_mels).numpy() @ power.T, 1e-10))
    return (np.maximum(log_mel, log_mel.max() - 8) + 4) / 4


def choose_frames(content_frames: int, num_frames: int) -> np.ndarray:
    """The edges, both sides of the content's end, and a spread of the rest."""
    spread = np.linspace(0, content_frames - 1, 12).astype(int) if content_frames else []
    ends = range(content_frames - 3, content_frames + 4)
    wanted = {*range(4), *spread, *ends, num_frames - 2, num_frames - 1}
    return np.array(sorted(frame for frame in wanted if 0 <= frame < num_frames), dtype=np.int32)


def main() -> None:
    arrays, described = {}, {}
    for name, case in CASES.items():
        samples = read(case)
        if case.get("pad_or_trim"):
            padded = pad_or_trim_audio(samples)
        else:
            padded = np.pad(samples, (0, N_SAMPLES))
        entry = {**case, "num_samples": len(samples)}
        for num_mels in (80, 128):
            log_mel = log_mel_spectrogram(torch.from_numpy(padded), num_mels).numpy()
            num_frames = log_mel.shape[1]
            content = len(samples) // 160 if case.get("pad_or_trim") else num_frames - N_FRAMES
            frames = choose_frames(content, num_frames)
            arrays[f"{name}/{num_mels}/frames"] = frames
            arrays[f"{name}/{num_mels}/log_mel"] = log_mel[:, frames]
            entry |= {"num_frames": num_frames, "content_frames": content}
            entry[f"max_{num_mels}"] = float(log_mel.max())
            entry[f"float64_distance_{num_mels}"] = float(
                np.abs(in_float64(padded, num_mels) - log_mel).max()
            )
        described[name] = entry
        print(name, entry)
    for num_mels in (80, 128):
        arrays[f"filters/{num_mels}"] = mel_filters("cpu", num_mels).numpy()
    np.savez_compressed(OUTPUT, cases=np.array(json.dumps(described)), **arrays)
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
