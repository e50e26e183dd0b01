"""The description of the HTTP front: sound, and of all that there is."""

import json

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from producer.errors import ERRORS
from producer.http_status import HTTP_STATUS
from producer.web.api.routes import ENDPOINTS


def test_the_document_is_sound_and_complete(ask):
    """By OpenAPI's own rules; each address has its line, its summary and its answers."""
    document = ask.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    plain = {(each.method, each.path.replace(":path}", "}")) for each in ENDPOINTS}
    assert described == plain
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations)
    assert "job_taken_over" in json.dumps(document["components"]["schemas"]["Event"])


def test_every_error_has_a_status():
    """One table, beside the errors; what the caller can mend is 4xx."""
    assert set(HTTP_STATUS) == set(ERRORS)
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())
    for code in ("invalid_options", "unsupported_format", "corrupt_audio", "source_not_found"):
        assert HTTP_STATUS[code] < 500


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/audio/transcriptions"), ("PUT", "/jobs")]
)
def test_another_method_is_405(ask, method, path):
    """In the same form as all errors, and so is an address that does not exist."""
    answer = ask.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert ask.get("/v1/images").json()["error"]["code"] == "not_found"
