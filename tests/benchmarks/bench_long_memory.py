"""Memory while a very long recording is read: 12 hours of real speech, and 36 hours by setting.

    python tests/benchmarks/bench_long_memory.py [HOURS]

The 12 hours (or HOURS) are the shared hour of German in Opus, repeated in one chained Ogg file; the
36 hours a WAV of 16-bit samples at 16 kHz, sparse on the disk. Prints the resident memory hour by
hour. Exits 1 if it grows by 16 MB or more after the first hour, or if a sample is missing.
"""

import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.stage.made_audio import wav_header
from worker.audio.recording import SAMPLE_RATE_HZ, open_recording

HOUR_S = 3600
WAV_HOURS = 36
MAX_GROWTH_BYTES = 16_000_000
OPUS = Path(__file__).parents[3] / "shared" / "data" / "audio" / "long" / "kerstin-60min.opus"


def read(path: Path, max_seconds: float) -> bool:
    """Read a recording, print its memory curve, and return whether it stayed flat."""
    process, started = psutil.Process(), time.process_time()
    recording = open_recording(path, max_seconds=max_seconds)
    num_samples = next_hour = first = most = 0
    for samples in recording:
        num_samples += len(samples)
        if num_samples < next_hour:
            continue
        next_hour += HOUR_S * SAMPLE_RATE_HZ
        most = process.memory_info().rss
        if num_samples > HOUR_S * SAMPLE_RATE_HZ:
            first = first or most
        hours = num_samples / SAMPLE_RATE_HZ / HOUR_S
        print(f"  {hours:5.2f} h  {most / 1e6:6.1f} MB", flush=True)
    grown, cpu_s = most - first, time.process_time() - started
    print(
        f"{path.name}: {recording.duration_s / HOUR_S:.4f} h read in {cpu_s:.0f} s of CPU; "
        f"{grown / 1e6:+.1f} MB after the first hour"
    )
    is_whole = abs(num_samples - recording.duration_s * SAMPLE_RATE_HZ) <= 1
    return is_whole and grown < MAX_GROWTH_BYTES


def main() -> int:
    """Run both; return the exit code."""
    hours = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    with tempfile.TemporaryDirectory() as folder:
        wav, opus = Path(folder, "hours.wav"), Path(folder, "hours.opus")
        num_bytes = WAV_HOURS * HOUR_S * SAMPLE_RATE_HZ * 2
        wav.write_bytes(wav_header(num_bytes))
        with wav.open("r+b") as file:
            file.truncate(44 + num_bytes)
        with opus.open("wb") as file:
            for _ in range(hours):
                file.write(OPUS.read_bytes())
        is_flat = [read(wav, WAV_HOURS * HOUR_S), read(opus, 1.01 * hours * HOUR_S)]
    return 0 if all(is_flat) else 1


if __name__ == "__main__":
    sys.exit(main())
