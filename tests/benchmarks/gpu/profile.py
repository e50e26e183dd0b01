"""Where a decode step's time goes: every call of CUDA's and every kernel, as the driver itself counts.

    python -m tests.benchmarks.gpu.profile [--slots 192] [--steps 40]

PyTorch's profiler is started around steps of ours: it listens to CUPTI, which sees what any library in
the process asks of CUDA. `host` is the calls of the engine's thread, milliseconds a step each; `device`
the kernels and copies; `device_busy_ms` the part of a step in which anything ran there. Without a GPU
nothing is seen, and both are empty.
"""

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from producer.settings import Settings
from tests.benchmarks.gpu.device import Windows, filled
from tests.benchmarks.gpu.ours import write_model
from tests.benchmarks.gpu.shapes import leave, parser, tell
from worker.models.load import pin
from worker.models.whisper.family import load

HOST = ("cuda_runtime", "cuda_driver")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
MOST_LINES = 25
MOST_NAME = 90


def traced(run):
    """Return the events of PyTorch's trace of a function's run, and its seconds."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        started = time.perf_counter()
        run()
        seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8"))["traceEvents"], seconds


def by_name(events, kinds, steps):
    """Return {name: [calls a step, milliseconds a step, longest milliseconds]} of the costliest."""
    found = defaultdict(list)
    for event in events:
        if event.get("cat") in kinds:
            found[event["name"][:MOST_NAME]].append(event["dur"] / 1e3)
    costliest = sorted(found.items(), key=lambda item: -sum(item[1]))[:MOST_LINES]
    return {
        name: [round(len(each) / steps, 2), round(sum(each) / steps, 4), round(max(each), 3)]
        for name, each in costliest
    }


def spans(events):
    """Return (start, end) of the times in which anything ran on the device, microseconds, in order."""
    found = []
    seen = (event for event in events if event.get("cat") in DEVICE)
    for start, end in sorted((event["ts"], event["ts"] + event["dur"]) for event in seen):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found


def main():
    flags = parser(__doc__)
    flags.add_argument("--slots", type=int, default=192)
    flags.add_argument("--steps", type=int, default=40)
    arguments = flags.parse_args()
    write_model(arguments.model, arguments.shapes)
    settings = Settings(model={"name": str(arguments.model)}, worker={"slots": arguments.slots})
    family = load(settings)
    pin(family, settings)
    windows, steps = Windows(family, arguments.shapes), arguments.steps
    stepper = filled(family.stepper, windows, arguments.slots, steps)
    traced(stepper.step)  # CUPTI is slow to start
    events, seconds = traced(lambda: [stepper.step() for _ in range(steps)])
    tell(
        {
            "slots": arguments.slots,
            "step_ms": round(1e3 * seconds / steps, 3),
            "device_busy_ms": round(sum(b - a for a, b in spans(events)) / 1e3 / steps, 3),
            "host": by_name(events, HOST, steps),
            "device": by_name(events, DEVICE, steps),
        }
    )
    leave()


if __name__ == "__main__":
    main()
