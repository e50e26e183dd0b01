"""Which models may be asked for over HTTP, and by which names."""

from http import HTTPStatus

import redis

from producer.errors import InvalidOptions
from producer.fleet import live_workers
from producer.keys import split_queue
from producer.model_names import KNOWN_MODELS, canonical_model
from producer.models_served import models_of, queued_by_model
from producer.settings import Settings
from producer.web.api.errors import Refusal

# What OpenAI's clients call Whisper; here it is the farm's own model.
DEFAULT_NAME = "whisper-1"


def farm_models(connection: redis.Redis, settings: Settings) -> list[str]:
    """Return the names by which models may be asked for: ours, and what the farm has or waits for.

    Raises:
        ServerUnreachable: the server does not answer.
    """
    labels = {
        label for worker in live_workers(connection, settings) for label in models_of(worker)
    } | queued_by_model(connection, settings.worker.queues).keys()
    names = {split_queue(f"@{label}").model or "" for label in labels} - {""}
    return [DEFAULT_NAME, *sorted(names | {settings.model.name})]


def chosen_model(connection: redis.Redis, settings: Settings, asked: str) -> str | None:
    """Return the model that a request names; None is that of the settings.

    Known names are taken though no worker has the model now: one of the night may.

    Raises:
        Refusal: nobody knows the model.
        ServerUnreachable: the server does not answer.
    """
    if asked == DEFAULT_NAME:
        return None
    try:
        model = canonical_model(asked)
    except InvalidOptions as error:
        raise _unknown(error.constraint, asked) from error
    if model == settings.model.name:
        return None
    if model in {known.name for known in KNOWN_MODELS.values()}:
        return model
    known = farm_models(connection, settings)
    if model not in known:
        raise _unknown(f"must be one of {', '.join(known)}", asked)
    return model


def _unknown(must: str, asked: str) -> Refusal:
    error = InvalidOptions("request: model", must, asked)
    return Refusal(error, status=HTTPStatus.NOT_FOUND, param="model")
