"""The OpenAPI document, made from the addresses and their models: https://spec.openapis.org/oas/v3.1.0."""

import importlib.metadata
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from producer.web.api.errors import ErrorBody

if TYPE_CHECKING:
    from producer.web.api.routes import Endpoint

_REF = "#/components/schemas/{model}"
# What an address may refuse, beside what is its own; all in the same form.
_REFUSALS = {
    "400": "A field is unknown, unsupported or out of bounds.",
    "401": "The token is needed.",
    "403": "Outside of what may be asked for.",
    "404": "Not known here.",
    "413": "Larger than it may be.",
    "415": "Of a kind that is not read.",
    "422": "The recording cannot be read.",
    "429": "Enough waits; Retry-After says when to come again.",
    "500": "A defect, or a worker that is wrongly set up.",
    "503": "No server or worker is there; Retry-After says when to come again.",
    "504": "Not done in time; the job goes on.",
}


def document(
    endpoints: Iterable["Endpoint"], also: Iterable[type[BaseModel]] = ()
) -> dict[str, Any]:
    """Return the document.

    Args:
        endpoints: The addresses.
        also: Models that are described though no address names them.
    """
    listed = list(endpoints)
    models = dict.fromkeys(model for each in listed for model in _models_of(each))
    wanted: list[type[BaseModel]] = [*models, *also, ErrorBody]
    refs, schemas = models_json_schema(
        [(model, "validation") for model in wanted], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in listed:
        operation = _operation(each, {model: refs[(model, "validation")] for model in wanted})
        paths.setdefault(_plain(each.path), {})[each.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scribefarm",
            "version": importlib.metadata.version("scribefarm"),
            "description": "Recordings become text: OpenAI's shape, and the farm's own.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _models_of(endpoint: "Endpoint") -> list[type[BaseModel]]:
    taken = (endpoint.form, endpoint.body, endpoint.query)
    return [*(model for model in taken if model is not None), *endpoint.gives]


def _operation(endpoint: "Endpoint", refs: dict[type[BaseModel], Any]) -> dict[str, Any]:
    name = endpoint.handler.__name__
    is_translation = endpoint.path.endswith("/translations")
    operation: dict[str, Any] = {
        "operationId": "translate" if is_translation else name,
        "summary": (inspect.getdoc(endpoint.handler) or "").partition("\n")[0],
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint.query)],
        "responses": _responses(endpoint, refs),
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": refs[endpoint.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.form is not None:
        content = {"multipart/form-data": {"schema": _form_schema(endpoint.form)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of a form: those of the model, and the file."""
    own = model.model_json_schema(ref_template=_REF)
    properties = {
        f"{name}[]" if field.get("type") == "array" else name: field
        for name, field in own["properties"].items()
    }
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "type": "object",
        "properties": {"file": file, **properties},
        "required": ["file", *own.get("required", [])],
        "additionalProperties": False,
    }


def _responses(endpoint: "Endpoint", refs: dict[type[BaseModel], Any]) -> dict[str, Any]:
    schemas = [refs[model] for model in endpoint.gives]
    content: dict[str, Any] = {
        media_type: {"schema": {"type": "string"}} for media_type in endpoint.others
    }
    if schemas:
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        content["application/json"] = {"schema": schema}
    found: dict[str, Any] = {str(endpoint.status): {"description": "Done.", "content": content}}
    if "transcri" in endpoint.path or "transla" in endpoint.path:
        found["202"] = {"description": "To be done; Location says where it stands."}
    refused = {"application/json": {"schema": refs[ErrorBody]}}
    for status, why in _REFUSALS.items():
        found[status] = {"description": why, "content": refused}
    return found


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", path)
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    own = model.model_json_schema(ref_template=_REF)
    return [
        {"name": name, "in": "query", "required": name in own.get("required", []), "schema": field}
        for name, field in own["properties"].items()
    ]


def _plain(path: str) -> str:
    return re.sub(r":\w+\}", "}", path)
