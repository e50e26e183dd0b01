"""A night's batch of fake recordings, looked after with the installed script."""

from producer.batches.views import (
    count,
    note_batch,
    view_batch,
)
from tests.stage.archive_farm import ArchiveFarm
from tests.stage.farm import Farm, wait_until


class Night:
    """A farm whose jobs are fake recordings, in one batch, looked after with the script."""

    def __init__(self, folder):
        self.script = ArchiveFarm(folder)
        self.farm = Farm(self.script.server.url)
        # Ids hold the model's name: script and farm must mean the same one.
        self.script.settings = self.farm.settings
        self.connection = self.farm.connection
        self.run, self.run_json = self.script.run, self.script.run_json

    def submit(self, jobs, *, batch="night", queue_name="default"):
        """Enqueue jobs by name; return their ids by name."""
        asked = [
            each.model_copy(update={"batch": batch, "name": name}) for name, each in jobs.items()
        ]
        note_batch(self.connection, self.farm.settings, batch)
        return dict(zip(jobs, self.farm.submit(*asked, queue=queue_name), strict=True))

    def counts(self, batch="night"):
        return count(view_batch(self.connection, batch))

    def finish(self, batch="night"):
        self.farm.start()
        wait_until(lambda: not self.counts(batch).left)

    def stop(self):
        self.farm.stop()
        self.script.stop()
