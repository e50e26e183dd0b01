"""`python -m tests.chaos`: run the chaos and print what it came to; exit 1 if anything is wrong."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Chaos


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240, help="faults end after this")
    parser.add_argument("--limit", type=float, default=600, help="give up after this")
    parser.add_argument("--loss", type=float, default=0.002, help="share of writes without reply")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the server's data and the log")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(
            arguments.keep or Path(folder),
            num_jobs=arguments.jobs,
            num_workers=arguments.workers,
            seed=arguments.seed,
            loss=arguments.loss,
        )
        report = chaos.run(arguments.limit, arguments.seconds)
    print(report.table())
    print("problems:", ", ".join(report.problems) or "none")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
