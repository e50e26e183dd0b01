"""Beam search on a GPU beside greedy decoding, with large-v3-turbo's shapes and random weights.

    python -m tests.benchmarks.bench_beam_gpu [--slots 64,128,192] [--beams 5] [--seconds 12]

`device` is the engine's device without files and text: windows are encoded and decoded, all logit
rules included, as fast as they fit. Every window takes exactly 112 steps, greedy or with beams, so
that the work does not depend on what random weights say. Each kind has its best slots; the ratio is
of the two best. After each line all so far is printed: what is cut off still tells.
"""

import argparse
import gc
import json
import time

import mlx.core as mx

from producer.errors import ScribefarmError
from producer.settings import Settings
from tests.benchmarks.gpu.ours import OneWindow, dimensions, every_window_alike, random_weights
from tests.benchmarks.gpu.shapes import TOKENS, WINDOW_S, leave
from tests.stage.replies import all_replies
from worker.device.backend import set_up_cuda
from worker.device.decode_request import BeamSearch, Decode
from worker.models.load import pin
from worker.models.whisper.family import WhisperFamily
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.requests import Encode
from worker.models.whisper.tokenizer import Tokenizer


def windows_per_s(family, beams, seconds):
    """Return windows that end in a second, once all slots have been in use for a while."""
    stepper, batch_size = family.stepper, family.plan.batch_size
    slots = min(family.plan.slots, family.plan.rows // beams)
    tokenizer, mel = Tokenizer(dimensions().n_vocab, "en", "transcribe"), OneWindow()
    rules = row_rules(tokenizer, every_window_alike())
    states, next_id, ended, started = [], 0, 0, None
    # Windows that join together end together: the first round is let go by, too.
    warm_windows = 2 * slots
    warm_until = time.perf_counter() + 90
    until = float("inf")
    while time.perf_counter() < until:
        if not states:
            states = all_replies(family.encode([Encode(0, 3000, features=mel)] * batch_size))
        while states and stepper.num_wanted < slots:
            stepper.add(next_id, decode(states.pop(), tokenizer, rules, beams))
            next_id += 1
        ended += len(stepper.step())
        is_warm = ended >= warm_windows or time.perf_counter() > warm_until
        if started is None and is_warm:
            started, ended = time.perf_counter(), 0
            until = started + seconds
    return ended / (time.perf_counter() - started)


def decode(states, tokenizer, rules, beams):
    return Decode(
        encoder_states=states,
        prompt=tokenizer.sot_sequence,
        sot_index=0,
        no_speech=tokenizer.no_speech,
        eot=tokenizer.eot,
        max_tokens=TOKENS["turbo"],
        rules=rules,
        temperature=0.0,
        seeds=(0,),
        search=BeamSearch(beams) if beams > 1 else None,
    )


def step_ms(family, beams, steps=40):
    """Return what a step of all slots takes, without anything beside it."""
    stepper, slots = family.stepper, min(family.plan.slots, family.plan.rows // beams)
    tokenizer = Tokenizer(dimensions().n_vocab, "en", "transcribe")
    rules = row_rules(tokenizer, every_window_alike())
    [states] = all_replies(family.encode([Encode(0, 3000, features=OneWindow())]))
    mx.eval(states)
    stepper.reset()
    for key in range(slots):
        stepper.add(key, decode(states, tokenizer, rules, beams))
    for _ in range(20):
        stepper.step()
    started = time.perf_counter()
    for _ in range(steps):
        stepper.step()
    taken = (time.perf_counter() - started) / steps * 1e3
    stepper.reset()
    return taken


def measure(weights, slots, beams, seconds):
    """Return the figures of one kind with so many slots."""
    family = WhisperFamily(weights, mx.float16, num_beams=beams)
    started = time.perf_counter()
    pin(family, Settings(worker={"slots": slots}))
    pinned_s = time.perf_counter() - started
    mx.reset_peak_memory()
    rate = windows_per_s(family, beams, seconds)
    figures = {
        "slots": slots,
        "beams": beams,
        "windows_per_s": round(rate, 2),
        "times_real_time": round(rate * WINDOW_S),
        "step_ms": round(step_ms(family, beams), 3),
        "peak_gb": round(mx.get_peak_memory() / 1e9, 2),
        "pinned_s": round(pinned_s, 1),
        "plan": str(family.plan),
        "row_mb": round(family.needs.row_bytes / 1e6, 2),
        "window_mb": round(family.needs.window_bytes / 1e6, 2),
    }
    del family
    gc.collect()
    mx.clear_cache()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", default="128,64,192")
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--most-s", type=float, default=430, help="no line is begun after this")
    arguments = parser.parse_args()
    set_up_cuda(mx.float16)
    began = time.perf_counter()
    report = {"mlx": mx.__version__, "device": mx.device_info().get("device_name"), "rows": []}
    weights = random_weights(dimensions(), mx.float16)
    for slots in map(int, arguments.slots.split(",")):
        for beams in (1, arguments.beams):
            if time.perf_counter() - began > arguments.most_s:
                break
            try:
                row = measure(weights, slots, beams, arguments.seconds)
            except ScribefarmError as error:
                row = {"slots": slots, "beams": beams, "error": str(error)}
            report["rows"].append(row)
            report |= compared(report["rows"], arguments.beams)
            report["seconds"] = round(time.perf_counter() - began)
            print(json.dumps(report), flush=True)
    print(json.dumps(report, indent=1), flush=True)
    leave()


def compared(rows, beams):
    """Return the ratio of the best of both kinds, and what a beam takes of the device's memory."""
    greedy, searched = (
        max(
            (row for row in rows if row["beams"] == each and "windows_per_s" in row),
            key=lambda row: row["windows_per_s"],
            default=None,
        )
        for each in (1, beams)
    )
    if greedy is None or searched is None:
        return {}
    ratio = greedy["windows_per_s"] / searched["windows_per_s"]
    by_slots = {row["slots"]: row for row in rows if row["beams"] == 1 and "peak_gb" in row}
    beside = by_slots.get(searched["slots"])
    more_gb = searched["peak_gb"] - beside["peak_gb"] if beside else float("nan")
    return {
        "wall_time_ratio": round(ratio, 2),
        "best_slots": {"greedy": greedy["slots"], "beams": searched["slots"]},
        "measured_mb_a_beam": round(1e3 * more_gb / (searched["slots"] * (beams - 1)), 1),
    }


if __name__ == "__main__":
    main()
