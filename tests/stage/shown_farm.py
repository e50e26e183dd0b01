"""A farm worth looking at: recordings that are there, texts with words, what failed and what is odd.

The tests of the page look at it.
"""

import math
import struct
import wave
from functools import cache
from hashlib import sha256

from producer.batches.views import note_batch
from producer.errors import CorruptAudio, SourceUnreachable, UnsupportedFormat
from producer.job import Job
from producer.result import Audio, Segment, Timing, Transcript, Word
from tests.stage.fake_engine import MODEL

RATE_HZ = 8000
SAYINGS = (
    "Ever tried, ever failed. No matter, try again.",
    "Fail again. Fail better.",
    "The archive was moved in nineteen seventy-two, and nobody kept the keys.",
    "We counted the boxes twice and wrote the sum on the door.",
    "She asked whether the tapes had been stored upright.",
    "There was a hum on the line that evening, and then silence.",
    "The committee met on Thursdays in the room behind the library.",
    "I remember the bells, the snow, and the smell of coal.",
)


@cache
def _tone(seconds=60):
    samples = (
        int(4000 * math.sin(n * 0.17) * math.sin(math.pi * n / RATE_HZ / 2) ** 2)
        for n in range(seconds * RATE_HZ)
    )
    return b"".join(struct.pack("<h", sample) for sample in samples)


def write_tone(path, seconds):
    """Write a recording that a browser plays: a soft tone that swells and fades."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(_tone()[: 2 * int(seconds * RATE_HZ)])
    return path


def said(sentences, *, start=0.5, word_s=0.35, doubtful=(), flags=None, lanes=1, has_words=True):
    """Return segments of sentences, a word after the other; `doubtful` words were hardly heard."""
    segments, now = [], start
    for number, sentence in enumerate(sentences):
        words = []
        for word in sentence.split():
            probability = 0.31 if word.strip(".,").lower() in doubtful else 0.96
            words.append(Word(word=f" {word}", start=now, end=now + 0.3, probability=probability))
            now += word_s
        segments.append(
            Segment(
                id=number,
                seek=0,
                start=words[0].start,
                end=words[-1].end,
                text="".join(word.word for word in words),
                tokens=[1],
                temperature=0.0,
                avg_logprob=-0.2,
                compression_ratio=1.2,
                no_speech_prob=0.01,
                flags=list((flags or {}).get(number, ())),
                words=words if has_words else None,
                channel=number % lanes + 1 if lanes > 1 else None,
            )
        )
        now += 0.4
    return segments


def transcript(segments, *, duration_s=None, source="", language="en", **fields):
    """Return a transcript of segments."""
    length_s = duration_s or (segments[-1].end + 1 if segments else 3.0)
    audio = {"tags": {}, **fields.pop("audio", {})}
    return Transcript(
        job_id="",
        source=source,
        text="".join(segment.text for segment in segments),
        language=language,
        language_probability=0.98,
        segments=segments,
        audio=Audio(
            duration_s=length_s, sample_rate_hz=RATE_HZ, channels=1, format="WAV, PCM_16", **audio
        ),
        model=MODEL,
        timing=Timing(total_s=1.5, queue_s=3.0, real_time_factor=42.0),
        **fields,
    )


def archive(folder, num_files=24):
    """Write recordings below a folder; return (name, path, answer) of each."""
    made = []
    for number in range(num_files):
        year = 1971 + number % 4
        name = f"interviews/{year}/tape {number:02} side {'AB'[number % 2]}.wav"
        sentences = [SAYINGS[(number + step) % len(SAYINGS)] for step in range(4 + number % 3)]
        flags = {1: ("low_confidence",)} if number % 5 == 2 else {}
        segments = said(
            sentences, doubtful={"keys", "hum", "upright"}, flags=flags, lanes=1 + (number == 3)
        )
        path = write_tone(folder / name, segments[-1].end + 1)
        made.append((name, path, transcript(segments)))
    return made + broken(folder)


def broken(folder):
    """Return recordings that fail, each for a reason of its own."""
    kinds = (
        ("interviews/1974/damp.wav", CorruptAudio("header", "must hold 96 kB of samples", 1024)),
        ("interviews/1974/torn.wav", CorruptAudio("header", "must hold 12 kB of samples", 7)),
        ("letters/list.doc", UnsupportedFormat("header", "must be audio of a known format", "OLE")),
        ("letters/share.wav", SourceUnreachable("share", "must answer within 60 s")),
    )
    made = []
    for name, error in kinds:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no audio")
        made.append((name, path, error))
    return made


def submit(farm, made, batch):
    """Enqueue recordings as a batch; return job ids by name."""
    jobs = [
        Job(
            source=str(path),
            name=name,
            batch=batch,
            audio_sha256=sha256(repr((batch, name)).encode()).hexdigest(),
        )
        for name, path, _ in made
    ]
    note_batch(farm.connection, farm.settings, batch)
    return dict(zip([name for name, *_ in made], farm.submit(*jobs), strict=True))


def answers(made):
    """Return what an engine is to say, by source."""
    return {str(path): answer for _, path, answer in made}
