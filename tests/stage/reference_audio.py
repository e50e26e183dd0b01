"""Samples as openai-whisper hears them: by the ffmpeg command, which CI installs."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest


@functools.cache
def ffmpeg_version() -> int:
    """Return the command's major version; skip where it is not installed, but not in CI."""
    if shutil.which("ffmpeg") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have the ffmpeg command")
        pytest.skip("needs the ffmpeg command")
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version n?(\d+)", said)
    assert found, said[:200]
    return int(found[1])


def resampler_like_ffmpeg() -> str:
    """Return the name of the resampler that is the installed command's."""
    return "ffmpeg" if ffmpeg_version() < 6 else "ffmpeg6"


def ffmpeg(*arguments: str | Path) -> None:
    """Run the command, to make a file."""
    ffmpeg_version()
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=60)


def read_like_the_reference(path: str | Path) -> np.ndarray:
    """Return the float32 samples, shape (n,), that openai-whisper reads, by its own command."""
    ffmpeg_version()
    command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "0", "-i", str(path)]
    output = ["-f", "s16le", "-ac", "1", "-acodec", "pcm_s16le", "-ar", "16000", "-"]
    read = subprocess.run([*command, *output], capture_output=True, check=True, timeout=600)
    return np.frombuffer(read.stdout, np.int16).astype(np.float32) / 32768.0
