"""The engine on a GPU, beside transformers, with large-v3-turbo's shapes and random weights.

    python tests/benchmarks/bench_engine_gpu.py [--parts micro,device,engine,transformers] [--slots 128]

`device` is the engine's device without the engine: one window again and again, no file, no text.
Every window samples exactly 112 tokens, all logit rules included, so that both sides do the same
work whatever the weights say. One audio second is one second of a 30 s window.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import soundfile

from producer.job import Job, Options
from producer.settings import Settings
from worker.device.backend import set_up_cuda
from worker.device.decode_request import Decode
from worker.device.decoder import Decoder
from worker.device.row import Row
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Progress, Ticket
from worker.models.load import pin
from worker.models.whisper.family import WhisperFamily
from worker.models.whisper.network import Whisper
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.requests import Encode
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.weights.parameters import Dimensions, Weights, parameter_shapes

TURBO = Dimensions(
    n_mels=128,
    n_audio_ctx=1500,
    n_audio_state=1280,
    n_audio_head=20,
    n_audio_layer=32,
    n_vocab=51866,
    n_text_ctx=448,
    n_text_state=1280,
    n_text_head=20,
    n_text_layer=4,
)
TOKENS = 112
WINDOW_S = 30
# 2.3 TFLOP a window at the matmul peak measured in the same run.
ENCODER_TFLOP = 2.3


def random_weights(dims, dtype):
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
    heads = np.array([[2, 4], [2, 11], [3, 3], [3, 6], [3, 11], [3, 14]])
    return Weights(dims, arrays, heads, None, "turbo-shapes", "random", "memory")


def timed(run, repeats):
    run()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def bench_micro(report, slots):
    model = Whisper(random_weights(TURBO, mx.float16), mx.float16)
    mx.eval(model.parameters())
    square = mx.random.normal((8192, 8192)).astype(mx.float16)
    seconds = timed(lambda: mx.eval(square @ square), 10)
    report["peak_tflops"] = round(2 * 8192**3 / seconds / 1e12)
    for batch in (1, 8, 16, 32):
        mel = mx.random.normal((batch, 3000, 128))
        seconds = timed(lambda mel=mel: mx.eval(model.encode_audio(mel)), 5)
        report[f"encoder_windows_per_s_{batch}"] = round(batch / seconds, 1)
    for rows in sorted({8, 32, 64, slots}):
        report[f"step_ms_{rows}"] = round(step_ms(model, rows), 3)


def step_ms(model, rows, steps=60):
    tokenizer = Tokenizer(TURBO.n_vocab, "en", "transcribe")
    states = model.encode_audio(mx.random.normal((1, 3000, 128)))[0]
    mx.eval(states)
    decoder = Decoder(model, rows, compile_step=True)
    rules = model.default_rules
    rules = type(rules)((*rules.suppress, tokenizer.eot), rules.suppress_first, rules.timestamps)
    decoder.insert(
        [
            Row(
                prompt=tokenizer.sot_sequence,
                encoder_states=states,
                eos=frozenset(),
                max_tokens=400,
                rules=rules,
                no_speech_token=tokenizer.no_speech,
            )
            for _ in range(rows)
        ]
    )
    for _ in range(10):
        decoder.step()
    started = time.perf_counter()
    for _ in range(steps):
        decoder.step()
    return (time.perf_counter() - started) / steps * 1e3


def load_turbo(settings):
    family = WhisperFamily(random_weights(TURBO, mx.float16), mx.float16)
    pin(family, settings)
    return family


def turbo_options():
    return Options(
        language="en",
        temperatures=(0.0,),
        condition_on_previous_text=False,  # transformers' prompts have no history either
        compression_ratio_threshold=None,
        logprob_threshold=None,
        no_speech_threshold=None,
        suppress_tokens=(-1, Tokenizer(TURBO.n_vocab).eot),
        sample_len=TOKENS,
    )


class OneWindow:
    """A recording whose every window is the same noise, on the device already."""

    def __init__(self):
        self._mel = mx.random.normal((3000, TURBO.n_mels))
        mx.eval(self._mel)

    def window(self, seek, size):
        return self._mel


def bench_device(report, slots, seconds):
    family = load_turbo(Settings(worker={"slots": slots}))
    stepper, batch_size = family.stepper, family.plan.batch_size
    tokenizer, mel = Tokenizer(TURBO.n_vocab, "en", "transcribe"), OneWindow()
    rules = row_rules(tokenizer, turbo_options())
    states, next_id, ended = [], 0, 0
    warm_until = time.perf_counter() + 6
    started, until = None, warm_until + seconds
    while time.perf_counter() < until:
        if not states:
            states = family.encode([Encode(0, 3000, features=mel)] * batch_size)
        while states and stepper.num_wanted < slots:
            request = Decode(
                encoder_states=states.pop(),
                prompt=tokenizer.sot_sequence,
                sot_index=0,
                no_speech=tokenizer.no_speech,
                eot=tokenizer.eot,
                max_tokens=TOKENS,
                rules=rules,
                temperature=0.0,
                seeds=(0,),
            )
            stepper.add(next_id, request)
            next_id += 1
        ended += len(stepper.step())
        if started is None and time.perf_counter() > warm_until:
            started, ended = time.perf_counter(), 0
    report["device_times_real_time"] = round(ended * WINDOW_S / (time.perf_counter() - started))


def noise_files(folder, count, seconds):
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        path = Path(folder) / f"{index}.wav"
        samples = generator.normal(0, 3000, seconds * 16000).astype(np.int16)
        soundfile.write(path, samples, 16000, subtype="PCM_16")
        paths.append(str(path))
    return paths


def bench_engine(report, slots, seconds):
    settings = Settings(worker={"slots": slots}, audio={"threads": 4})

    options = turbo_options()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = noise_files(folder, 8, 60)
        engine = BatchEngine(settings, load_turbo)
        for index in range(engine.capacity):
            job = Job(source=paths[index % len(paths)], options=options)
            engine.submit(Ticket(str(index), str(index), job))
        next_id = engine.capacity
        warm_until = time.perf_counter() + 10
        started, windows, until = None, 0, warm_until + seconds
        while time.perf_counter() < until:
            for event in engine.poll(0.05):
                if isinstance(event, Progress):
                    windows += 1
                elif isinstance(event, Done | Failed):
                    job = Job(source=paths[next_id % len(paths)], options=options)
                    engine.submit(Ticket(str(next_id), str(next_id), job))
                    next_id += 1
            if started is None and time.perf_counter() > warm_until:
                started, windows = time.perf_counter(), 0
                before = engine.stats.figures()
        taken = time.perf_counter() - started
        engine.stop()
    report["engine_slots"] = slots
    figures = engine.stats.figures().items()
    report["engine_stats"] = {name: round(value - before[name], 2) for name, value in figures}
    share = windows / taken * ENCODER_TFLOP / report.get("peak_tflops", float("nan"))
    report["engine_share_of_encoder_ceiling"] = round(share, 3)
    report["engine_windows_per_s"] = round(windows / taken, 2)
    report["engine_times_real_time"] = round(windows * WINDOW_S / taken)
    report["engine_recordings"] = next_id
    report["engine_peak_gb"] = round(mx.get_peak_memory() / 1e9, 1)


def bench_transformers(report):
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration, logging

    logging.set_verbosity_error()  # it warns of the forced length at each call

    config = WhisperConfig(
        vocab_size=51866, num_mel_bins=128, encoder_layers=32, encoder_attention_heads=20,
        decoder_layers=4, decoder_attention_heads=20, d_model=1280, encoder_ffn_dim=5120,
        decoder_ffn_dim=5120, max_source_positions=1500, max_target_positions=448,
    )  # fmt: skip
    with torch.device("cuda"):  # drawing the weights on the CPU takes a minute
        model = WhisperForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=torch.float16
        ).eval()
    best = 0.0
    for batch in (8, 24, 32, 64):
        mel = torch.randn(batch, 128, 3000, device="cuda", dtype=torch.float16)
        prompt = torch.tensor([[50258, 50259, 50360]] * batch, device="cuda")

        def run(mel=mel, prompt=prompt):
            with torch.inference_mode():
                out = super(WhisperForConditionalGeneration, model).generate(
                    input_features=mel,
                    decoder_input_ids=prompt,
                    do_sample=False,
                    max_new_tokens=TOKENS,
                    min_new_tokens=TOKENS,
                    use_cache=True,
                )
            torch.cuda.synchronize()
            assert out.shape[1] >= TOKENS

        seconds = timed(run, 3)
        report[f"transformers_times_real_time_{batch}"] = round(batch * WINDOW_S / seconds)
        best = max(best, batch * WINDOW_S / seconds)
    report["transformers_best"] = round(best)
    import transformers

    report["transformers_version"] = f"{transformers.__version__}, torch {torch.__version__}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="micro,device,engine,transformers")
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=15)
    arguments = parser.parse_args()
    set_up_cuda(mx.float16)
    report = {"mlx": mx.__version__, "device": mx.device_info().get("device_name")}
    parts = arguments.parts.split(",")
    if "micro" in parts:
        bench_micro(report, arguments.slots)
        print(json.dumps(report), flush=True)
    if "device" in parts:
        bench_device(report, arguments.slots, arguments.seconds)
        print(json.dumps(report), flush=True)
    if "engine" in parts:
        bench_engine(report, arguments.slots, arguments.seconds)
        print(json.dumps(report), flush=True)
    mx.clear_cache()
    if "transformers" in parts:
        bench_transformers(report)
    best = report.get("transformers_best")
    if best and "engine_times_real_time" in report:
        report["ratio"] = round(report["engine_times_real_time"] / best, 2)
    print(json.dumps(report, indent=1), flush=True)
    os._exit(0)  # MLX's CUDA build aborts in its own exit handlers once a second thread used it


if __name__ == "__main__":
    main()
