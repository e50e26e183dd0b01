"""Damaged recordings, each a pure function of (seed, case number, corpus)."""

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "audio"
# Longer files are cut: a mutation of the first second finds what one of the first hour would.
MAX_SEED_BYTES = 96 * 1024

Mutator = Callable[[random.Random, bytes], bytes]

_INTERESTING = (
    0,
    1,
    2,
    3,
    127,
    255,
    256,
    300,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**64 - 1,
)
_CHUNK_NAMES = (
    b"RIFF", b"fmt ", b"data", b"fact", b"LIST", b"ds64", b"FORM", b"COMM", b"SSND", b"fLaC",
    b"OggS", b"OpusHead", b"vorbis", b"moov", b"mdat", b"stsz", b"stsd", b"stts", b"mp4a", b"esds",
    b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"Xing", b"Info", b"ID3",
)  # fmt: skip


def corpus() -> list[tuple[str, bytes]]:
    """Return (name, bytes) of small valid files: the archive's, if it is there, and our own."""
    files = [
        (str(path.relative_to(ARCHIVE)), _shortened(path))
        for path in sorted(ARCHIVE.glob("*/*"))
        if path.is_file()
    ]
    return files + generated()


def generated() -> list[tuple[str, bytes]]:
    """Return half a second of noise in every container that the two libraries write."""
    noise = np.random.default_rng(0).normal(0, 0.1, (8000, 2)).astype(np.float32)
    pairs = [
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"),
        ("WAV", "ULAW"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"),
        ("AIFF", "PCM_16"), ("AIFF", "DOUBLE"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
        ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("SVX", "PCM_16"),
        ("IRCAM", "PCM_16"), ("PVF", "PCM_16"), ("MAT5", "PCM_16"),
    ]  # fmt: skip
    made = []
    for container, subtype in pairs:
        buffer = io.BytesIO()
        samples = noise[:, :1] if container in ("SVX", "NIST") else noise
        soundfile.write(buffer, samples, 16_000, format=container, subtype=subtype)
        made.append((f"generated/{container}-{subtype}", buffer.getvalue()))
    muxed = [
        ("mp4", "aac"),
        ("adts", "aac"),
        ("matroska", "flac"),
        ("mpegts", "mp2"),
        ("avi", "pcm_s16le"),
    ]
    return made + [
        (f"generated/{kind}-{codec}", _muxed(noise, kind, codec)) for kind, codec in muxed
    ]


def _muxed(noise: np.ndarray, kind: str, codec: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=16_000, layout="stereo")
        frame_format = {"flac": "s16", "mp2": "s16", "pcm_s16le": "s16"}.get(codec, "fltp")
        if frame_format == "s16":
            samples = (noise.reshape(1, -1) * 32767).astype(np.int16)
        else:
            samples = np.ascontiguousarray(noise.T)
        frame = av.AudioFrame.from_ndarray(samples, format=frame_format, layout="stereo")
        frame.sample_rate = 16_000
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return buffer.getvalue()


def _shortened(path: Path) -> bytes:
    """Return a small file of the same format that is as valid as the original."""
    content = path.read_bytes()
    if len(content) <= MAX_SEED_BYTES:
        return content
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.format not in ("OGG", "MP3"):
                frames = min(sound.samplerate, MAX_SEED_BYTES // (4 * sound.channels))
                buffer = io.BytesIO()
                samples = sound.read(frames, dtype="float64")
                soundfile.write(
                    buffer, samples, sound.samplerate, format=sound.format, subtype=sound.subtype
                )
                return buffer.getvalue()
    except (soundfile.LibsndfileError, TypeError):
        pass
    return content[:MAX_SEED_BYTES]


def mutate(seed: int, case: int, files: list[tuple[str, bytes]]) -> tuple[str, str, bytes]:
    """Return (name of the seed file, names of the mutators, damaged bytes)."""
    rng = random.Random(f"{seed}:{case}")
    name, content = files[case % len(files)]
    mutators = rng.choices(MUTATORS, k=rng.choice((1, 1, 1, 2, 3)))
    for mutator in mutators:
        content = mutator(rng, content)
    return name, "+".join(mutator.__name__ for mutator in mutators), content


def truncate(rng: random.Random, content: bytes) -> bytes:
    end = rng.randrange(len(content) + 1)
    return content[: min(end, rng.choice((end, 16, 64, 256, 4096)))]


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    reach = min(len(damaged), rng.choice((48, 128, 1024, len(damaged))))
    for _ in range(rng.choice((1, 2, 8, 64)) if reach else 0):
        damaged[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    length = rng.choice((1, 4, 32, 512, 4096))
    filler = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return content[:start] + filler + content[start + length :]


def cut_out(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice((1, 2, 17, 512, 4096)) :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    span = content[start : start + rng.choice((4, 64, 1024))]
    return content[:start] + span * rng.choice((1, 2, 50)) + content[start:]


def put_number(rng: random.Random, content: bytes) -> bytes:
    """Write a number that overflows something into the header."""
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(_INTERESTING) % 256**width
    start = rng.randrange(min(len(content), 256) + 1)
    return (
        content[:start]
        + value.to_bytes(width, rng.choice(("little", "big")))
        + content[start + width :]
    )


def lie_about_a_chunk(rng: random.Random, content: bytes) -> bytes:
    """Change the number beside the name of a chunk, box or page."""
    present = [name for name in _CHUNK_NAMES if name in content]
    if not present:
        return put_number(rng, content)
    name = rng.choice(present)
    at = content.index(name)
    start = max(0, rng.choice((at - 4, at + len(name), at + len(name) + rng.randrange(24))))
    value = rng.choice((*_INTERESTING, len(content), len(content) * 2)) % 2**32
    return content[:start] + value.to_bytes(4, rng.choice(("little", "big"))) + content[start + 4 :]


def lie_in_a_wav_header(rng: random.Random, content: bytes) -> bytes:
    """Put a WAV header before the bytes: huge rates, 0 and 300 channels, odd widths and sizes."""
    channels = rng.choice((0, 1, 1, 2, 2, 5, 64, 65, 300, 1024, 65535))
    rate_hz = rng.choice((0, 1, 999, 1000, 8000, 16000, 44100, 768_000, 768_001, 2**31, 2**32 - 1))
    bits = rng.choice((0, 1, 7, 8, 12, 16, 16, 16, 24, 32, 64, 255, 65535))
    codec = rng.choice(
        (0, 1, 1, 1, 2, 3, 6, 7, 0x11, 0x31, 0x50, 0x55, 0xFF, 0x2000, 0xFFFE, 0xFFFF)
    )
    block = rng.choice((channels * bits // 8 % 65536, 0, 1, 65535))
    body = content[: rng.choice((0, 1, 100, 8192))]
    size = rng.choice((len(body), len(body), 0, 2**31, 2**32 - 1, 1_152_000_000, len(body) * 2))
    fmt = struct.pack("<HHIIHH", codec, channels, rate_hz, rate_hz * block % 2**32, block, bits)
    riff = rng.choice((36 + size, 0, 36, 2**32 - 1)) % 2**32
    return (
        b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + struct.pack("<I", rng.choice((16, 16, 18, 40, 0)))
        + fmt + b"data" + struct.pack("<I", size % 2**32) + body
    )  # fmt: skip


def poison_floats(rng: random.Random, content: bytes) -> bytes:
    """Return a float WAV in which some samples are NaN, infinite or absurd."""
    channels = rng.choice((1, 2, 6))
    samples = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.1, (2000, channels))
    values = (float("nan"), float("inf"), -float("inf"), 1e38, -1e300, 1e-310, 2.0**32, 1e10)
    for _ in range(rng.choice((1, 1, 5))):
        samples[rng.randrange(2000), rng.randrange(channels)] = rng.choice(values)
    buffer = io.BytesIO()
    subtype = rng.choice(("FLOAT", "DOUBLE"))
    container = rng.choice(("WAV", "AIFF", "AU", "CAF", "W64"))
    with np.errstate(over="ignore"):
        soundfile.write(
            buffer, samples, rng.choice((8000, 16000, 44100)), format=container, subtype=subtype
        )
    return buffer.getvalue()


def splice(rng: random.Random, content: bytes) -> bytes:
    """Append a file to itself, or its tail to its head: chained, doubled and torn streams."""
    start, end = sorted((rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)))
    return rng.choice(
        (content + content, content[:end] + content[start:], content[start:] + content)
    )


MUTATORS: tuple[Mutator, ...] = (
    truncate,
    flip_bits,
    flip_bits,
    overwrite,
    cut_out,
    repeat,
    put_number,
    put_number,
    lie_about_a_chunk,
    lie_about_a_chunk,
    lie_in_a_wav_header,
    poison_floats,
    splice,
)
