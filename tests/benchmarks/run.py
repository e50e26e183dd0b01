"""`make bench`: this machine's figures, ours beside the engines that are installed, one after another.

    python tests/benchmarks/run.py [--parts throughput,host,memory,accuracy] [--peers mlx-whisper,...]

Peers run with the interpreter named by PEERS_PYTHON, else with ours, if they are installed there
(tests/data/README.md says how to make that environment). Everything is greedy tiny.en in float32.
The tables are printed, and added to RESULTS.md with date, command, machine and versions; `--dry`
leaves that file alone. The recordings are in ../shared/data; without them there is nothing to do.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
RESULTS = HERE / "RESULTS.md"
PEERS_VARIABLE = "PEERS_PYTHON"
MODEL = "tiny.en"
CHAPTERS = [
    f"audio/english/librispeech-test-other-{chapter}.flac"
    for chapter in (1688, 1998, 2033, 2414, 2609)
]
SINGLE_S = 180
# For trying out this program: too little for a figure to quote.
QUICK_CHAPTERS, QUICK_SINGLE_S, QUICK_MINUTES = CHAPTERS[:2], 30, 2.5
# Name to importable package and modes; mlx-whisper comes first: it is what we are held against.
PEERS = {
    "mlx-whisper": ("mlx_whisper", ("greedy",)),
    "openai-whisper": ("whisper", ("greedy",)),
    "faster-whisper": ("faster_whisper", ("greedy", "int8", "batched")),
}
OURS = "scribefarm"
PARTS = ("throughput", "host", "memory", "accuracy")


def run_json(*command):
    """Run a program that prints one JSON document; its stderr is shown as it comes."""
    print("$", shlex.join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(
        [*map(str, command)], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    if not done.stdout.startswith("{"):
        sys.exit(f"no figures, exit code {done.returncode}: {done.stdout}")
    return json.loads(done.stdout)


def installed_peers(python, asked):
    """Return (peer, mode) of what the interpreter can import, and print what it cannot."""
    wanted = [name for name in PEERS if not asked or name in asked]
    probe = "import importlib.util, sys; print(*(p for p in sys.argv[1:] if importlib.util.find_spec(p)))"
    packages = [PEERS[name][0] for name in wanted]
    try:
        found = subprocess.run(
            [python, "-c", probe, *packages], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{PEERS_VARIABLE}: {python} does not run: {error}")
    for name in wanted:
        if PEERS[name][0] not in found:
            print(f"not installed, left out: {name} (see {PEERS_VARIABLE})", file=sys.stderr)
    return [(name, mode) for name in wanted if PEERS[name][0] in found for mode in PEERS[name][1]]


def write_single(path, seconds):
    """Write the first minutes of the chapters, joined, as one recording."""
    import numpy as np
    import soundfile

    pieces = [soundfile.read(SHARED_DATA / chapter, dtype="int16") for chapter in CHAPTERS]
    rate_hz = pieces[0][1]
    joined = np.concatenate([samples for samples, _ in pieces])[: seconds * rate_hz]
    soundfile.write(path, joined, rate_hz)


def throughput(python, peers, repeats, chapters, single_s):
    """Time ours and each peer on the chapters, and on one recording of three minutes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "joined.flac"
        write_single(single, single_s)
        together = f"{len(chapters)} chapters together"
        for workload, files in ((together, chapters), ("one recording", [str(single)])):
            rows.append(best_of(repeats, lambda files=files: ours_row(files), workload))
            for peer, mode in peers:
                run = lambda peer=peer, mode=mode, files=files: peer_row(python, peer, mode, files)  # noqa: E731
                rows.append(best_of(repeats, run, workload))
    return rows


def best_of(repeats, run, workload):
    row = min((run() for _ in range(repeats)), key=lambda each: each["seconds"])
    return {"workload": workload, **row}


def ours_row(files):
    report = run_json(sys.executable, HERE / "ours.py", "--model", MODEL, *files)
    measured = report["measured"]
    return {
        "engine": OURS,
        "seconds": measured["wall_s"],
        "audio_s": measured["audio_s"],
        "measured": measured,
        "versions": report["versions"],
        "machine": report["machine"],
        "texts": report["texts"],
    }


def peer_row(python, peer, mode, files):
    script = HERE / "peers" / "throughput.py"
    report = run_json(python, script, peer, mode, "--model", MODEL, "--files", *files)
    return {
        "engine": f"{peer} {mode}",
        "seconds": report["seconds"],
        "audio_s": report["audio_s"],
        "versions": report["versions"],
        "texts": {run["path"]: run["text"] for run in report["files"]},
    }


def throughput_lines(rows):
    """Yield the table: speed, how many times ours is as fast in the same run, and whose text it is."""
    golden = golden_texts()
    ours = {row["workload"]: row for row in rows if row["engine"] == OURS}
    yield "| workload | engine | seconds | audio s/s | ours is faster by | golden text |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        mine = ours[row["workload"]]
        factor = "" if row is mine else f"{row['seconds'] / mine['seconds']:.2f}"
        known = {path: text for path, text in row["texts"].items() if path in golden}
        same = sum(text.strip() == golden[path].strip() for path, text in known.items())
        yield (
            f"| {row['workload']} ({row['audio_s']:.0f} s) | {row['engine']} |"
            f" {row['seconds']:.1f} | {row['audio_s'] / row['seconds']:.2f} | {factor} |"
            f" {f'{same} of {len(known)}' if known else ''} |"
        )
    yield ""
    yield from (shares_line(row) for row in ours.values())


def shares_line(row):
    """Return where the time of ours went."""
    m = row["measured"]
    names = ("encoder", "decoder", "host", "idle")
    shares = ", ".join(f"{name} {m[f'{name}_s'] / m['wall_s']:.0%}" for name in names)
    return (
        f"- Ours, {row['workload']}: {shares}; {m['rows_per_step']:.1f} of {m['slots']} rows a"
        f" step, {m['windows']} windows, {m['tokens']} tokens,"
        f" {m['peak_device_bytes'] / 1e6:.0f} MB of MLX at most."
    )


def golden_texts():
    with (SHARED_DATA / "golden.jsonl").open() as lines:
        entries = [json.loads(line) for line in lines]
    return {each["path"]: each["text"] for each in entries if each["model"] == MODEL}


def host_lines():
    report = run_json(sys.executable, HERE / "bench_host_share.py", "--json")
    yield (
        f"Host work at {report['rows']} rows: {report['host_ms']:.1f} of {report['step_ms']:.1f} ms"
        f" a step, {report['host_share']:.1%}."
    )


def memory_lines(minutes):
    script = HERE / "bench_long_and_short.py"
    report = run_json(sys.executable, script, "--minutes", minutes)
    short, turn = report["short_from_submission"], report["short_from_turn"]
    mlx, resident = report["growth_mlx_and_resident"]
    yield (
        f"{report['long_minutes']:g} minutes of German and {report['num_short']} short files ({report['model']})"
        f" together: {report['seconds']:.0f} s, {report['audio_s_per_s']:.1f} audio s/s. Short files"
        f" are done after {short['median_s']:.1f} s (median), {short['p95_s']:.1f} s (95th"
        f" percentile), {turn['p95_s']:.1f} s from their turn; the long one after"
        f" {report['long_done_s']:.0f} s. Highest memory of the last minute to that of the first:"
        f" {mlx:.3f} (MLX), {resident:.3f} (process)."
    )


def accuracy_lines():
    """Transcribe all English files, and set our word error rate beside the stored ones."""
    with (SHARED_DATA / "manifest.jsonl").open() as lines:
        entries = [json.loads(line) for line in lines]
    files = [
        each["path"]
        for each in entries
        if each["path"].startswith("audio/english/") and each["reference"]
    ]
    report = run_json(sys.executable, HERE / "ours.py", "--model", MODEL, *files)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.json"
        path.write_text(json.dumps({"model": MODEL, "texts": report["texts"]}))
        command = [sys.executable, HERE / "word_error_rate.py", "--ours", f"scribefarm={path}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    yield "Word error rates, ours through our own reader:"
    yield ""
    yield from done.stdout.strip().splitlines()


def heading(command):
    """Yield when and how this was run."""
    yield f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield ""
    yield f"`{command}`, commit {git_commit()}, load average {os.getloadavg()[0]:.1f} at the start"
    yield ""


def facts_lines(facts):
    """Yield what the figures depend on."""
    for name, values in facts.items():
        yield f"- {name}: " + ", ".join(f"{key} {value}" for key, value in values.items())
    if facts:
        yield ""


def git_commit():
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or "unknown"


def facts_of(rows):
    """Return machine and versions: ours, and each peer's."""
    facts = {}
    for row in rows:
        if "machine" in row:
            facts["machine"] = row["machine"]
        facts[row["engine"].split()[0]] = row["versions"]
    return facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS), help=", ".join(PARTS))
    parser.add_argument("--peers", default="", help=", ".join(PEERS))
    parser.add_argument("--repeats", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long recording")
    parser.add_argument("--quick", action="store_true", help="try this program out")
    parser.add_argument("--dry", action="store_true", help="leave RESULTS.md alone")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    if not SHARED_DATA.is_dir():
        sys.exit(f"needs the recordings in {SHARED_DATA}; scribefarm-worker bench does without")
    command = " ".join(["python tests/benchmarks/run.py", *sys.argv[1:]])
    # Before anything of ours is a load.
    started = list(heading(command))
    python = os.environ.get(PEERS_VARIABLE, sys.executable)
    facts, lines = {}, []
    if "throughput" in parts:
        asked = [name for name in arguments.peers.split(",") if name]
        work = (QUICK_CHAPTERS, QUICK_SINGLE_S) if arguments.quick else (CHAPTERS, SINGLE_S)
        rows = throughput(python, installed_peers(python, asked), arguments.repeats, *work)
        facts = facts_of(rows)
        lines += [*throughput_lines(rows), ""]
    if "host" in parts:
        lines += [*host_lines(), ""]
    if "memory" in parts:
        minutes = QUICK_MINUTES if arguments.quick else arguments.minutes
        lines += [*memory_lines(minutes), ""]
    if "accuracy" in parts:
        lines += [*accuracy_lines(), ""]
    lines = [*started, *list(facts_lines(facts)), *lines]
    print("\n".join(lines))
    if not arguments.dry:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
