"""Whisper of random weights as a model folder that the worker loads like any other.

python -m tests.benchmarks.gpu.ours [--shapes tiny] [--model FOLDER]
"""

import time

import mlx.core as mx
import numpy as np

from producer.job import Options
from tests.benchmarks.gpu.shapes import SHAPES, TOKENS, leave, parser, tell
from worker.device.backend import set_up_cuda
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.weights.convert import save
from worker.models.whisper.weights.parameters import Dimensions, Weights, parameter_shapes


def dimensions(shapes="turbo"):
    return Dimensions(**SHAPES[shapes])


def random_weights(dims, dtype):
    """Return weights of normal numbers, layer norms around one; six heads to align by."""
    key = mx.random.key(0)
    arrays = {}
    for name, shape in parameter_shapes(dims).items():
        key, drawn = mx.random.split(key)
        scale = 0.02 if len(shape) > 1 else 0.01
        array = mx.random.normal(shape, key=drawn) * scale
        arrays[name] = (array + 1 if "ln" in name and name.endswith("weight") else array).astype(
            dtype
        )
    mx.eval(arrays)
    last, heads = dims.n_text_layer - 1, dims.n_text_head
    pairs = {(last, head % heads) for head in range(6)}
    return Weights(dims, arrays, np.array(sorted(pairs)), None, "random", "random", "memory")


def write_model(folder, shapes):
    """Write the model in float16 unless it is there."""
    if not (folder / "config.json").is_file():
        set_up_cuda(mx.float16)
        save(random_weights(dimensions(shapes), mx.float16), folder)


def every_window_alike(shapes="turbo"):
    """Return options by which every window samples the same number of tokens, with all rules."""
    return Options(
        language="en",
        temperatures=(0.0,),
        beam_size=None,
        condition_on_previous_text=False,  # transformers' prompts have no history either
        compression_ratio_threshold=None,
        logprob_threshold=None,
        no_speech_threshold=None,
        suppress_tokens=(-1, Tokenizer(SHAPES[shapes]["n_vocab"]).eot),
        sample_len=TOKENS[shapes],
    )


class OneWindow:
    """A recording whose every window is the same noise, on the device already."""

    def __init__(self, n_mels=128):
        self._mel = mx.random.normal((3000, n_mels))
        mx.eval(self._mel)

    def window(self, _seek, _size):
        return self._mel


def main():
    arguments = parser(__doc__).parse_args()
    started = time.perf_counter()
    write_model(arguments.model, arguments.shapes)
    size = sum(path.stat().st_size for path in arguments.model.iterdir())
    tell({"model_s": round(time.perf_counter() - started, 1), "megabytes": round(size / 1e6)})
    leave()


if __name__ == "__main__":
    main()
