"""`python -m tests.stage.slow_toys`: scribefarm-worker with two models of one toy family.

They cut alike and name what they hear differently, and each piece takes `SLOW_TOY_S` seconds: time
for something to happen meanwhile.
"""

import os
import time

import numpy as np
import soundfile

from producer.result import Model
from tests.stage.families.pieces import LOUD, Pieces
from worker.__main__ import main
from worker.models import MODELS
from worker.models.packaged import Listed

WORDS = {"toy-english": (" loud", " soft"), "toy-german": (" laut", " leise")}
PIECE_S, PAUSE_S, RATE_HZ = 0.3, 0.1, 16_000


class SlowPieces(Pieces):
    """Pieces with words of their own."""

    def __init__(self, name):
        super().__init__()
        self.model = Model(name=name, revision="1", dtype="float32")
        self._words = WORDS[name]

    def classify(self, requests):
        read = super().classify(requests)
        time.sleep(float(os.environ.get("SLOW_TOY_S", "0")))
        loud, soft = self._words
        return lambda: [loud if word == " loud" else soft for word in read()]


def load(settings):
    """Return the model that the settings name."""
    return SlowPieces(settings.model.name)


def write_number(path, number, num_bits):
    """Write a recording that says a number in loud and soft pieces, the highest bit first."""
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.float32)
    parts = [pause]
    for bit in format(number, f"0{num_bits}b"):
        level = 2 * LOUD if bit == "1" else LOUD / 2
        parts += [np.full(round(PIECE_S * RATE_HZ), level, np.float32), pause]
    soundfile.write(path, np.concatenate(parts), RATE_HZ, subtype="PCM_16")


def text_of(number, num_bits, model):
    """Return what a model must hear in the recording of a number."""
    loud, soft = WORDS[model]
    return "".join(loud if bit == "1" else soft for bit in format(number, f"0{num_bits}b"))


if __name__ == "__main__":
    MODELS.update(
        {name: Listed(family="tests.stage.slow_toys", requirement="nothing") for name in WORDS}
    )
    main()
