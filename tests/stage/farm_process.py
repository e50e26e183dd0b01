"""Runs one farm worker with a fake decoder: `python -m tests.stage.farm_process URL SETTINGS`."""

import sys

from pydantic import SecretStr

from producer import log
from producer.connection import connect
from producer.settings import RedisSettings, Settings
from tests.stage.fake_engine import MODEL, FakeEngine
from worker.farm.farm_worker import FarmWorker


def main() -> int:
    url, document, *flags = sys.argv[1:]
    stored = Settings.model_validate_json(document)
    redis = RedisSettings(url=SecretStr(url))
    settings = stored.model_copy(update={"redis": redis})
    log.configure(settings.log)
    slots = settings.worker.slots
    model = MODEL.model_copy(update={"name": settings.model.name})
    engine = FakeEngine(8 if slots == "auto" else slots, model)
    worker = FarmWorker(engine, settings, connect(settings), name="fake")
    return worker.run(burst="--burst" in flags)


if __name__ == "__main__":
    sys.exit(main())
