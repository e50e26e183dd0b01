"""Who uses which model: the settings, and the workers of a server that runs."""

from contextlib import closing

from producer import embedded
from producer.connection import connect
from producer.console import note
from producer.errors import ScribefarmError
from producer.fleet import live_workers
from producer.settings import Settings

SETTINGS = "settings"


def model_users(settings: Settings) -> dict[str, list[str]]:
    """Return the users of each model by its name: `settings`, and names of live workers.

    Starts no server. One that does not answer is said on stderr, and costs the names of workers.
    """
    users = {settings.model.name: [SETTINGS]}
    try:
        if settings.redis.url is None and not embedded.status(settings).running:
            return users
        with closing(connect(settings)) as connection:
            for worker in live_workers(connection, settings):
                if worker.model:
                    users.setdefault(worker.model, []).append(worker.name)
    except ScribefarmError as error:
        note(f"of workers nothing is known: {error}")
    return users
