"""How much of a decode step is the host's own work, and what that work is.

    python tests/benchmarks/bench_host_share.py [--rows 32] [--model tiny.en] [--steps 50]

Every row decodes real speech with all logit rules, as the engine's device does it: prompts,
sampling, reading, row bookkeeping. The share is the step's time in which the engine's thread did
not wait for the device; its CPU time is shown too. On a CPU the device is whatever computes there:
NumPy's network, in the engine's thread and its helpers, and MLX's own thread with the rows' state,
which `outside_network_share` counts as the host's. A second pass runs under cProfile.
"""

import argparse
import cProfile
import json
import os
import pstats
import sys
import tempfile
import time
from pathlib import Path

WARM_STEPS = 3


def start_rows(family, states, rows):
    """Let all rows join, each a window of its own to the device."""
    from worker.device.decode_request import Decode
    from worker.models.whisper.tokenizer import Tokenizer

    stepper = family.stepper
    stepper.reset()
    tokenizer = Tokenizer(family.limits.n_vocab, "en", "transcribe")
    rules = family.network.default_rules
    # Without an end of text all rows last as long as the measurement.
    rules = type(rules)((*rules.suppress, tokenizer.eot), rules.suppress_first, rules.timestamps)
    for key in range(rows):
        stepper.add(
            key,
            Decode(
                encoder_states=states,
                prompt=tokenizer.sot_sequence,
                sot_index=0,
                no_speech=tokenizer.no_speech,
                eot=tokenizer.eot,
                max_tokens=200,
                rules=rules,
                temperature=0.0,
                seeds=(0,),
            ),
        )
    for _ in range(WARM_STEPS):
        stepper.step()


def measure(stepper, steps):
    model = stepper.decoder.model
    waited_s, network_s = stepper.wait_s, model.busy_s
    busy_s, started = time.thread_time(), time.perf_counter()
    for _ in range(steps):
        stepper.step()
    wall_s = time.perf_counter() - started
    return {
        "num_active": stepper.num_active,
        "step_ms": wall_s / steps * 1e3,
        "wait_ms": (stepper.wait_s - waited_s) / steps * 1e3,
        "host_ms": (wall_s - stepper.wait_s + waited_s) / steps * 1e3,
        "host_cpu_ms": (time.thread_time() - busy_s) / steps * 1e3,
        "host_share": 1 - (stepper.wait_s - waited_s) / wall_s,
        # Of MLX's network on any device nothing is known: it is the device.
        "outside_network_share": 1 - (model.busy_s - network_s) / wall_s if model.busy_s else None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--json", action="store_true", help="figures only")
    arguments = parser.parse_args()

    from producer.settings import load_settings
    from tests.stage.replies import all_replies
    from worker.audio.recording import load_audio
    from worker.cli.machine import blas_library, machine, versions
    from worker.cli.measure import clip, write_window
    from worker.models.load import load_family
    from worker.models.whisper.requests import Encode

    settings = load_settings(model={"name": arguments.model}, worker={"slots": arguments.rows})
    family = load_family(settings)
    with tempfile.TemporaryDirectory() as folder:
        window = Path(folder) / "window.wav"
        write_window(window, clip())
        samples, _ = load_audio(str(window))
    mel = family.features()
    mel.push(samples)
    mel.finish()
    [states] = all_replies(family.encode([Encode(0, 3000, features=mel)]))
    start_rows(family, states, arguments.rows)
    report = {
        "machine": machine() | {"blas": blas_library(settings)},
        "versions": versions(),
        "model": arguments.model,
    }
    report |= {"rows": arguments.rows, "steps": arguments.steps}
    report |= measure(family.stepper, arguments.steps)
    print(json.dumps(report, indent=1), flush=True)
    if not arguments.json:
        start_rows(family, states, arguments.rows)
        profile = cProfile.Profile()
        profile.runcall(measure, family.stepper, arguments.steps)
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
    sys.stdout.flush()
    # MLX may abort in the interpreter's own exit once another thread has used it.
    os._exit(0)


if __name__ == "__main__":
    main()
