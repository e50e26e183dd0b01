"""`python -m worker.cli.rows_alone`: whether each recording's text is the same alone and in a batch.

It prints JSON: the dtype, how many recordings, and the texts that differ. On Metal that would show
arrays that get mixed up (mlx#3866), or products that depend on the number of rows.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import soundfile

from producer import log
from producer.settings import Settings, load_settings
from worker.audio.recording import SAMPLE_RATE_HZ, load_audio
from worker.cli.measure import Workbench, clip
from worker.device.backend import choose_dtype, dtype_name, on_gpu

NUM_RECORDINGS = 6


def compare(settings: Settings) -> dict[str, Any]:
    """Transcribe pieces of the packaged clip together and then one by one.

    Raises:
        ScribefarmError: the model cannot be loaded.
    """
    dtype = dtype_name(choose_dtype(settings.model.dtype))
    speech = clip()
    if speech is None:
        return {"dtype": dtype, "skipped": "useful-moonshine-onnx, which has the clip, is absent"}
    if dtype != "float32" and not on_gpu():
        return {"dtype": dtype, "skipped": "half precision is for GPUs"}
    options = settings.options.model_copy(update={"temperatures": (0.0,)})
    with tempfile.TemporaryDirectory() as folder, Workbench(settings) as bench:
        paths = _pieces(speech, Path(folder))
        together = bench.run(paths, options)
        alone = [bench.run([path], options) for path in paths]
    texts = [(together.texts.get(number), each.texts.get(0)) for number, each in enumerate(alone)]
    failures = [*together.failures, *(failure for each in alone for failure in each.failures)]
    return {
        "dtype": dtype,
        "num_recordings": len(paths),
        "rows_per_step": round(together.rows_per_step, 1),
        "differences": [pair for pair in texts if pair[0] != pair[1]],
        "failures": failures,
    }


def _pieces(speech: Path, folder: Path) -> list[Path]:
    """Write pieces of the clip that begin at different seconds: no two are alike."""
    samples, _ = load_audio(str(speech))
    paths = [folder / f"{number}.wav" for number in range(NUM_RECORDINGS)]
    for number, path in enumerate(paths):
        soundfile.write(path, samples[number * SAMPLE_RATE_HZ :], SAMPLE_RATE_HZ)
    return paths


def main() -> None:
    """Read the command line and print the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--settings", type=Path)
    asked = parser.parse_args()
    settings = load_settings(asked.settings, model={"name": asked.model, "dtype": asked.dtype})
    log.configure(settings.log.model_copy(update={"level": "error"}))
    sys.stdout.write(json.dumps(compare(settings)) + "\n")


if __name__ == "__main__":
    main()
