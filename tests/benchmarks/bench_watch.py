"""`scribefarm watch` on a real terminal: is its time left right, and does the screen flicker?

    python tests/benchmarks/bench_watch.py [--files 900] [--work-s 0.5]

A real server, one worker whose decoder takes equally long for every file, and `watch` inside tmux,
looked at every second. Shown are the largest error of the time left between a fifth and
nine tenths of the night, and what the terminal was sent: a screen that is cleared flickers.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.stage.archive_farm import SCRIPT, ArchiveFarm
from tests.stage.made_archive import noise, write

SESSION = "scribefarm-watch"
LOOK_EVERY_S = 1.0
COLUMNS, ROWS = 110, 30
JUDGED = (0.2, 0.9)
UNIT_S = {"d": 86400, "h": 3600, "min": 60, "s": 1}


def tmux(*arguments):
    return subprocess.run(
        ["tmux", *map(str, arguments)], capture_output=True, text=True, check=False
    ).stdout


def time_left_s(pane):
    """Return the seconds that a screen says are left; None if it says nothing."""
    found = re.search(r"((?:\d+ (?:d|h|min|s) )+)left", pane)
    parts = re.findall(r"(\d+) (d|h|min|s)", found[1]) if found else []
    return sum(int(number) * UNIT_S[unit] for number, unit in parts) if parts else None


def watch_night(farm, num_files, work_s):
    """Return (time, screen) of each look, and all that the terminal was sent."""
    talks = farm.folder / "talks"
    talks.mkdir()
    for number in range(num_files):
        write(talks / f"{number:05}.wav", noise(number))
    farm.submit("talks", "--batch", "night")
    sent = farm.folder / "terminal"
    settings = [f"{name}={value}" for name, value in farm.settings.to_environment().items()]
    command = shlex.join(["env", *settings, str(SCRIPT), "watch", "night"])
    tmux(
        "new-session", "-d", "-s", SESSION, "-x", COLUMNS, "-y", ROWS, f"{command}; echo ENDED; cat"
    )
    tmux("pipe-pane", "-t", SESSION, f"cat > {shlex.quote(str(sent))}")
    farm.start_worker(work_s=work_s)
    looks = []
    while not looks or "ENDED" not in looks[-1][1]:
        time.sleep(LOOK_EVERY_S)
        looks.append((time.monotonic(), tmux("capture-pane", "-p", "-t", SESSION)))
    tmux("kill-session", "-t", SESSION)
    return looks, sent.read_bytes()


def judge(looks, sent):
    start_s, end_s = looks[0][0], looks[-1][0]
    first, last = (start_s + share * (end_s - start_s) for share in JUDGED)
    errors = [
        left_s / (end_s - at_s) - 1
        for at_s, pane in looks
        if first < at_s < last and (left_s := time_left_s(pane)) is not None
    ]
    return {
        "seconds": round(end_s - start_s),
        "looks": len(errors),
        "largest_error_of_time_left": round(max(map(abs, errors)), 3),
        "screens_cleared": sent.count(b"\x1b[2J"),
        "bytes_sent_per_s": round(len(sent) / (end_s - start_s)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=900)
    parser.add_argument("--work-s", type=float, default=0.5)
    arguments = parser.parse_args()
    if not shutil.which("tmux"):
        sys.exit("needs tmux")
    with tempfile.TemporaryDirectory(prefix="sf-watch-") as folder:
        farm = ArchiveFarm(Path(folder))
        try:
            looks, sent = watch_night(farm, arguments.files, arguments.work_s)
        finally:
            farm.stop()
    print(looks[len(looks) // 2][1].strip(), file=sys.stderr)
    print(json.dumps(judge(looks, sent), indent=1))


if __name__ == "__main__":
    main()
