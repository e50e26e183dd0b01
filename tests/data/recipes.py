"""The inputs behind the stored vectors, as formulas: numpy only, so that tests may use them.

Integer hashes instead of a random generator: any numpy, or another language, gives the same bits.
"""

from collections.abc import Callable

import numpy as np

SAMPLE_RATE_HZ = 16_000


def hashed(num: int, seed: int) -> np.ndarray:
    """Float64 numbers in [0, 1), shape (num,), by Knuth's multiplicative hash (TAOCP 6.4).

    `((i * 2654435761 + seed * 40503) mod 2**32) / 2**32`.
    """
    index = np.arange(num, dtype=np.uint64)
    mixed = (index * np.uint64(2654435761) + np.uint64(seed * 40503)) % np.uint64(2**32)
    return mixed.astype(np.float64) / 2**32


def scripted_logits(num_vocab: int, seed: int, overrides: list) -> np.ndarray:
    """Float32 logits in [-4, 4), shape (num_vocab,), with overrides [start, stop, value].

    A number is added to logits[start:stop]; a value that is text, "-inf" or "13.5", replaces them.
    """
    logits = (hashed(num_vocab, seed) * 8 - 4).astype(np.float32)
    for start, stop, value in overrides:
        if isinstance(value, str):
            logits[start:stop] = np.float32(value)
        else:
            logits[start:stop] += np.float32(value)
    return logits


def rough_noise(num: int, seed: int) -> np.ndarray:
    """Noise in [-0.5, 0.5) without the plain hash's lattice: the hash of a hash, float64."""
    first = (hashed(num, seed) * 2**32).astype(np.uint64)
    first ^= first >> np.uint64(15)
    second = (first * np.uint64(2246822519)) % np.uint64(2**32)
    second ^= second >> np.uint64(13)
    third = (second * np.uint64(3266489917)) % np.uint64(2**32)
    return (third ^ (third >> np.uint64(16))).astype(np.float64) / 2**32 - 0.5


def synthetic_audio(kind: str, num_samples: int) -> np.ndarray:
    """16 kHz mono float32 samples that are whole 16-bit steps, as if read from a file.

    Kinds: `silence`; `chirp`, 100 to 7,000 Hz over 30 s in noise; `late`, light noise
    with a loud last 50 ms, so that the file's maximum lies at its end; `impulse`, one full
    step at sample 0 in light noise; `clipped`, noise at twice full scale.
    """
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    noise = rough_noise(num_samples, 7)
    if kind == "silence":
        wave = np.zeros(num_samples)
    elif kind == "chirp":
        wave = 0.4 * np.sin(2 * np.pi * (100 + 115 * time_s) * time_s) + 0.2 * noise
    elif kind == "late":
        wave = 0.02 * noise
        wave[-800:] += 0.8 * np.sign(noise[-800:])
    elif kind == "impulse":
        wave = 0.01 * noise
        wave[:1] = 32767 / 32768
    elif kind == "clipped":
        wave = 4 * noise
    else:
        raise ValueError(f"no synthetic audio is called {kind!r}")
    steps = np.clip(np.rint(wave * 32768), -32768, 32767)
    return (steps / 32768).astype(np.float32)


def assemble(parts: list[dict], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Join 16 kHz parts into one recording, float32: cut files, silence and noise.

    A part is {path, start, stop} (samples; `read` gives a whole file), {silence: num_samples} or
    {noise: num_samples, seed, gain}; noise is whole 16-bit steps.
    """
    pieces = []
    for part in parts:
        if "path" in part:
            pieces.append(read(part["path"])[part["start"] : part["stop"]])
        elif "silence" in part:
            pieces.append(np.zeros(part["silence"], dtype=np.float32))
        else:
            steps = np.rint(rough_noise(part["noise"], part["seed"]) * part["gain"] * 32768)
            pieces.append((steps / 32768).astype(np.float32))
    return np.concatenate(pieces)


def scripted_costs(kind: str, num_tokens: int, num_frames: int, seed: int) -> np.ndarray:
    """Float32 costs for dynamic time warping, shape (num_tokens, num_frames).

    Kinds: `smooth`, noise; `ties`, whole numbers from -2 to 2; `constant`, all -1.
    """
    noise = rough_noise(num_tokens * num_frames, seed).reshape(num_tokens, num_frames)
    if kind == "smooth":
        costs = noise
    elif kind == "ties":
        costs = np.floor(noise * 5 + 0.5)
    else:
        costs = np.full(noise.shape, -1.0)
    return costs.astype(np.float32)


def scripted_attention(
    num_heads: int, num_tokens: int, num_positions: int, num_content: int, seed: int
) -> np.ndarray:
    """Float32 scores before the softmax, shape (num_heads, num_tokens, num_positions).

    Noise and a ridge along the diagonal of the first `num_content` positions, as the alignment
    heads of a trained model show it.
    """
    shape = (num_heads, num_tokens, num_positions)
    noise = rough_noise(num_heads * num_tokens * num_positions, seed).reshape(shape)
    token = np.arange(num_tokens)[:, None] + 0.5
    position = np.arange(num_positions)[None, :] * (num_tokens / max(num_content, 1))
    return (6 * noise + 5 * np.exp(-((position - token) ** 2))).astype(np.float32)


def beam_logprobs(
    num_vocab: int, sampled: list[int], kind: str, eot: int, ends: list[list]
) -> np.ndarray:
    """Float32 log-probabilities after sampled tokens, shape (num_vocab,), in (-16, 0].

    Made of whole numbers, so that they are the same bits everywhere. They are not normalised.

    Kinds: `prefix`, other ones after other tokens; `step`, the same for all beams, so that beams
    with the same tokens in another order are equally likely; `few`, all but three tokens impossible.
    Of `ends` each [step, value] is end of text's from that step on; before, it is -20.
    """
    ids = np.arange(num_vocab, dtype=np.int64)
    total = 31 * len(sampled)
    if kind != "step":
        total = sum((place + 3) * (token + 1) for place, token in enumerate(sampled))
    grid = (total * (ids + 5) * 40_503 + ids * ids * 26_544_357) % 16_777_213
    values = (-grid / 2**20).astype(np.float32)
    if kind == "few":
        values[np.argsort(grid, kind="stable")[3:]] = -np.inf
    values[eot] = next((value for step, value in reversed(ends) if step <= len(sampled)), -20.0)
    return values
