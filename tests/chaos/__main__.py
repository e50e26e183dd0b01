"""`python -m tests.chaos`: run the chaos and print what it came to; exit 1 if anything is wrong.

With `--surroundings` shares, disks, clocks and models go wrong instead, around real engines.
With `--real FOLDER` the real model instead: a worker is killed in the middle of a recording joined
from the folder's files, and a peer goes on.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.resume import join_recordings, kill_and_resume
from tests.chaos.run import Chaos
from tests.chaos.surroundings import Surroundings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240, help="faults end after this")
    parser.add_argument("--limit", type=float, default=600, help="give up after this")
    parser.add_argument("--loss", type=float, default=0.002, help="share of writes without reply")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the server's data and the log")
    parser.add_argument("--surroundings", action="store_true", help="shares, disks, clocks, models")
    parser.add_argument("--files", type=int, default=300, help="recordings of --surroundings")
    parser.add_argument("--real", type=Path, help="folder of 16 kHz recordings for the real model")
    parser.add_argument("--audio-s", type=float, default=780, help="length of the real recording")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.surroundings:
            return _surroundings(arguments, folder)
        if arguments.real:
            return _real(arguments, folder)
        return _fake(arguments, folder)


def _fake(arguments: argparse.Namespace, folder: Path) -> int:
    chaos = Chaos(
        folder,
        num_jobs=arguments.jobs,
        num_workers=arguments.workers,
        seed=arguments.seed,
        loss=arguments.loss,
    )
    report = chaos.run(arguments.limit, arguments.seconds)
    print(report.table())
    print("problems:", ", ".join(report.problems) or "none")
    return 1 if report.problems else 0


def _surroundings(arguments: argparse.Namespace, folder: Path) -> int:
    run = Surroundings(folder, num_files=arguments.files, seed=arguments.seed)
    outcome = run.run(arguments.limit, arguments.seconds)
    print(outcome.table())
    print("problems:", ", ".join(outcome.problems) or "none")
    return 1 if outcome.problems else 0


def _real(arguments: argparse.Namespace, folder: Path) -> int:
    recording = join_recordings(arguments.real, folder / "joined.wav", arguments.audio_s)
    resumed = kill_and_resume(folder, recording, timeout_s=arguments.limit)
    is_equal = resumed.resumed_text == resumed.peaceful_text
    print(f"{'audio':32} {resumed.audio_s:.0f} s")
    print(f"{'checkpoint when killed':32} {resumed.checkpoint_s:.0f} s")
    print(f"{'windows in peace':32} {resumed.windows_in_peace}")
    print(f"{'windows of the peer':32} {resumed.windows_of_peer}")
    print(f"{'taken up after':32} {resumed.recovery_s:.1f} s")
    print(f"{'text equals':32} {is_equal} ({len(resumed.resumed_text)} characters)")
    return 0 if is_equal and resumed.windows_of_peer < resumed.windows_in_peace else 1


if __name__ == "__main__":
    sys.exit(main())
