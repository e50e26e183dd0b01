"""The page on which a person gives the token."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from producer.web.access import COOKIE, COOKIE_LIFE_S, next_page
from producer.web.forms import read_form
from producer.web.rendering import render
from producer.web.web import web_of


async def login(request: Request) -> Response:
    """Show the form, or take it."""
    access = web_of(request).access
    target = next_page(request.query_params.get("next", "/"))
    if access.token is None:
        return RedirectResponse(target, 303)
    if request.method != "POST":
        return render("login.html.j2", is_wrong=False, target=target)
    form = await read_form(request)
    target = next_page(form.get("next", ""))
    if not access.is_token(form.get("token", "").strip()):
        return render("login.html.j2", 401, is_wrong=True, target=target)
    answer = RedirectResponse(target, 303)
    answer.set_cookie(
        COOKIE,
        access.cookie(),
        max_age=COOKIE_LIFE_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


async def logout(request: Request) -> Response:
    """Forget the token in this browser."""
    del request
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer
