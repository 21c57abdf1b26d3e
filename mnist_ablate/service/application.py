"""The service as one application: the API, the pages, login, health and figures, behind the gate. Serves no port."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from mnist_ablate.errors import AblateError
from mnist_ablate.service import problems, web_pages
from mnist_ablate.service.accounts import Accounts
from mnist_ablate.service.api import PREFIX, api
from mnist_ablate.service.browser_sessions import LIFE_S, Sessions, csrf_of, form_of
from mnist_ablate.service.event_stream import EventFeed
from mnist_ablate.service.gate import Doors, Gate, RefusedError
from mnist_ablate.service.monitoring import AccessLog, Monitoring
from mnist_ablate.service.sweep_service import SweepService
from mnist_ablate.text import plainly


def create_app(
    service: SweepService, accounts: Accounts, doors: Doors, on_feed: Callable[[EventFeed], None] = lambda _: None
) -> ASGIApp:
    """The whole service as an ASGI application. `on_feed` gets what must be closed before the server can end."""
    feed, sessions = EventFeed(service.queue), Sessions()
    on_feed(feed)
    monitoring = Monitoring(service.queue, service.settings.tracking_uri, lambda: feed.streams)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(feed.run())
        yield
        feed.close()
        await looking

    app = FastAPI(
        title="mnist-ablate",
        summary="Claims about training networks, turned into verdicts.",
        version=version("mnist-ablate"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # those pages fetch scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.sessions = sessions
    app.include_router(api(service, feed))
    app.include_router(web_pages.router(service))
    app.mount("/static", StaticFiles(directory=Path(web_pages.__file__).with_name("static")), "static")
    problems.install(app, web_pages.error_page)
    gate = Gate(app, doors, accounts, sessions)
    _add_doors(app, gate, sessions, service, accounts)
    _add_monitoring(app, monitoring)
    return AccessLog(gate, monitoring)


def _add_doors(app: FastAPI, gate: Gate, sessions: Sessions, service: SweepService, accounts: Accounts) -> None:
    """Login and logout of people with a browser."""

    @app.get("/login", include_in_schema=False)
    def login_page(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
        if not accounts.takes_passwords:
            return RedirectResponse("/", 303)
        return web_pages.login_page(request, "", _own_path(next), csrf_of(request))

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        fields = await form_of(request)
        name, client = fields.get("username", "").strip(), request.state.client
        try:
            account = await gate.account(name, fields.get("password", ""), client)
        except RefusedError as refused:
            await run_in_threadpool(_note, service, name, "login refused", client)
            texts = {401: "No such account, or another password.", 429: "Too many tries: wait a minute."}
            text = texts.get(refused.response.status_code, "The accounts cannot be asked now: try again.")
            page = web_pages.login_page(request, text, _own_path(fields.get("next", "/")), csrf_of(request))
            page.status_code = refused.response.status_code
            return page
        await run_in_threadpool(_note, service, account.name, "login", client)
        session = sessions.begin(name, fields.get("password", ""))
        answer = RedirectResponse(_own_path(fields.get("next", "/")), 303)
        answer.set_cookie(
            gate.cookie, session.token, max_age=int(LIFE_S), httponly=True, samesite="strict", secure=gate.is_secure
        )
        return answer

    @app.post("/logout", include_in_schema=False)
    async def logout(request: Request) -> Response:
        sessions.end(request.cookies.get(gate.cookie, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(gate.cookie, httponly=True, samesite="strict", secure=gate.is_secure)
        return answer


def _note(service: SweepService, who: str, what: str, client: str) -> None:
    with contextlib.suppress(AblateError):
        service.queue.note(plainly(who[:100]), what, where=client)


def _own_path(path: str) -> str:
    """A path of this service; the first page for what leads elsewhere."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if is_own else "/"


def _add_monitoring(app: FastAPI, monitoring: Monitoring) -> None:
    """What a load balancer and Prometheus ask."""

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    def readyz(request: Request, response: Response) -> dict[str, str]:
        is_ready, parts = monitoring.readiness()
        response.status_code = 200 if is_ready else 503
        if request.state.account is None:  # addresses are for those who have an account
            return {name: "ok" if said == "ok" else "not ok" for name, said in parts.items()}
        return parts

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(monitoring.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
