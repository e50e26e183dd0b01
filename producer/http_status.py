"""The HTTP status of every error, as `exit_code` is of commands: one line a code."""

from http import HTTPStatus
from types import MappingProxyType

# By the codes of `producer.errors`; a test holds it complete. What only a person at the farm can
# mend is the server's fault (5xx), what the caller can mend is the caller's (4xx).
HTTP_STATUS = MappingProxyType(
    {
        "out_of_range": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "empty_input": HTTPStatus.UNPROCESSABLE_ENTITY,
        "rank_mismatch": HTTPStatus.INTERNAL_SERVER_ERROR,
        "length_mismatch": HTTPStatus.INTERNAL_SERVER_ERROR,
        "non_finite": HTTPStatus.INTERNAL_SERVER_ERROR,
        "invalid_options": HTTPStatus.BAD_REQUEST,
        "invalid_settings": HTTPStatus.INTERNAL_SERVER_ERROR,
        "unsupported_format": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "corrupt_audio": HTTPStatus.UNPROCESSABLE_ENTITY,
        "source_not_found": HTTPStatus.NOT_FOUND,
        "source_forbidden": HTTPStatus.FORBIDDEN,
        "source_changed": HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_model": HTTPStatus.INTERNAL_SERVER_ERROR,
        "job_refused": HTTPStatus.BAD_REQUEST,
        "job_not_found": HTTPStatus.NOT_FOUND,
        "unreadable": HTTPStatus.INTERNAL_SERVER_ERROR,
        "job_timeout": HTTPStatus.GATEWAY_TIMEOUT,
        "cancelled": HTTPStatus.GONE,
        "webhook_gone": HTTPStatus.GONE,
        "poison": HTTPStatus.UNPROCESSABLE_ENTITY,
        "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
        "source_unreachable": HTTPStatus.BAD_GATEWAY,
        "model_unreachable": HTTPStatus.BAD_GATEWAY,
        "output_failed": HTTPStatus.INSUFFICIENT_STORAGE,
        "disk_full": HTTPStatus.INSUFFICIENT_STORAGE,
        "privacy_denied": HTTPStatus.INTERNAL_SERVER_ERROR,
        "out_of_memory": HTTPStatus.SERVICE_UNAVAILABLE,
        "device_lost": HTTPStatus.SERVICE_UNAVAILABLE,
        "worker_lost": HTTPStatus.SERVICE_UNAVAILABLE,
        "queue_full": HTTPStatus.TOO_MANY_REQUESTS,
        "server_unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
        "local_network_denied": HTTPStatus.SERVICE_UNAVAILABLE,
        "no_worker": HTTPStatus.SERVICE_UNAVAILABLE,
    }
)


def http_status(code: str) -> HTTPStatus:
    """Return the status of an error code; those of other programs are the server's fault."""
    return HTTP_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
