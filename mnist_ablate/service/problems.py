"""Errors as problem documents (RFC 9457): the same lines as on the command line, and never a traceback."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from mnist_ablate.errors import (
    AblateError,
    ConflictError,
    DataError,
    DiskError,
    SweepError,
    UnreachableError,
    mask,
)
from mnist_ablate.service.messages import PROBLEM, Place, Problem
from mnist_ablate.service.sweep_service import NotAllowedError, NotFoundError
from mnist_ablate.text import plainly, shortened

_STATUSES: Mapping[type[AblateError], int] = {
    NotFoundError: 404,
    NotAllowedError: 403,
    SweepError: 422,
    DataError: 422,
    ConflictError: 409,
    UnreachableError: 503,
    DiskError: 507,
    AblateError: 500,
}
_RETRY_S = 5
_ADVICE = {
    404: "no such address: /api/v1/openapi.json has all of them",
    405: "this address does not take {method}",
    500: "internal error: the log of the service says more under request {request}",
}
_EXIT_CODES = {401: 3, 403: 3, 409: 6, 503: 3, 507: 5, 500: 1}
_USAGE = 2
Page = Callable[[Request, Problem], Response]


def answer(
    status: int, detail: str, headers: Mapping[str, str] | None = None, places: tuple[Place, ...] = ()
) -> Response:
    """A problem document as an answer."""
    return _response(problem(status, detail, places), headers)


def problem(status: int, detail: str, places: tuple[Place, ...] = ()) -> Problem:
    """A problem by its HTTP status, with all secrets masked."""
    title, code = HTTPStatus(status).phrase, _EXIT_CODES.get(status, _USAGE)
    return Problem(title=title, status=status, detail=mask(detail), exit_code=code, places=places)


def _response(found: Problem, headers: Mapping[str, str] | None = None) -> Response:
    retry = {"Retry-After": str(_RETRY_S)} if found.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    content = found.model_dump_json()
    return Response(content, found.status, {**retry, **(headers or {})}, media_type=PROBLEM)


def of_error(error: AblateError) -> Problem:
    """The problem of one of our errors."""
    status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
    found = error.places if isinstance(error, SweepError) else ()
    places = tuple(Place(line=each.line, column=each.column, text=mask(each.text)) for each in found)
    return problem(status, str(error), places).model_copy(update={"exit_code": error.exit_code})


def install(app: FastAPI, page: Page) -> None:
    """Answer every error of a route so; a browser that asks for a page gets `page`."""

    def told(request: Request, found: Problem, headers: Mapping[str, str] | None = None) -> Response:
        if not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", ""):
            return page(request, found)
        return _response(found, headers)

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, AblateError)
        return told(request, of_error(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = _ADVICE.get(error.status_code, str(error.detail)).format(
            method=request.method, request=request_id(request)
        )
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(app, request.url.path)):
            headers["Allow"] = ", ".join(methods)  # Starlette tells those of one route alone
        return told(request, problem(error.status_code, detail), headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        lines = [f"{_where(each['loc'])}: {each['msg']}" for each in error.errors()]
        return told(request, problem(HTTPStatus.UNPROCESSABLE_ENTITY, "\n".join(dict.fromkeys(lines[:20]))))

    async def internal(request: Request, _error: Exception) -> Response:  # the gate logs it
        return told(request, problem(500, _ADVICE[500].format(request=request_id(request))))

    kinds: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        AblateError: ours,
        HTTPException: http,
        RequestValidationError: invalid,
        Exception: internal,
    }
    for kind, handler in kinds.items():
        app.add_exception_handler(kind, handler)


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods that an address of the API takes."""
    described = app.openapi()["paths"].items()
    return [method.upper() for known, about in described if compile_path(known)[0].match(path) for method in about]


def request_id(request: Request) -> str:
    """What the log calls this request."""
    return str(getattr(request.state, "request_id", "-"))


def _where(location: tuple[int | str, ...]) -> str:
    """`seeds` of `("body", "seeds")`, as far as it can be shown."""
    return plainly(shortened(".".join(str(part) for part in location[1:]) or str(location[0])))
