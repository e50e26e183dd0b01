"""Our device without the engine: the encoder, a decode step and the host's part of it, both together.

    python -m tests.benchmarks.gpu.device [--slots 64,128,192,256] [--seconds 8] [--shapes tiny]

`together` is one window again and again, no file, no text: windows are encoded and decoded as fast
as they fit. Every window samples the same number of tokens, with all logit rules.
"""

import time

import mlx.core as mx

from producer.errors import ScribefarmError
from producer.settings import Settings
from tests.benchmarks.gpu.ours import OneWindow, every_window_alike, write_model
from tests.benchmarks.gpu.shapes import (
    SHAPES,
    TOKENS,
    WINDOW_S,
    best_of,
    encoder_tflop,
    leave,
    numbers,
    parser,
    tell,
)
from tests.stage.replies import all_replies
from worker.device.decode_request import Decode
from worker.models.load import pin
from worker.models.whisper.family import load
from worker.models.whisper.prompt import row_rules
from worker.models.whisper.requests import Encode
from worker.models.whisper.tokenizer import Tokenizer

ENCODER_BATCHES = {"turbo": (8, 16, 32), "tiny": (1, 2)}
SQUARE = {"turbo": 8192, "tiny": 256}
WARM_STEPS = 20


def bench_encoder(network, shapes):
    """Tell the matrix product's peak, and windows a second by batch with the share of the peak."""
    size = SQUARE[shapes]
    square = mx.random.normal((size, size)).astype(mx.float16)
    seconds = best_of(lambda: mx.eval(square @ square), 10)
    peak = 2 * size**3 / seconds / 1e12
    found = {}
    for batch in ENCODER_BATCHES[shapes]:
        mel = mx.random.normal((batch, 3000, network.n_mels))
        seconds = best_of(lambda mel=mel: mx.eval(network.encode_audio(mel)), 5)
        found[batch] = round(batch / seconds, 1)
    tflop = encoder_tflop(SHAPES[shapes])
    share = max(found.values()) * tflop / peak
    tell(
        {
            "peak_tflops": round(peak, 1),
            "encoder_tflop": round(tflop, 3),
            "encoder_ceiling_windows_per_s": round(peak / tflop, 1),
            "encoder_windows_per_s": found,
            "encoder_share_of_ceiling": round(share, 3),
        }
    )


class Windows:
    """Makes the requests for one window after another, encoded some at a time."""

    def __init__(self, family, shapes):
        self._family, self._tokens = family, TOKENS[shapes]
        self._tokenizer = Tokenizer(SHAPES[shapes]["n_vocab"], "en", "transcribe")
        self._rules = row_rules(self._tokenizer, every_window_alike(shapes))
        self._encode = Encode(0, 3000, features=OneWindow(SHAPES[shapes]["n_mels"]))
        self._states = []

    def next(self, tokens=None):
        """Return a request to decode a window, by so many tokens if it is said."""
        if not self._states:
            started = self._family.encode([self._encode] * self._family.plan.batch_size)
            self._states = all_replies(started)
        return Decode(
            encoder_states=self._states.pop(),
            prompt=self._tokenizer.sot_sequence,
            sot_index=0,
            no_speech=self._tokenizer.no_speech,
            eot=self._tokenizer.eot,
            max_tokens=tokens or self._tokens,
            rules=self._rules,
            temperature=0.0,
            seeds=(0,),
        )


def together(family, windows, slots, warm_s, seconds):
    """Return windows a second that end while all slots are in use."""
    stepper, next_id, ended = family.stepper, 0, 0
    warm_until = time.perf_counter() + warm_s
    started = None
    while started is None or time.perf_counter() < started + seconds:
        while stepper.num_wanted < slots:
            stepper.add(next_id, windows.next())
            next_id += 1
        ended += len(stepper.step())
        # Windows that joined together end together: the first round is let go by, too.
        if started is None and ended >= slots and time.perf_counter() > warm_until:
            started, ended = time.perf_counter(), 0
    rate = ended / (time.perf_counter() - started)
    stepper.reset()
    return rate


def filled(stepper, windows, rows, steps):
    """Return the stepper with all rows in use, for twice so many steps at least: nobody leaves."""
    for key in range(rows):
        stepper.add(key, windows.next(tokens=2 * steps + 2 * WARM_STEPS))
    for _ in range(WARM_STEPS):
        stepper.step()
    return stepper


def step_costs(family, windows, rows, steps):
    """Return a step's milliseconds with all rows in use, and the host's part of them.

    `host` is the time of the thread in which it did not wait for the device; `dispatch` is starting a
    step while the device has nothing else to do, so that no queue is in the way.
    """
    stepper = filled(family.stepper, windows, rows, steps)
    waited, busy, started = stepper.wait_s, time.thread_time(), time.perf_counter()
    for _ in range(steps):
        stepper.step()
    taken = time.perf_counter() - started
    host = taken - (stepper.wait_s - waited)
    busy = time.thread_time() - busy
    decoder, dispatching = stepper.decoder, 0.0
    for _ in range(min(steps, WARM_STEPS)):
        decoder.collect()
        started = time.perf_counter()
        decoder.dispatch()
        dispatching += time.perf_counter() - started
    stepper.reset()
    return {
        "step_ms": round(1e3 * taken / steps, 3),
        "host_ms": round(1e3 * host / steps, 3),
        "host_share": round(host / taken, 3),
        "thread_cpu_ms": round(1e3 * busy / steps, 3),
        "dispatch_alone_ms": round(1e3 * dispatching / min(steps, WARM_STEPS), 3),
    }


def bench_slots(family, settings, slots, arguments):
    """Return what the device does with so many slots."""
    started = time.perf_counter()
    pin(family, settings.model_copy(update={"worker": _worker(settings, slots)}))
    pinned_s = time.perf_counter() - started
    windows = Windows(family, arguments.shapes)
    row = step_costs(family, windows, slots, 10 if arguments.shapes == "tiny" else 60)
    mx.reset_peak_memory()
    rate = together(family, windows, slots, arguments.warm, arguments.seconds)
    return {
        "windows_per_s": round(rate, 2),
        "times_real_time": round(rate * WINDOW_S),
        **row,
        "batch": family.plan.batch_size,
        "pinned_s": round(pinned_s, 1),
        "peak_gb": round(mx.get_peak_memory() / 1e9, 1),
    }


def _worker(settings, slots):
    return settings.worker.model_copy(update={"slots": slots})


def main():
    flags = parser(__doc__)
    flags.add_argument("--slots", type=numbers, default=[192, 128, 256, 64])
    flags.set_defaults(seconds=7, warm=2)
    arguments = flags.parse_args()
    started = time.perf_counter()
    write_model(arguments.model, arguments.shapes)
    settings = Settings(model={"name": str(arguments.model)})
    family = load(settings)
    tell(
        {
            "mlx": mx.__version__,
            "device": mx.device_info().get("device_name"),
            "loaded_s": round(time.perf_counter() - started, 1),
        }
    )
    bench_encoder(family.network, arguments.shapes)
    rows = {}
    for slots in arguments.slots:
        try:
            rows[slots] = bench_slots(family, settings, slots, arguments)
        except ScribefarmError as error:
            rows[slots] = {"error": str(error)}
        tell({"slots": rows})
    leave()


if __name__ == "__main__":
    main()
