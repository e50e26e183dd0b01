"""What a worker does, and what is wrong with it, in words."""

import time
from collections.abc import Iterator

from producer.console import format_duration
from producer.worker_records import WorkerRecord

_DAY_S = 86_400


def doing_words(worker: WorkerRecord) -> str:
    """Return what a worker does: busy, idle, or until when it does not."""
    match worker.state:
        case "asleep":
            return f"asleep until {clock(worker.sleeps_until_s or 0.0)} (active hours)"
        case "paused" if worker.paused_until_s is not None:
            return f"paused until {clock(worker.paused_until_s)}"
        case "lost":
            return f"lost at {clock(worker.lost_at_s or 0.0)}"
        case _:
            return worker.state


def mark_words(worker: WorkerRecord) -> Iterator[str]:
    """Yield what is wrong with a worker, each with what can be done."""
    for mark in worker.marks:
        match mark:
            case "lost":
                yield (
                    "lost: it died, slept or was cut off; its recordings are others' now."
                    " Look at the machine and its log."
                )
            case "no_heartbeat":
                age = format_duration(worker.heartbeat_age_s)
                yield f"no heartbeat for {age}: its recordings go to others soon"
            case "slow":
                expected = worker.bench_audio_s_per_s
                than = f"its bench, {expected:.1f}x" if expected else "its peers' median"
                yield (
                    f"slow: {worker.audio_s_per_s or 0.0:.1f}x is under half of {than}."
                    " Look for heat, other programs, a slow share."
                )
            case "reading_hangs":
                yield f"{worker.lost_threads} reading threads hang: look at its disk or share"
            case "damaged":
                yield "its record is damaged: another version or program wrote it"


def clock(moment_s: float) -> str:
    """Return a time of this machine's clock, with the day where it is not near."""
    is_near = abs(moment_s - time.time()) < _DAY_S
    return time.strftime("%H:%M" if is_near else "%a %H:%M", time.localtime(moment_s))
