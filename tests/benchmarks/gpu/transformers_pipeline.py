"""transformers' own pipeline from files to text: "automatic-speech-recognition", chunks of 30 s.

    python -m tests.benchmarks.gpu.transformers_pipeline [--batches 16,...,128] [--recordings FOLDER] [--static]

Chunks lie side by side (`stride_length_s=0`): its default of 5 s on both sides computes half as much
again for the same audio. Files are read by soundfile within the timed region, as the pipeline asks
for them; once in its own process, and once ahead of it in another (`num_workers`). `--static`: with
a static cache and a compiled encoder, every setting run once before it is timed, for it compiles.
"""

import time

from tests.benchmarks.gpu.shapes import (
    RATE_HZ,
    SHAPES,
    TOKENS,
    WINDOW_S,
    numbers,
    parser,
    tell,
)
from tests.benchmarks.gpu.speech import num_windows
from tests.benchmarks.gpu.torch_model import (
    facts,
    random_whisper,
    ready_for_pipeline,
    torch_device,
    torch_dtype,
    waiting,
)

# Windows of a run, in batches: what a last batch lacks must not count for much.
FULL_BATCHES = 4


def files_dataset(paths):
    """Return a torch dataset that reads a file when it is asked for it."""
    import soundfile
    from torch.utils.data import Dataset

    class Files(Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            samples, rate_hz = soundfile.read(paths[index], dtype="float32")
            return {"raw": samples, "sampling_rate": rate_hz}

    return Files()


def make_pipeline(shapes):
    from transformers import WhisperFeatureExtractor, pipeline

    model = random_whisper(shapes)
    tokenizer = ready_for_pipeline(model)
    extractor = WhisperFeatureExtractor(
        feature_size=SHAPES[shapes]["n_mels"], sampling_rate=RATE_HZ, chunk_length=WINDOW_S
    )
    return pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=tokenizer,
        feature_extractor=extractor,
        device=torch_device(),
        dtype=torch_dtype(),
        chunk_length_s=WINDOW_S,
        stride_length_s=0,
        ignore_warning=True,
    )


def compile_encoder(pipe):
    """Compile a pipeline's encoder; with a static cache transformers compiles the decoder by itself."""
    import torch

    pipe.model.model.encoder.compile()
    # Compiled graphs keep tensors from call to call, which those of inference mode do not allow.
    pipe.get_inference_context = lambda: torch.no_grad


def transcribed(pipe, paths, batch, workers, asked):
    """Transcribe files, `generate` being asked so; return the seconds it took and their texts."""
    wait = waiting(pipe.device)
    started = time.perf_counter()
    found = pipe(files_dataset(paths), batch_size=batch, num_workers=workers, generate_kwargs=asked)
    texts = [each["text"] for each in found]
    wait()
    return time.perf_counter() - started, texts


def asked_of_generate(tokens, static):
    """Return the arguments of `generate` for so many tokens a window."""
    asked = {
        "max_new_tokens": tokens,
        "min_new_tokens": tokens,
        "num_beams": 1,
        "language": "en",
        "task": "transcribe",
    }
    return asked | ({"cache_implementation": "static"} if static else {})


def main():
    flags = parser(__doc__)
    flags.add_argument("--batches", type=numbers, default=[64, 128, 32, 16])
    flags.add_argument("--files", type=int, default=48)
    flags.add_argument("--static", action="store_true")
    arguments = flags.parse_args()
    started = time.perf_counter()
    pipe = make_pipeline(arguments.shapes)
    asked = asked_of_generate(TOKENS[arguments.shapes], arguments.static)
    tell({**facts(), "model_s": round(time.perf_counter() - started, 1)})
    if arguments.static:
        compile_encoder(pipe)
    paths = sorted(arguments.recordings.glob("*.flac"))[: arguments.files]
    windows = sum(num_windows(number) for number in range(len(paths)))
    if not arguments.static:
        transcribed(pipe, paths[:6], arguments.batches[0], 0, asked)
    found, words, best = {}, 0.0, (0, (0, 0))
    # More processes than one the pipeline does not allow.
    first = arguments.batches[0]
    settings = [(first, 0), *((batch, 1) for batch in arguments.batches), (None, 0)]
    if arguments.static:
        settings = [(batch, 1) for batch in arguments.batches]
    for given, workers in settings:
        batch = given or best[1][0]
        if f"batch {batch}, {workers} workers" in found:
            continue
        times = -(-FULL_BATCHES * batch // windows)
        if arguments.static:
            transcribed(pipe, paths * times, batch, workers, asked)
        seconds, texts = transcribed(pipe, paths * times, batch, workers, asked)
        rate = round(times * windows * WINDOW_S / seconds)
        found[f"batch {batch}, {workers} workers"] = rate
        best = max(best, (rate, (batch, workers)))
        words = sum(len(text.split()) for text in texts) / (times * windows)
        tell(
            {
                "times_real_time": best[0],
                "batch": best[1][0],
                "workers": best[1][1],
                "settings": found,
                "windows": times * windows,
                "words_a_window": round(words, 1),
            }
        )


if __name__ == "__main__":
    main()
