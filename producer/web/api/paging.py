"""What a request for a list may say: `limit`, `after`, `order`."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from producer.web.api.errors import Refusal
from producer.web.api.records import MAX_LISTED

T = TypeVar("T", bound=BaseModel)


class PageQuery(BaseModel):
    """Which part of a list is asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    limit: Annotated[int, Field(ge=1, le=10_000)] = 20
    after: Annotated[str, Field(max_length=200)] | None = None
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None

    @property
    def size(self) -> int:
        """Return how many are listed: OpenAI's clients may ask for more than we give at once."""
        return min(self.limit, MAX_LISTED)


def read_query(request: Request, model: type[T]) -> T:
    """Return the query of a request as a model.

    Raises:
        Refusal: a value is out of bounds.
    """
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise Refusal.of_validation(error) from error
