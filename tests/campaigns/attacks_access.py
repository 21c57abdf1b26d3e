"""Who is let in: no account, guessed ones, ordinary ones that want more; other hosts, other sites, other databases."""

import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import psycopg2
from attacks import ANONYMOUS, SEARCH, Answer, Finding, Ground, Probe, each_refused

GUESSES = [
    *(
        f"admin:{word}"
        for word in ("admin", "password", "password1234", "Password1234", "mlflow", "changeme", "admin1234567")
    ),
    "root:root",
    "mlflow:mlflow",
    "sweeper:sweeper",
    "postgres:postgres",
    "admin' OR '1'='1' --:x",
]
PUBLIC = ("/health", "/version", "/static-files", "/favicon.ico", "/server-info")
ROUTES = {
    "REST 2.0": "/api/2.0/mlflow/",
    "REST 3.0": "/api/3.0/",
    "the page's own API 2.0": "/ajax-api/2.0/mlflow/",
    "the page's own API 3.0": "/ajax-api/3.0/",
    "artifacts": "artifact",
    "GraphQL": "/graphql",
    "model registry": "(registered-models|model-versions|logged-models)",
    "accounts": "/(users|roles|permissions|signup)",
    "gateway": "gateway",
    "jobs": "/jobs",
    "OTLP": "/v1/",
    "assistant": "/assistant",
    "MCP servers": "/mcp-servers",
    "webhooks": "/webhooks",
    "everything": ".",
}
UNCOMMON = ("/", "/metrics", "/docs", "/openapi.json", "/graphql", "/version", "/get-artifact?run_uuid=1&path=x")
DISGUISED = (
    "/health/../api/2.0/mlflow/experiments/search?max_results=1",
    "/static-files/../api/2.0/mlflow/experiments/search?max_results=1",
    "/health%2f..%2fapi/2.0/mlflow/experiments/search?max_results=1",
    "//api/2.0/mlflow/experiments/search?max_results=1",
    "/API/2.0/mlflow/experiments/search?max_results=1",
    "/api/2.0/mlflow/experiments/search/?max_results=1",
    "/api/2.0/mlflow/experiments/search;/health?max_results=1",
)


@cache
def routes() -> list[tuple[str, str]]:
    """Method and path of everything that MLflow's server, of the version installed here, can answer."""
    program = """
import json, warnings
warnings.simplefilter("ignore")
from mlflow.server import app
from mlflow.server.auth import routes
from mlflow.server.fastapi_app import create_fastapi_app
from mlflow.server.mcp_server_api import get_mcp_server_api_route_prefixes, mcp_server_router
found = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods - {"HEAD", "OPTIONS"}}
for part in create_fastapi_app().routes:
    router = getattr(part, "original_router", None)
    for route in router.routes if router else ():
        found |= {(method, route.path) for method in getattr(route, "methods", ())}
for prefix in get_mcp_server_api_route_prefixes():
    found |= {(method, prefix + route.path) for route in mcp_server_router.routes for method in route.methods}
paths = [value for value in vars(routes).values() if isinstance(value, str) and value.startswith("/")]
found |= {(method, path) for path in paths for method in ("GET", "POST", "PATCH", "DELETE")}
print(json.dumps(sorted(found)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout.splitlines()[-1])
    return [(method, re.sub(r"<[^>]+>|\{[^}]+\}", "1", path)) for method, path in found]


def anonymous(pattern: str) -> Callable[[Ground], Finding]:
    def attack(ground: Ground) -> Finding:
        chosen = [(m, path) for m, path in routes() if re.search(pattern, path) and not any(p in path for p in PUBLIC)]
        return each_refused([ground.ask(m, path, None if m == "GET" else {}, user=ANONYMOUS) for m, path in chosen])

    return attack


def guessed(ground: Ground) -> Finding:
    return each_refused([ground.ask("POST", SEARCH, {"max_results": 1}, user=guess) for guess in GUESSES])


def spoiled(ground: Ground) -> Finding:
    """Credentials of the wrong kind, and headers that a proxy would set."""
    words = ("Basic Og==", "Basic ", "Basic !!!!", "Bearer x", "Digest username=admin", "Basic YWRtaW46AA==")
    headers = [{"Authorization": each} for each in words]
    headers += [{"X-Forwarded-User": "admin"}, {"Remote-User": "admin"}, {"Cookie": "session=eyJ1IjoiYWRtaW4ifQ.x.y"}]
    ask = ground.ask
    return each_refused([ask("POST", SEARCH, {"max_results": 1}, user=ANONYMOUS, headers=each) for each in headers])


def asked(*requests: tuple[str, str], user: str = ANONYMOUS) -> Callable[[Ground], Finding]:
    return lambda ground: each_refused([ground.ask(method, path, user=user) for method, path in requests])


def says_nothing(ground: Ground) -> Finding:
    """What is public by MLflow's design: alive, and which features it has."""
    told = [ground.ask("GET", path, user=ANONYMOUS) for path in ("/health", "/api/3.0/mlflow/server-info")]
    text = " ".join(answer.body for answer in told).lower()
    words = ("postgres", "password", str(ground.service.folder).lower(), "127.0.0.1")
    return Finding("features only, no address", not any(word in text for word in words))


def hosts(*names: str) -> Callable[[Ground], Finding]:
    def attack(ground: Ground) -> Finding:
        port = str(ground.service.port)
        values = [name.replace("PORT", port) for name in names]
        return each_refused([ground.ask("GET", f"{SEARCH}?max_results=1", headers={"Host": each}) for each in values])

    return attack


def origins(method: str, *names: str) -> Callable[[Ground], Finding]:
    path = SEARCH if method == "POST" else f"{SEARCH}?max_results=1"
    body = {"max_results": 1} if method == "POST" else None
    return lambda ground: each_refused([ground.ask(method, path, body, headers={"Origin": each}) for each in names])


def preflight(ground: Ground) -> Finding:
    """A page of another site asks whether it may send credentials."""
    wish = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = ground.ask("OPTIONS", SEARCH, user=ANONYMOUS, headers=wish)
    return Finding(str(answer), answer.refused and "access-control-allow-origin" not in answer.headers)


def forwarded(ground: Ground) -> Finding:
    """A forged X-Forwarded-Host must not show up in a redirect."""
    answer = ground.ask("GET", "/static-files//x", user=ANONYMOUS, headers={"X-Forwarded-Host": "evil.example"})
    return Finding(f"{answer}, own host", "evil.example" not in str(answer.headers) + answer.body)


def redirects(ground: Ground) -> Finding:
    """Paths that careless servers turn into a redirect to another host."""
    paths = (
        "//evil.example/%2f..",
        "/\\evil.example",
        "/static-files//evil.example",
        "/%2f%2fevil.example",
        "/?next=//evil.example",
    )
    found = [ground.ask("GET", path, user=user) for path in paths for user in (ANONYMOUS, "sweeper")]
    away = [each.headers["location"] for each in found if not own(ground, each.headers.get("location", "/"))]
    return Finding(f"{len(away)} of {len(found)} lead elsewhere", not away)


def own(ground: Ground, location: str) -> bool:
    return location.startswith(ground.service.tracking_uri) or (
        location.startswith("/") and location[1:2] not in ("/", "\\")
    )


def wants_more(*requests: tuple[str, str, dict[str, Any]]) -> Callable[[Ground], Finding]:
    return lambda ground: each_refused([ground.ask(*request) for request in requests])


def databases(ground: Ground) -> Finding:
    """Each role wants into the other's database; strangers and default passwords into both."""
    words = ground.service.secrets
    tries = [("optuna", words["optuna role"], "mlflow"), ("mlflow", words["mlflow role"], "optuna")]
    tries += [(role, guess, role) for role in ("mlflow", "optuna") for guess in ("", role, "postgres", "password")]
    tries += [("postgres", "postgres", "postgres")]
    return each_refused(list(_entered(ground, tries)))


def _entered(ground: Ground, tries: list[tuple[str, str, str]]) -> Iterator[Answer]:
    for user, password, name in tries:
        where = {"host": "127.0.0.1", "port": ground.service.database_port, "passfile": "/nonexistent"}
        try:
            psycopg2.connect(user=user, password=password, dbname=name, connect_timeout=5, **where).close()
        except psycopg2.OperationalError:
            yield Answer(403)
        else:
            yield Answer(200)


def cluster(ground: Ground) -> Finding:
    """A Dask client without TLS, without a certificate, and with one of another authority."""
    import certificates

    other = certificates.made(ground.service.folder / "other-tls")
    plain = ssl.create_default_context(cafile=str(ground.service.certificates.ca_file))
    stranger = ssl.create_default_context(cafile=str(ground.service.certificates.ca_file))
    stranger.load_cert_chain(other.cert, other.key)
    return each_refused([_spoken(ground, context) for context in (None, plain, stranger)])


def _spoken(ground: Ground, context: ssl.SSLContext | None) -> Answer:
    host, port = ground.service.scheduler.removeprefix("tls://").split(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=host) if context else raw as line,
        ):
            line.sendall(b"\0" * 64)
            return Answer(200 if line.recv(1) else 0)
    except OSError:
        return Answer(0)


USERS = "/api/2.0/mlflow/users"
LONG = {"password": "abcdefgh12345678"}

PROBES = [
    *(Probe("no account", f"{name}: every route", anonymous(pattern)) for name, pattern in ROUTES.items()),
    Probe("no account", "pages, metrics, API descriptions", asked(*(("GET", path) for path in UNCOMMON))),
    Probe("no account", "a path that looks public", asked(*(("GET", path) for path in DISGUISED))),
    Probe(
        "no account",
        "TRACE, CONNECT, PROPFIND, OPTIONS",
        asked(*((m, SEARCH) for m in ("TRACE", "PROPFIND", "OPTIONS"))),
    ),
    Probe("no account", "what the public routes tell", says_nothing),
    Probe("guessed account", "default names and passwords", guessed),
    Probe("guessed account", "malformed credentials, headers of a proxy", spoiled),
    Probe(
        "ordinary account",
        "make itself administrator, take over or delete others",
        wants_more(
            ("PATCH", f"{USERS}/update-admin", {"username": "sweeper", "is_admin": True}),
            ("PATCH", f"{USERS}/update-password", {"username": "admin", **LONG}),
            ("DELETE", f"{USERS}/delete", {"username": "admin"}),
            ("POST", f"{USERS}/create", {"username": "second", **LONG}),
        ),
    ),
    Probe(
        "ordinary account",
        "change what belongs to others",
        wants_more(
            ("POST", "/api/2.0/mlflow/experiments/update", {"experiment_id": "0", "new_name": "x"}),
            ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": "0"}),
            (
                "POST",
                "/api/2.0/mlflow/experiments/permissions/create",
                {"experiment_id": "0", "username": "sweeper", "permission": "MANAGE"},
            ),
            ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/1/artifacts/x", {}),
        ),
    ),
    Probe("foreign host", "DNS rebinding", hosts("evil.example", "evil.example:PORT", "127.0.0.1.evil.example:PORT")),
    Probe("foreign host", "names like a private address", hosts("10.evil.example", "192.168.0.1", "169.254.169.254")),
    Probe(
        "foreign host",
        "other ports, none, user part",
        hosts("127.0.0.1:1", "localhost", "", "localhost:PORT@evil", "127.0.0.1:PORT.evil"),
    ),
    Probe("foreign host", "forged X-Forwarded-Host", forwarded),
    Probe(
        "foreign site",
        "a page elsewhere writes",
        origins("POST", "http://evil.example", "null", "http://localhost.evil.example"),
    ),
    Probe("foreign site", "a page elsewhere reads", origins("GET", "http://evil.example", "null", "file://")),
    Probe(
        "foreign site",
        "a page of another server on this machine",
        origins("POST", "http://localhost:1", "http://127.0.0.1:1"),
    ),
    Probe("foreign site", "preflight request", preflight),
    Probe("foreign site", "redirect to another host", redirects),
    Probe("other doors", "database: other roles, default passwords", databases),
    Probe("other doors", "Dask: no TLS, no certificate, another authority's", cluster),
]
