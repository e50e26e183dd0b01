"""`python -m tests.stage.broken_model_worker`: a real worker whose model is broken once.

Composed as `worker.run` does it, but the first prompt that the model reads after its warm-up
gives logits without their last axis.
"""

import os
import sys

from producer import log
from producer.connection import connect
from producer.settings import load_settings
from worker.farm.farm_worker import FarmWorker


class BrokenOnce:
    """A Whisper that gives logits of a wrong rank, once, and is itself from then on."""

    def __init__(self, whisper):
        self._whisper = whisper
        self._is_broken = True

    def __getattr__(self, name):
        return getattr(self._whisper, name)

    def prefill(self, states, prompts, at):
        """Return what the model returns, the first time without the vocabulary's axis."""
        logits, cache = self._whisper.prefill(states, prompts, at)
        if self._is_broken:
            self._is_broken = False
            return logits[..., 0], cache
        return logits, cache


def main():
    from worker.device.stepper import TokenStepper
    from worker.engine.engine import BatchEngine
    from worker.models.load import load_family

    def load(settings):
        family = load_family(settings)
        family.stepper = TokenStepper(BrokenOnce(family.network), family.plan.slots)
        return family

    settings = load_settings()
    log.configure(settings.log)
    engine = BatchEngine(settings, load)
    code = FarmWorker(engine, settings, connect(settings), "broken-once").run()
    engine.stop()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
