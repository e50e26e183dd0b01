"""`/v1/models`: the models that may be asked for."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producer.web.api.model_choice import chosen_model, farm_models
from producer.web.api.shapes import ModelList, ModelShape
from producer.web.api.state import api_of


async def list_models(request: Request) -> Response:
    """List the farm's own model as whisper-1, and those that its workers have."""
    api = api_of(request)
    names = await asyncio.to_thread(farm_models, api.connection, api.settings)
    return JSONResponse(ModelList(data=[ModelShape(id=name) for name in names]).model_dump())


async def get_model(request: Request) -> Response:
    """Say whether a model may be asked for."""
    api, name = api_of(request), request.path_params["model"]
    await asyncio.to_thread(chosen_model, api.connection, api.settings, name)
    return JSONResponse(ModelShape(id=name).model_dump())
