"""The HTTP API of the service, version 1: addresses, bodies and answers. Each route calls `SweepService`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from mnist_ablate.execution.preview import Preview
from mnist_ablate.reports.report import Report
from mnist_ablate.service.accounts import Account
from mnist_ablate.service.browser_sessions import account_of
from mnist_ablate.service.event_stream import EventFeed
from mnist_ablate.service.messages import PROBLEM, Asked, InAddress, Priority, Problem, ShippedSweep
from mnist_ablate.service.submissions import State
from mnist_ablate.service.sweep_service import Change, Form, SweepService

PREFIX = "/api/v1"
YAML_TYPES = {"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}
_JSON = "application/json"
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
_MOST_NUMBER = 2**31 - 1
_KINDS: Mapping[Form, str] = {"json": _JSON, "html": "text/html", "svg": "image/svg+xml"}
_DIGITS = 19  # a number of 64 bits has fewer


class Known(BaseModel):
    """A sweep in the queue. `exit_code` is what `sweep` would have ended with, null before the end."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    id: str
    name: str
    owner: str
    question: str
    digest: str
    quick: bool
    state: State
    wanted: str
    priority: int
    submitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    runner: str | None
    attempt: int
    exit_code: int | None
    reason: str
    planned: int
    recorded: int
    processor_s: float
    link: str
    verdicts: dict[str, str]


class Submitted(BaseModel):
    """What became of a sweep that was sent. It is not new if the same question was there."""

    sweep: Known
    is_new: bool
    plan: Preview


class Listed(BaseModel):
    """The latest sweeps. `next` goes into `before` to ask for those that follow; null after the last."""

    sweeps: list[Known]
    next: int | None


class Noted(BaseModel):
    """Who asked for what, and from where."""

    model_config = ConfigDict(from_attributes=True)

    number: int
    at: datetime
    who: str
    what: str
    submission: str
    where: str


class Audited(BaseModel):
    """The latest of the audit record. `next` goes into `before`."""

    entries: list[Noted]
    next: int | None


_REFUSALS: Mapping[int, str] = {
    400: "The request cannot be read",
    401: "No such account",
    403: "Not allowed",
    404: "No such sweep",
    405: "Another method",
    409: "Makes no sense in this state, or another question has this name",
    413: "Too large",
    415: "Another content type",
    422: "The sweep or a parameter is wrong; `places` says where",
    429: "Too many requests; Retry-After says when to come again",
    500: "Internal error",
    503: "Database or MLflow does not answer",
    507: "The disk is full",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "model": Problem, "content": {PROBLEM: {}}} for status, text in _REFUSALS.items()
}
Who = Annotated[Account, Depends(account_of)]
Id = Annotated[str, Path(description="The id of a sweep, or its name: then the latest of that name.", max_length=255)]
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int | None, Query(ge=1, le=_MOST_NUMBER, description="Those with a lower number.")]


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unknown_kind(request: Request, allowed: str) -> HTTPException:
    return HTTPException(415, f"Content-Type {_content_type(request)[:60] or 'is missing'}: send {allowed}")


async def _json_of(request: Request) -> bytes:
    if _content_type(request) != _JSON:
        raise _unknown_kind(request, _JSON)
    return await request.body()


def _model(kind: type[BaseModel], text: bytes) -> Any:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:20]]
        status = 400 if any(each["type"] == "json_invalid" for each in error.errors()) else 422
        raise HTTPException(status, "\n".join(lines)) from None


async def asked_of(request: Request, address: Annotated[InAddress, Query()]) -> Asked:
    """The sweep that a request asks for: JSON with everything, or a sweep file with the rest in the address."""
    kind = _content_type(request)
    if kind == _JSON:
        found: Asked = _model(Asked, await request.body())
        return found
    if kind not in YAML_TYPES:
        raise _unknown_kind(request, f"{_JSON} or application/yaml")
    text = (await request.body()).decode("utf-8", "surrogateescape")
    return Asked(file=text, **address.model_dump())


async def priority_of(request: Request) -> int:
    """The priority that a request gives."""
    found: Priority = _model(Priority, await _json_of(request))
    return found.priority


def _body(kind: type[BaseModel], *others: str) -> dict[str, Any]:
    """What OpenAPI says of a body that a route reads itself."""
    content = {_JSON: {"schema": kind.model_json_schema()}}
    texts = {other: {"schema": {"type": "string"}} for other in others}
    return {"requestBody": {"required": True, "content": {**content, **texts}}}


_ASKED = _body(Asked, "application/yaml")


def api(service: SweepService, feed: EventFeed) -> APIRouter:
    """The routes of the API on what a service has."""
    routes = APIRouter(prefix=PREFIX, responses=REFUSALS)
    _add_submitting(routes, service)
    _add_looking(routes, service)
    _add_documents(routes, service)
    _add_events(routes, service, feed)
    _add_changing(routes, service)
    return routes


def _add_submitting(routes: APIRouter, service: SweepService) -> None:
    @routes.post("/sweeps", status_code=201, openapi_extra=_ASKED, responses={200: {"model": Submitted}})
    def submit(request: Request, response: Response, who: Who, asked: Annotated[Asked, Depends(asked_of)]) -> Submitted:
        """Submit a sweep. The same question twice is the same sweep: the second answer is 200."""
        found, is_new = service.submit(asked, who, request.state.client)
        request.state.sweep = found.id  # for the log
        response.status_code = 201 if is_new else 200
        response.headers["Location"] = f"{PREFIX}/sweeps/{found.id}"
        return Submitted(sweep=Known.model_validate(found), is_new=is_new, plan=service.plan(found.id))

    @routes.post("/sweeps:check", openapi_extra=_ASKED)
    def check(asked: Annotated[Asked, Depends(asked_of)]) -> Preview:
        """What a sweep would train, or all that is wrong with it, each with its place. Nothing is registered."""
        return service.check(asked)


def _add_looking(routes: APIRouter, service: SweepService) -> None:
    @routes.get("/sweeps")
    def sweeps(
        state: State | None = None,
        owner: Annotated[str | None, Query(max_length=255)] = None,
        limit: Limit = 50,
        before: Before = None,
    ) -> Listed:
        """The latest sweeps."""
        found = service.submissions(state, owner, limit, before)
        known = [Known.model_validate(each) for each in found]
        return Listed(sweeps=known, next=found[-1].number if len(found) == limit else None)

    @routes.get("/sweeps/{id_}")
    def sweep(id_: Id) -> Known:
        """One sweep."""
        return Known.model_validate(service.submission(id_))

    @routes.get("/sweeps/{id_}/plan")
    def plan(id_: Id) -> Preview:
        """What it trains. No time is estimated: the events tell it while the sweep runs."""
        return service.plan(id_)

    @routes.get("/catalog")
    def catalog() -> Sequence[ShippedSweep]:
        """The sweeps that ship with the package, with their files."""
        return service.catalog

    @routes.get("/audit")
    def audit(who: Who, limit: Limit = 100, before: Before = None) -> Audited:
        """Who submitted, changed, cancelled what, and from where. For operators."""
        found = service.audit(who, limit, before)
        noted = [Noted.model_validate(each) for each in found]
        return Audited(entries=noted, next=found[-1].number if len(found) == limit else None)


def _add_events(routes: APIRouter, service: SweepService, feed: EventFeed) -> None:
    @routes.get(
        "/sweeps/{id_}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, 204: {"description": "Ended, and nothing new"}},
    )
    async def events(request: Request, id_: Id, who: Who) -> Response:
        """What happened and happens to it: state, message, verdict, snapshot. `Last-Event-ID` says what is known."""
        found = await run_in_threadpool(service.submission, id_)
        known = request.headers.get("last-event-id", "")
        after = int(known) if known.isascii() and known.isdigit() and len(known) < _DIGITS else 0
        if found.is_over and after and not await run_in_threadpool(service.queue.events, found.id, after=after):
            return Response(status_code=204)  # tells a browser to stop asking
        if feed.is_full(who.name):
            raise HTTPException(429, "too many event streams are open: close some", {"Retry-After": "10"})
        stream = feed.stream(found.id, after, who.name, request.state.is_still_allowed)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _add_changing(routes: APIRouter, service: SweepService) -> None:
    def ask(change: Change, request: Request, id_: str, who: Account) -> Known:
        return Known.model_validate(service.change(id_, change, who, request.state.client))

    @routes.post("/sweeps/{id_}/cancel")
    def cancel(request: Request, id_: Id, who: Who) -> Known:
        """End a sweep. One that runs ends within seconds; what is recorded of it stays."""
        return ask("cancel", request, id_, who)

    @routes.post("/sweeps/{id_}/pause")
    def pause(request: Request, id_: Id, who: Who) -> Known:
        """Hold a sweep back until it is resumed. Of one that runs, trials may finish for 30 seconds."""
        return ask("pause", request, id_, who)

    @routes.post("/sweeps/{id_}/resume")
    def resume(request: Request, id_: Id, who: Who) -> Known:
        """Let a paused sweep go on."""
        return ask("resume", request, id_, who)

    @routes.put("/sweeps/{id_}/priority", openapi_extra=_body(Priority))
    def prioritize(request: Request, id_: Id, who: Who, priority: Annotated[int, Depends(priority_of)]) -> Known:
        """Say which of the sweeps of one user goes first."""
        return Known.model_validate(service.set_priority(id_, priority, who, request.state.client))


def _add_documents(routes: APIRouter, service: SweepService) -> None:
    """The files of a sweep: its text, its report in several formats, its records."""

    @routes.get("/sweeps/{id_}/file", response_class=Response, responses={200: {"content": {"application/yaml": {}}}})
    def file(id_: Id) -> Response:
        """The sweep file, with the changes that it was submitted with."""
        return Response(service.submission(id_).text, media_type="application/yaml")

    def document(request: Request, id_: str, form: Form) -> Response:
        found = service.document(id_, form)
        tag = f'"{found.etag}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Content-Security-Policy": _REPORT_POLICY}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)

    kinds: dict[int | str, dict[str, Any]] = {
        200: {"model": Report, "content": {"text/html": {}, "image/svg+xml": {}}},
        304: {"description": "As known"},
    }

    @routes.get("/sweeps/{id_}/report", response_class=Response, responses=kinds)
    def report(request: Request, id_: Id) -> Response:
        """The report on what is recorded, in the format that `Accept` asks for: JSON, HTML or SVG."""
        accepted = request.headers.get("accept", "")
        places = {accepted.find(kind): form for form, kind in _KINDS.items() if kind in accepted}
        answer = document(request, id_, places[min(places)] if places else "json")
        answer.headers["Vary"] = "Accept"
        return answer

    def add_file(form: Form) -> None:
        @routes.get(f"/sweeps/{{id_}}/report.{form}", response_class=Response, responses=kinds, name=f"report_{form}")
        def report_file(request: Request, id_: Id) -> Response:
            """The report in the format of the suffix."""
            return document(request, id_, form)

    for form in _KINDS:
        add_file(form)

    @routes.get(
        "/sweeps/{id_}/records.zip", response_class=Response, responses={200: {"content": {"application/zip": {}}}}
    )
    def records(id_: Id) -> Response:
        """All records of the sweep, as `export` writes them and `restore` reads them."""
        return Response(service.records(id_), media_type="application/zip")
