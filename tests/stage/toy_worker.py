"""`python -m tests.stage.toy_worker`: the program scribefarm-worker with two toy families.

All that a new family adds outside its own folder is its line of `MODELS`.
"""

from worker.__main__ import main
from worker.models import MODELS
from worker.models.packaged import Listed

TOYS = {
    "toy-pieces": Listed(family="tests.stage.families.pieces", requirement="nothing"),
    "toy-frames": Listed(family="tests.stage.families.frames", requirement="nothing"),
}

if __name__ == "__main__":
    MODELS.update(TOYS)
    main()
