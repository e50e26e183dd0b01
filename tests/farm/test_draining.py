"""`scribefarm drain`: one worker of many is asked to end, from any machine."""

import pytest
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from typer.testing import CliRunner

from producer import draining
from producer.__main__ import app
from producer.errors import InvalidOptions, NoWorker
from producer.fleet import live_workers
from tests.stage.fake_engine import FakeEngine, job
from tests.stage.farm import wait_until
from worker.farm.drainable_worker import DrainableWorker


def alive(farm):
    return [view.name for view in live_workers(farm.connection, farm.settings)]


def test_a_worker_asked_from_afar_drains_and_its_work_goes_on_elsewhere(farm):
    """By the beginning of its name, which ends with characters that nobody types."""
    engine = FakeEngine()
    worker = farm.start(engine)
    (job_id,) = farm.submit(job("long", windows=400, window_s=0.05))
    wait_until(lambda: engine.in_flight == 1 and alive(farm))
    farm.configure(grace_s=0.0)
    (name,) = alive(farm)
    worker.worker._settings = farm.settings
    runner = CliRunner(env={"SCRIBEFARM_REDIS__URL": farm.url})
    asked = runner.invoke(app, ["drain", "thread"])
    assert (asked.exit_code, asked.stderr) == (0, f"{name} was asked to drain\n")
    assert worker.wait() == 0
    assert (farm.state(job_id), farm.field(job_id, "tries")) == ("queued", None)
    assert alive(farm) == []


def test_only_the_named_one_of_several_drains(farm):
    """Two begin alike: the whole name is asked for, and tells them apart."""
    first, second = farm.start(), farm.start()
    wait_until(lambda: len(alive(farm)) == 2)
    with pytest.raises(InvalidOptions, match=f"{first.worker.name}|{second.worker.name}"):
        draining.drain(farm.connection, farm.settings, "thr")
    asked = draining.drain(farm.connection, farm.settings, second.worker.name)
    assert asked == second.worker.name
    assert second.wait() == 0
    assert alive(farm) == [first.worker.name]


def test_a_worker_listens_before_anybody_can_see_it(farm, monkeypatch):
    """A command is said once: one that came in between would be lost."""
    listeners, born = [], DrainableWorker.register_birth

    def born_listening(worker):
        [(_, count)] = worker.connection.pubsub_numsub(PUBSUB_CHANNEL_TEMPLATE % worker.name)
        listeners.append(count)
        born(worker)

    monkeypatch.setattr(DrainableWorker, "register_birth", born_listening)
    farm.start()
    wait_until(lambda: alive(farm))
    assert listeners == [1]


def test_a_name_that_nobody_has_is_wrong_usage_with_the_name_that_was_meant(farm):
    """And without any worker there is nobody to ask."""
    with pytest.raises(NoWorker) as nobody:
        draining.drain(farm.connection, farm.settings, "thread")
    assert nobody.value.exit_code == 3
    farm.start()
    wait_until(lambda: alive(farm))
    for wrong, hint in (("thraed", "did you mean thread"), ("", "alive are thread-")):
        with pytest.raises(InvalidOptions, match=hint) as caught:
            draining.drain(farm.connection, farm.settings, wrong)
        assert caught.value.exit_code == 2
