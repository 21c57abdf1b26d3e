"""Who is let in: no account, guessed ones, ordinary ones that want more; other hosts, other sites, other databases."""

import json
import re
import socket
import ssl
import subprocess
import sys
from functools import cache

import certificates
import psycopg2
from attacks import ANONYMOUS, LOOK, MLFLOW, SEARCH, Answer, Attack, Finding, Ground, asks, each_refused, gets

READ = ("GET", f"{SEARCH}?max_results=1", None)
USERS = f"{MLFLOW}/users"
LONG = {"password": "abcdefgh12345678"}
_WORDS = ("admin", "password", "password1234", "Password1234", "mlflow", "changeme", "admin1234567")
GUESSES = [
    *(f"admin:{word}" for word in _WORDS),
    *(f"{name}:{name}" for name in ("root", "mlflow", "sweeper", "postgres")),
    "admin' OR '1'='1' --:x",
]
SPOILED = [
    *({"Authorization": f"Basic {words}"} for words in ("Og==", "", "!!!!", "YWRtaW46AA==")),
    {"Authorization": "Bearer x"},
    {"Authorization": "Digest username=admin"},
    {"X-Forwarded-User": "admin"},
    {"Remote-User": "admin"},
    {"Cookie": "session=eyJ1IjoiYWRtaW4ifQ.x.y"},
]
"""Credentials of the wrong kind, and headers that a proxy would set."""
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
    f"/health/..{SEARCH}",
    f"/static-files/..{SEARCH}",
    f"/health%2f..%2f{SEARCH[1:]}",
    f"/{SEARCH}",
    SEARCH.replace("api", "API"),
    f"{SEARCH}/",
    f"{SEARCH};/health",
)
ELSEWHERE = ("//evil.example/%2f..", "/\\evil.example", "/static-files//evil.example", "/%2f%2fevil.example")


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


def anonymous(pattern: str) -> Attack:
    def attack(ground: Ground) -> Finding:
        found = [each for each in routes() if re.search(pattern, each[1]) and not any(p in each[1] for p in PUBLIC)]
        return asks(*((m, path, None if m == "GET" else {}) for m, path in found), user=ANONYMOUS)(ground)

    return attack


def guessed(ground: Ground) -> Finding:
    return each_refused([ground.ask(*LOOK, user=guess) for guess in GUESSES])


def hosts(*names: str) -> Attack:
    return asks(*((*READ, {"Host": name}) for name in names))


def preflight(ground: Ground) -> Finding:
    """A page of another site asks whether it may send credentials."""
    wish = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = ground.ask("OPTIONS", SEARCH, headers=wish, user=ANONYMOUS)
    return Finding(str(answer), answer.refused and "access-control-allow-origin" not in answer.headers)


def says_nothing(ground: Ground) -> Finding:
    """What is public by MLflow's design: alive, and which features it has."""
    told = [ground.ask("GET", path, user=ANONYMOUS) for path in ("/health", "/api/3.0/mlflow/server-info")]
    text = " ".join(answer.body for answer in told).lower()
    words = ("postgres", "password", str(ground.service.folder).lower(), "127.0.0.1")
    return Finding("features only, no address", not any(word in text for word in words))


def forwarded(ground: Ground) -> Finding:
    """A forged X-Forwarded-Host must not show up in a redirect."""
    answer = ground.ask("GET", "/static-files//x", headers={"X-Forwarded-Host": "evil.example"}, user=ANONYMOUS)
    return Finding(f"{answer}, own host", "evil.example" not in str(answer.headers) + answer.body)


def redirects(ground: Ground) -> Finding:
    """Paths that careless servers turn into a redirect to another host."""
    paths = (*ELSEWHERE, "/?next=//evil.example")
    found = [ground.ask("GET", path, user=user) for path in paths for user in (ANONYMOUS, "sweeper")]
    places = [each.headers.get("location", "/") for each in found]
    ours = [p.startswith(ground.service.tracking_uri) or re.match(r"/(?![/\\])", p) is not None for p in places]
    return Finding(f"{ours.count(False)} of {len(found)} lead elsewhere", all(ours))


def databases(ground: Ground) -> Finding:
    """Each role wants into the other's database; strangers and default passwords into both."""
    words = ground.service.secrets
    tries = [("optuna", words["optuna role"], "mlflow"), ("mlflow", words["mlflow role"], "optuna")]
    tries += [(role, guess, role) for role in ("mlflow", "optuna") for guess in ("", role, "postgres", "password")]
    tries += [("postgres", "postgres", "postgres")]
    return each_refused([_entered(ground.service.database_port, *each) for each in tries])


def _entered(port: int, user: str, password: str, name: str) -> Answer:
    where = {"host": "127.0.0.1", "port": port, "passfile": "/nonexistent", "connect_timeout": 5}
    try:
        psycopg2.connect(user=user, password=password, dbname=name, **where).close()
    except psycopg2.OperationalError:
        return Answer(403)
    return Answer(200)


def cluster(ground: Ground) -> Finding:
    """A Dask client without TLS, without a certificate, and with one of another authority."""
    other = certificates.made(ground.service.folder / "other-tls")
    plain, stranger = (ssl.create_default_context(cafile=str(ground.service.certificates.ca_file)) for _ in range(2))
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


_TAKE = {"experiment_id": "0", "username": "sweeper", "permission": "MANAGE"}
_SITES = ("http://evil.example", "null", "http://localhost.evil.example")
PROBES: dict[str, dict[str, Attack]] = {
    "no account": {
        **{f"{name}: every route": anonymous(pattern) for name, pattern in ROUTES.items()},
        "pages, metrics, API descriptions": gets(*UNCOMMON, user=ANONYMOUS),
        "a path that looks public": gets(*(f"{path}?max_results=1" for path in DISGUISED), user=ANONYMOUS),
        "TRACE, CONNECT, PROPFIND, OPTIONS": asks(
            *((method, SEARCH) for method in ("TRACE", "PROPFIND", "OPTIONS")), user=ANONYMOUS
        ),
        "what the public routes tell": says_nothing,
    },
    "guessed account": {
        "default names and passwords": guessed,
        "malformed credentials, headers of a proxy": asks(*((*LOOK, each) for each in SPOILED), user=ANONYMOUS),
    },
    "ordinary account": {
        "make itself administrator, take over or delete others": asks(
            ("PATCH", f"{USERS}/update-admin", {"username": "sweeper", "is_admin": True}),
            ("PATCH", f"{USERS}/update-password", {"username": "admin", **LONG}),
            ("DELETE", f"{USERS}/delete", {"username": "admin"}),
            ("POST", f"{USERS}/create", {"username": "second", **LONG}),
        ),
        "change what belongs to others": asks(
            ("POST", f"{MLFLOW}/experiments/update", {"experiment_id": "0", "new_name": "x"}),
            ("POST", f"{MLFLOW}/experiments/delete", {"experiment_id": "0"}),
            ("POST", f"{MLFLOW}/experiments/permissions/create", _TAKE),
            ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/1/artifacts/x", {}),
        ),
    },
    "foreign host": {
        "DNS rebinding": hosts("evil.example", "evil.example:PORT", "127.0.0.1.evil.example:PORT"),
        "names like a private address": hosts("10.evil.example", "192.168.0.1", "169.254.169.254"),
        "other ports, none, user part": hosts(
            "127.0.0.1:1", "localhost", "", "localhost:PORT@evil", "127.0.0.1:PORT.evil"
        ),
        "forged X-Forwarded-Host": forwarded,
    },
    "foreign site": {
        "a page elsewhere writes": asks(*((*LOOK, {"Origin": site}) for site in _SITES)),
        "a page elsewhere reads": asks(*((*READ, {"Origin": site}) for site in (*_SITES[:2], "file://"))),
        "a page of another server on this machine": asks(
            *((*LOOK, {"Origin": f"http://{host}:1"}) for host in ("localhost", "127.0.0.1"))
        ),
        "preflight request": preflight,
        "redirect to another host": redirects,
    },
    "other doors": {
        "database: other roles, default passwords": databases,
        "Dask: no TLS, no certificate, another authority's": cluster,
    },
}
