"""The table of what gpu/drive.py measured: `python -m tests.benchmarks.gpu.table gpu.json`.

Pure text out of figures: rows that lose stand with the others, and what was not measured is a dash.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.gpu.shapes import WINDOW_S

DASH = "-"
ENGINE_PARTS = ("files", "files-256")


def speed(parts, name):
    """Return a part's times real time; None if it told none."""
    return parts.get(name, {}).get("times_real_time")


def fastest(parts, *names):
    """Return the most times real time of some parts; None if none told any."""
    return max(filter(None, (speed(parts, name) for name in names)), default=None)


def device_best(parts):
    """Return the slots and the row of our device's best; (None, {}) without one."""
    rows = parts.get("device", {}).get("slots", {})
    done = {slots: row for slots, row in rows.items() if "times_real_time" in row}
    best = max(done, key=lambda slots: done[slots]["times_real_time"], default=None)
    return best, done.get(best, {})


def at_slots(parts, slots):
    """Return our device's row of some slots, whose keys a file has made text."""
    rows = parts.get("device", {}).get("slots", {})
    return rows.get(slots, rows.get(str(slots), {}))


def engine_best(parts):
    """Return the better of the rows from files; {} without one."""
    rows = [parts.get(name, {}) for name in ENGINE_PARTS]
    rows = [row for row in rows if row.get("times_real_time")]
    return max(rows, key=lambda row: row["times_real_time"], default={})


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours and theirs else DASH


def shown(value):
    return DASH if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def rows(parts):
    """Yield what is compared: what it is, its best setting, times real time."""

    def row(what, name, setting="{setting}"):
        figures = parts.get(name, {})
        fast = figures.get("times_real_time")
        return what, setting.format_map(figures) if fast else None, fast

    yield row("(a) transformers, generate, mels on the device", "transformers")
    yield row("(a) the same, static cache and torch.compile", "static")
    piped = "batch {batch}, {workers} workers"
    yield row("(b) transformers, pipeline, files to text", "pipeline", piped)
    yield row("(b) the same, static cache and torch.compile", "pipeline-static", piped)
    yield row("(c) torch by hand, no rules: the limit", "limit", DASH)
    slots, best = device_best(parts)
    yield "(d) ours, device alone", slots and f"{slots} slots", best.get("times_real_time")
    for name in ENGINE_PARTS:
        yield row(
            "(e) ours, files to results", name, "{slots} slots, {processes} reading processes"
        )
    yield row("(f) ours, through Redis and the farm's worker", "redis", "{slots} slots")


def parakeet(parts):
    """Return the whole engine's rows with Parakeet, by part."""
    named = {name: parts.get(name, {}).get("engine") for name in ("parakeet", "parakeet-vad")}
    return {name: rows[0] for name, rows in named.items() if rows}


def claims(parts):
    """Yield what the issues ask for: the words, the figure, the least or most that is asked."""
    ours, redis = engine_best(parts).get("times_real_time"), parts.get("redis", {})
    best_a = fastest(parts, "transformers", "static")
    yield "ours from files / best (a)", ratio(ours, best_a), "at least 1.25, goal 1.5"
    best_b = fastest(parts, "pipeline", "pipeline-static")
    yield "ours from files / best (b)", ratio(ours, best_b), "at least 2.5"
    yield "ours from files / torch limit", ratio(ours, speed(parts, "limit")), ""
    _, row = device_best(parts)
    yield "our device / torch limit", ratio(row.get("times_real_time"), speed(parts, "limit")), ""
    same = [parts.get(name, {}) for name in ENGINE_PARTS]
    alone = next((each for each in same if each.get("slots") == redis.get("slots")), {})
    through = ratio(redis.get("windows_per_s"), alone.get("windows_per_s"))
    yield "through Redis / from files, same slots", through, "at least 0.95"
    device = parts.get("device", {})
    ceiling = device.get("encoder_ceiling_windows_per_s")
    share = ratio(ours and ours / WINDOW_S, ceiling)
    yield (
        "ours from files / what the encoder alone could do at the matrix product's peak",
        share,
        "",
    )
    yield "our encoder / that", shown(device.get("encoder_share_of_ceiling")), ""
    host = at_slots(parts, 192).get("host_share")
    yield "host's share of a step, 192 rows", shown(host), "under 0.15"
    fast = max((row["audio_times_real_time"] for row in parakeet(parts).values()), default=None)
    yield "Parakeet 0.6b from files / ours from files", ratio(fast, ours), "at least 2.5"


def profile(name, row):
    """Return where an engine's time went, as a line."""
    cores = ", ".join(f"{name} {value}" for name, value in row["cores"].items())
    shares = row["shares_of_the_engines_thread"]
    spent = ", ".join(f"{key.removesuffix('_s')} {value}" for key, value in shares.items())
    return (
        f"- {name}: GPU busy {row['gpu_busy_percent']} %, cores {cores}; of the thread's time {spent};"
        f" {row['rows_a_step']} rows a step of {row['step_ms']} ms, {row['requests_a_batch']} windows"
        f" a batch"
    )


def details(parts):
    """Yield what lies behind the rows: steps by slots, the torch limit, profiles, how parts ended."""
    yield "| slots | device times real time | step ms | host ms | host's share |"
    yield "|---:|---:|---:|---:|---:|"
    by_slots = parts.get("device", {}).get("slots", {}).items()
    for slots, row in sorted(by_slots, key=lambda each: int(each[0])):
        names = ("times_real_time", "step_ms", "host_ms", "host_share")
        yield f"| {slots} | " + " | ".join(shown(row.get(name)) for name in names) + " |"
    yield ""
    limit, device = parts.get("limit", {}), parts.get("device", {})
    yield f"- torch limit: step ms by rows {limit.get('step_ms')}"
    yield f"- torch limit: encoder windows/s {limit.get('encoder_windows_per_s')}"
    yield f"- torch limit: times real time by rows {limit.get('together')}"
    yield f"- ours: encoder windows/s by batch {device.get('encoder_windows_per_s')}"
    for name in ENGINE_PARTS:
        if "cores" in parts.get(name, {}):
            yield profile(name, parts[name])
    for name, row in parakeet(parts).items():
        yield profile(f"{name}, {row['audio_times_real_time']:,} times real time", row)
    for name, row in parts.items():
        if "ended" in row:
            yield f"- {name}: {row['took_s']} s, {row['ended']}"


def markdown(parts):
    """Return the tables of what was measured so far."""
    about = {**parts.get("machine", {}), "device": parts.get("device", {}).get("device")}
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    lines += ["| what | best setting | times real time |", "|---|---|---:|"]
    lines += [f"| {what} | {shown(how)} | {shown(fast)} |" for what, how, fast in rows(parts)]
    lines += ["", "Each window decodes as many tokens, and counts for its 30 s.", ""]
    lines += ["| ratio | measured | asked |", "|---|---|---|"]
    lines += [f"| {what} | {found} | {asked} |" for what, found, asked in claims(parts)]
    return "\n".join([*lines, "", *details(parts)]) + "\n"


def main():
    [path] = sys.argv[1:]
    print(markdown(json.loads(Path(path).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
