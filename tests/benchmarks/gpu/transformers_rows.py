"""transformers' `generate` alone, mels on the device: the best of its batches.

    python -m tests.benchmarks.gpu.transformers_rows [--batches 16,...,256] [--static] [--shapes tiny]

SDPA, float16, greedy. `--static`: with a static cache, for which transformers compiles the decoder's
forward by itself (torch.compile, CUDA graphs); the seconds of the first call are told.
"""

import time

from tests.benchmarks.gpu.shapes import (
    SHAPES,
    TOKENS,
    WINDOW_S,
    best_of,
    numbers,
    parser,
    tell,
)
from tests.benchmarks.gpu.torch_model import facts, prompt_tokens, random_whisper, waiting

RUNS = 2


def generator(model, batch, arguments):
    """Return what generates one batch of windows and waits for the device."""
    import torch
    from transformers import CompileConfig
    from transformers.generation import GenerationMixin

    device, tokens = model.device, TOKENS[arguments.shapes]
    mel = torch.randn(batch, SHAPES[arguments.shapes]["n_mels"], 3000).to(device, model.dtype)
    prompt = torch.tensor([prompt_tokens()] * batch, device=device)
    more = {}
    if arguments.static:
        more["cache_implementation"] = "static"
        if device.type == "cpu":
            more["compile_config"] = CompileConfig(mode="default")
            more["compile_config"]._compile_all_devices = True
    wait = waiting(device)
    # Compiled graphs keep tensors from call to call, which those of inference mode do not allow.
    without_gradients = torch.no_grad if arguments.static else torch.inference_mode

    def run():
        with without_gradients():
            # What Whisper's own generate calls when it has prepared all.
            out = GenerationMixin.generate(
                model,
                input_features=mel,
                decoder_input_ids=prompt,
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                use_cache=True,
                **more,
            )
        wait()
        if out.shape != (batch, tokens + prompt.shape[1]):
            raise SystemExit(f"generated {tuple(out.shape)}")

    return run


def measure(model, batch, arguments, label, found):
    """Time a batch under a label, and tell all so far."""
    run = generator(model, batch, arguments)
    started = time.perf_counter()
    run()
    first_s = round(time.perf_counter() - started, 1)
    rate = round(batch * WINDOW_S / best_of(run, RUNS))
    found[label] = {"times_real_time": rate, "first_call_s": first_s}
    best = max(found, key=lambda each: found[each]["times_real_time"])
    tell({"times_real_time": found[best]["times_real_time"], "setting": best, "settings": found})


def main():
    flags = parser(__doc__)
    flags.add_argument("--batches", type=numbers, default=[16, 32, 64, 128, 192, 256])
    flags.add_argument("--static", action="store_true")
    arguments = flags.parse_args()
    import torch

    started = time.perf_counter()
    model = random_whisper(arguments.shapes)
    tell({**facts(), "model_s": round(time.perf_counter() - started, 1)})
    found = {}
    if not arguments.static:
        for batch in arguments.batches:
            measure(model, batch, arguments, f"batch {batch}", found)
        return
    first = arguments.batches[0]
    measure(model, first, arguments, f"batch {first}, static cache compiled", found)
    for batch in arguments.batches:
        torch.compiler.reset()  # else it compiles once more, for every batch
        model.model.encoder.compile(dynamic=False)
        measure(model, batch, arguments, f"batch {batch}, encoder and static cache compiled", found)


if __name__ == "__main__":
    main()
