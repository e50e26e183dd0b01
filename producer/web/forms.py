"""What a form of ours sends: few short fields, read no further than that."""

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

_KIND = "application/x-www-form-urlencoded"
_MAX_FIELDS, _MAX_BYTES = 20, 32_768

Form = dict[str, str]


async def read_form(request: Request) -> Form:
    """Return the fields of a form; of fields with one name the last counts.

    Raises:
        HTTPException: 415, it is no form of ours; 413, it is too long; 400, it has too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise HTTPException(413, f"A form has at most {_MAX_BYTES} bytes.")
    if body and kind != _KIND:
        raise HTTPException(415, "It must be a form as browsers send it.")
    try:
        fields = parse_qsl(
            body.decode(errors="replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:
        raise HTTPException(400, f"A form has at most {_MAX_FIELDS} fields.") from error
    return dict(fields)
