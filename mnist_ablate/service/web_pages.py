"""The service's pages: the list, one sweep live, the form with its editor, the login. Decides and records nothing."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader

from mnist_ablate.errors import AblateError, ConflictError, SweepError
from mnist_ablate.execution.live_progress import Snapshot
from mnist_ablate.reports import wording
from mnist_ablate.service.browser_sessions import account_of, csrf_of, form_of
from mnist_ablate.service.messages import Asked, Problem
from mnist_ablate.service.queue import PRIORITIES
from mnist_ablate.service.submissions import OVER, State, Submission
from mnist_ablate.service.sweep_service import Change, SweepService
from mnist_ablate.sweep.sweep import QUICK
from mnist_ablate.sweep.sweep_file import template
from mnist_ablate.text import shown

PAGE_SIZE = 50
_LOG_LINES = 200
_CHART_STEPS = 20
"""How often the chart of a running sweep is drawn anew, in all."""
_FEWEST_LINES = 20
_NEW_NAME, _SCHEMA = "my_sweep", "mnist-ablate.schema.json"
_STYLES = ("reports/templates/charts.css", "reports/templates/report.css", "service/templates/service.css")
Fields = Annotated[dict[str, str], Depends(form_of)]


def router(service: SweepService) -> APIRouter:
    """The pages on what a service has."""
    routes, pages = APIRouter(include_in_schema=False), _Pages(service)
    shown = (
        ("/", pages.sweeps),
        ("/sweeps/{id_}", pages.sweep),
        ("/new", pages.new),
        ("/api", api),
        ("/style.css", style),
    )
    for path, page in shown:
        routes.add_api_route(path, page, methods=["GET"])
    for path, form in (
        ("/sweeps/{id_}/priority", pages.prioritize),
        ("/sweeps/{id_}/{change}", pages.change),
        ("/new/check", pages.check),
        ("/new", pages.submit),
    ):
        routes.add_api_route(path, form, methods=["POST"])
    return routes


class _Pages:
    def __init__(self, service: SweepService) -> None:
        self._service = service

    def sweeps(
        self,
        request: Request,
        state: State | None = None,
        owner: Annotated[str | None, Query(max_length=255)] = None,
        before: Annotated[int | None, Query(ge=1)] = None,
    ) -> Response:
        """The latest sweeps, of a state or a person, and those before."""
        queue = self._service.queue
        found = self._service.submissions(state, owner, PAGE_SIZE, before)
        running = queue.snapshots([each.id for each in found if each.state == "running"])
        content = {
            "sweeps": found,
            "snapshots": {id_: Snapshot.model_validate(data) for id_, data in running.items()},
            "counts": queue.counts(),
            "state": state,
            "owner": owner,
            "older": found[-1].number if len(found) == PAGE_SIZE else None,
        }
        return _page(request, "sweeps", content)

    def sweep(self, request: Request, id_: str) -> Response:
        """One sweep, live."""
        return self._sweep(request, self._service.submission(id_))

    def prioritize(self, request: Request, id_: str, fields: Fields) -> Response:
        """Give one its priority, and go back to it."""

        def change() -> Submission:
            priority = _whole(fields.get("priority", ""), "priority", PRIORITIES)
            return self._service.set_priority(id_, priority, account_of(request), request.state.client)

        return self._changed(request, id_, change)

    def change(self, request: Request, id_: str, change: Change) -> Response:
        """Cancel, pause or resume one, and go back to it."""
        account, where = account_of(request), request.state.client
        return self._changed(request, id_, lambda: self._service.change(id_, change, account, where))

    def new(self, request: Request, source: Annotated[str, Query(alias="from", max_length=255)] = "") -> Response:
        """The form, with a template, a shipped sweep or one that was submitted."""
        name, text = _NEW_NAME, ""
        if source:
            shipped = {each.name: each.file for each in self._service.catalog}
            name, text = (source, shipped[source]) if source in shipped else _again(self._service.submission(source))
        return self._form(request, {"name": name, "file": text or template(name, _SCHEMA)})

    def check(self, request: Request, fields: Fields) -> Response:
        """What is found of a text while somebody writes it."""
        return _page(request, "checked", {**self._checked(fields), "lines": _line_count(fields)})

    def submit(self, request: Request, fields: Fields) -> Response:
        """Hand a sweep in and go to its page, or say what is wrong; a browser without JavaScript can only check."""
        if "check" in fields:
            return self._form(request, fields)
        try:
            found, _ = self._service.submit(_asked(fields), account_of(request), request.state.client)
        except AblateError as error:
            return self._form(request, fields, error)
        return RedirectResponse(f"/sweeps/{found.id}", HTTPStatus.SEE_OTHER)

    def _changed(self, request: Request, id_: str, change: Callable[[], Submission]) -> Response:
        """Do what a button says, and go back to the page; or show it with the reason why that cannot be."""
        try:
            found = change()
        except (ConflictError, SweepError) as error:
            return self._sweep(request, self._service.submission(id_), str(error))
        return RedirectResponse(f"/sweeps/{found.id}", HTTPStatus.SEE_OTHER)

    def _sweep(self, request: Request, found: Submission, refusal: str = "") -> Response:
        events = self._service.queue.events(found.id)
        latest = next((each.data for each in reversed(events) if each.kind == "snapshot"), None)
        step = max(1, found.planned // _CHART_STEPS)
        content = {
            "sweep": found,
            "snapshot": Snapshot.model_validate(latest or {}),
            "log": [each for each in events if each.kind != "snapshot"][-_LOG_LINES:],
            "drawn": found.recorded if found.is_over else found.recorded and max(1, found.recorded // step * step),
            "refusal": refusal,
            "is_embedded": self._service.settings.tracking_uri == self._service.settings.embedded_uri,
        }
        return _page(request, "sweep", content, HTTPStatus.CONFLICT if refusal else HTTPStatus.OK)

    def _form(self, request: Request, fields: Mapping[str, str], error: AblateError | None = None) -> Response:
        """The form with these fields, and what is found of them."""
        found = _told(error) if error else self._checked(fields)
        content = {**found, "lines": _line_count(fields), "fields": fields, "catalog": self._service.catalog}
        return _page(request, "new", content, HTTPStatus.UNPROCESSABLE_ENTITY if error else HTTPStatus.OK)

    def _checked(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """What a sweep would train, else what is wrong with it."""
        try:
            return {"plan": self._service.check(_asked(fields)), "places": (), "message": ""}
        except AblateError as error:
            return _told(error)


def api(request: Request) -> Response:
    """The addresses for programs."""
    found, address = request.app.openapi(), str(request.app.openapi_url)
    content = {"description": found, "address": address, "base": str(request.base_url).rstrip("/")}
    return _page(request, "api", {**content, "prefix": address.rpartition("/")[0]})


def style() -> Response:
    """The colors and forms of reports, and what only these pages have."""
    return Response(_style(), media_type="text/css", headers={"Cache-Control": "no-cache"})


def login_page(request: Request, message: str, next_: str, csrf: str) -> Response:
    """Where somebody says who they are. `message` says why the last try failed; `next_` is where they go then."""
    status = HTTPStatus.UNAUTHORIZED if message else HTTPStatus.OK
    return _page(request, "login", {"message": message, "next": next_, "csrf": csrf}, status)


def error_page(request: Request, problem: Problem) -> Response:
    """Why a page cannot be shown."""
    return _page(request, "error", {"problem": problem}, problem.status)


def _page(request: Request, name: str, content: Mapping[str, Any], status: int = HTTPStatus.OK) -> Response:
    """A page for a browser; only its live part where the page itself asks for that."""
    is_part = request.headers.get("hx-request") == "true"
    account = getattr(request.state, "account", None)
    about = {"account": account, "path": request.url.path, "query": request.url.query, "is_part": is_part}
    about["can_log_out"] = str(getattr(request.state, "subject", "")).startswith("session ")
    csrf = content.get("csrf") or (csrf_of(request) if account else "")
    text = _templates().get_template(f"{name}.html.jinja").render({**about, **content, "csrf": csrf})
    return HTMLResponse(text, status, {"Vary": "HX-Request, Cookie"})


def _told(error: AblateError) -> dict[str, Any]:
    places = error.places if isinstance(error, SweepError) else ()
    return {"plan": None, "places": places, "message": "" if places else str(error)}


def _line_count(fields: Mapping[str, str]) -> int:
    return max(_FEWEST_LINES, fields.get("file", "").count("\n") + 1)


def _asked(fields: Mapping[str, str]) -> Asked:
    """What the fields of the form ask for. Raises SweepError if a number is none."""
    seeds = fields.get("seeds", "").strip()
    return Asked(
        name=fields.get("name", "").strip()[:200],
        file=fields.get("file", "").replace("\r\n", "\n"),
        seeds=_whole(seeds, "seeds", range(1, 1001)) if seeds else None,
        quick="quick" in fields,
        priority=_whole(fields.get("priority", "") or "0", "priority", PRIORITIES),
    )


def _whole(text: str, name: str, allowed: range = PRIORITIES) -> int:
    """The number in a field."""
    try:
        found = int(text)
    except ValueError:
        found = allowed.stop
    if found not in allowed:
        raise SweepError(f"{name}: expected a whole number from {allowed[0]} to {allowed[-1]}, not {shown(text)}")
    return found


def _again(found: Submission) -> tuple[str, str]:
    """The name and the text with which a submission can be asked again."""
    return found.name.removesuffix(QUICK) if found.quick else found.name, found.text


@cache
def _templates() -> Environment:
    made = wording.templates().overlay(loader=PackageLoader("mnist_ablate.service"))
    made.globals.update(SIGNS=wording.SIGNS, OVER=OVER, version=version("mnist-ablate"))
    made.filters.update(moment=_moment, tally=_tally, step=_step)
    return made


@cache
def _style() -> str:
    package = files("mnist_ablate")
    return "\n".join((package / path).read_text(encoding="utf-8") for path in _STYLES)


def _moment(at: datetime) -> str:
    """`2026-11-29 16:20 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _tally(verdicts: Mapping[str, str]) -> list[tuple[str, int]]:
    """How often there is each verdict, in the order in which verdicts are told."""
    counts = Counter(verdicts.values())
    return [(verdict, counts[verdict]) for verdict in wording.SIGNS if counts[verdict]]


def _step(sweep: Submission) -> str:
    """The state in words; of one that is being stopped, that."""
    return {"cancel": "cancelling", "pause": "pausing"}.get(sweep.wanted, sweep.state)
