"""What the device did while the whole engine ran, and what the engine's thread did while it did nothing.

    python -m tests.benchmarks.gpu.files --traced 1

PyTorch's profiler listens to CUPTI, which slows the engine somewhat. `busy_share` is the part of the
time in which anything ran on the device; `idle_by_activity` the rest, by what the engine's thread was
at (see `worker.engine.stats`). Every event is in a file of $OUT, too. Without a GPU nothing is seen there.
"""

import gzip
import json
import os
import time
from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch

from tests.benchmarks.gpu.profile import DEVICE, HOST, by_name, spans, traced
from worker.engine.stats import Stopwatch

ACTIVITIES = ("idle", "receive", "batch", "step", "reply")
MARK = "scribefarm: begins"
SHORTEST_GAP_US = 20  # shorter ones lie between kernels that follow each other


class Diary(Stopwatch):
    """A stopwatch that remembers when its blocks were."""

    def __init__(self, total_s):
        super().__init__()
        self.total_s, self.blocks = total_s, []

    def __exit__(self, *_exception):
        super().__exit__()
        self.blocks.append((self._started, time.perf_counter()))


def keep_diaries(stats):
    """Put diaries in place of an engine's stopwatches; return them by activity."""
    diaries = {name: Diary(getattr(stats, name).total_s) for name in ACTIVITIES}
    for name, diary in diaries.items():
        setattr(stats, name, diary)
    return diaries


def activities_in(events, diaries, began):
    """Return (start, end, name) of the diaries' blocks in order, in the events' microseconds."""
    [mark] = [event["ts"] for event in events if event.get("name") == MARK and "ts" in event][:1]
    blocks = [(*block, name) for name, diary in diaries.items() for block in diary.blocks]
    return sorted(
        (mark + (a - began) * 1e6, mark + (b - began) * 1e6, name) for a, b, name in blocks
    )


def gaps(busy):
    """Return (start, end) of what lies between spans that do not overlap."""
    between = pairwise(busy)
    return [(a, b) for (_, a), (b, _) in between if b - a >= SHORTEST_GAP_US]


def shared_out(idle, activities):
    """Return the microseconds of gaps by what the engine's thread was at in them."""
    found, starts = Counter(), [start for start, _, _ in activities]
    for gap_start, gap_end in idle:
        known = 0.0
        first = max(0, bisect_right(starts, gap_start) - 1)
        for start, end, name in activities[first:]:
            if start >= gap_end:
                break
            both = min(end, gap_end) - max(start, gap_start)
            if both > 0:
                found[name] += both
                known += both
        found["between"] += gap_end - gap_start - known
    return found


def longest(idle, activities, count=12):
    """Return the longest gaps: milliseconds, and by activity."""
    widest = sorted(idle, key=lambda gap: gap[0] - gap[1])[:count]
    told = []
    for gap in widest:
        by = {name: round(us / 1e3, 2) for name, us in shared_out([gap], activities).items()}
        told.append([round((gap[1] - gap[0]) / 1e3, 2), by])
    return told


def keep_events(events, activities):
    """Write what was seen to a file of $OUT, compressed."""
    kept = [
        (event["cat"], event["name"][:60], event.get("tid"), event["ts"], event["dur"])
        for event in events
        if event.get("cat") in HOST + DEVICE
    ]
    path = Path(os.environ.get("OUT", "/tmp")) / f"trace-{os.getpid()}.json.gz"
    with gzip.open(path, "wt", 5) as file:
        json.dump({"events": kept, "activities": activities}, file)


def trace(recordings, seconds):
    """Return what the device did in some seconds of a full and warm engine."""
    engine = recordings.engine
    traced(lambda: recordings.run_for(0.2))  # CUPTI is slow to start
    diaries, began = keep_diaries(engine.stats), []

    def run():
        began.append(time.perf_counter())
        with torch.profiler.record_function(MARK):
            recordings.run_for(seconds)

    windows, row_steps = engine.stats.batched_requests, engine.stats.row_steps
    events, taken = traced(run)
    activities = activities_in(events, diaries, began[0])
    busy = spans(events)
    idle = gaps(busy)
    by_activity = shared_out(idle, activities)
    keep_events(events, activities)
    return {
        "seconds": round(taken, 2),
        "windows_per_s": round((engine.stats.batched_requests - windows) / taken, 1),
        "row_steps_per_s": round((engine.stats.row_steps - row_steps) / taken),
        "busy_share": round(sum(b - a for a, b in busy) / 1e6 / taken, 3),
        "idle_by_activity": {name: round(us / 1e6 / taken, 3) for name, us in by_activity.items()},
        "longest_gaps_ms": longest(idle, activities),
        "host": by_name(events, HOST, taken),
        "device": by_name(events, DEVICE, taken),
    }
