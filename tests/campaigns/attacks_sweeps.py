"""Attacks on the sweep service: no account, another's sweeps, other sites, code and paths that came with a sweep."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attacks import ANONYMOUS, Attack, Finding, Ground, each_refused
from attacks_access import GUESSES, SPOILED

API = "/api/v1"
JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PAGE = {"Accept": "text/html"}
LOOK = ("GET", f"{API}/sweeps")
WRITE = ("POST", f"{API}/sweeps", {"name": "planted", "file": "question: q\nseeds: 1\n"})
OWN_CODE = "question: q\nscientific: {lr: [1, 2]}\nmetrics: {acc: {unit: share}}\nseeds: 3\n"
IMAGES = "question: q\nscientific: {activation: [relu, tanh]}\nseeds: 3\n"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"
PAGES = ("/", "/new", "/sweeps/x", "/nothing")
SITES = (
    "http://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1:1",
    "https://127.0.0.1:SWEEPS_AT",
)
HOSTS = ("evil.example", "evil.example:SWEEPS_AT", "127.0.0.1.evil.example:SWEEPS_AT", "127.0.0.1:1", "", "192.168.0.1")
CLIMBS = (
    "../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/secrets",
    "%00",
    "....//....//etc/passwd",
)
CODE = (
    *("os:system", "subprocess:run", "[sh, -c, id]", "[python, -c, 'import os']", "[python, -m, http.server]"),
    *("[/bin/sh, train.py]", "[python, ../secrets/x.py]", "[./away/mlflow_admin_password]", "away.x:train", "[id]"),
)
DATA = (
    "data: /etc/passwd",
    "data: away/mlflow_admin_password",
    "data: idx:/etc",
    "data: os:getcwd",
    "choices: /etc/x.py",
)


def asks(*requests: tuple[Any, ...], user: str = "sweeper") -> Attack:
    """Each a method, a path, and perhaps a body and headers, for the sweep service. No sweep may have come of it."""

    def attack(ground: Ground) -> Finding:
        before = _known(ground)
        found = each_refused([_ask(ground, *each, user=user) for each in requests])
        return Finding(found.came_back, found.refused and _known(ground) == before and ground.is_whole())

    return attack


def _ask(ground: Ground, *request: Any, user: str = "sweeper") -> Any:
    return ground.ask(*request, user=user, port=ground.service.sweeps_port)


def _known(ground: Ground) -> list[tuple[str, bool, int]]:
    """Every sweep of the service, whether somebody stopped it, and its priority. It may begin and end meanwhile."""
    found = ground.service.call(f"{API}/sweeps?limit=500", user="admin", at=ground.service.sweeps_uri)
    return [(each["id"], each["state"] in {"paused", "cancelled"}, each["priority"]) for each in found["sweeps"]]


def everything(*, user: str) -> Attack:
    """Every route that the service describes, and its pages."""

    def attack(ground: Ground) -> Finding:
        paths = ground.service.call(f"{API}/openapi.json", user="admin", at=ground.service.sweeps_uri)["paths"]
        found = [(method.upper(), path.replace("{id_}", "x")) for path, item in paths.items() for method in item]
        return asks(*((method, path, None if method == "GET" else {}) for method, path in found), user=user)(ground)

    return attack


def pages(ground: Ground) -> Finding:
    """Without an account a page leads to the login and shows nothing."""
    answers = [_ask(ground, "GET", page, None, PAGE, user=ANONYMOUS) for page in PAGES]
    away = all(answer.status == 303 and answer.headers["location"].startswith("/login?next=") for answer in answers)
    return Finding(", ".join(sorted({str(answer) for answer in answers})), away)


def of_another(*requests: tuple[Any, ...]) -> Attack:
    """With ID for a sweep of the operator, asked by an ordinary account."""

    def attack(ground: Ground) -> Finding:
        made = {"name": "operators-own", "file": IMAGES}
        _ask(ground, "POST", f"{API}/sweeps", made, user="admin")
        return asks(*((method, path.replace("ID", "operators-own"), *rest) for method, path, *rest in requests))(ground)

    return attack


def texts(lines: Sequence[str], text: str) -> Attack:
    """A sweep file for each line, submitted and checked."""
    files = [{"name": "planted", "file": f"{text}{line}\n"} for line in lines]
    return asks(*(("POST", f"{API}/{where}", file) for file in files for where in ("sweeps", "sweeps:check")))


def sessions(ground: Ground) -> Finding:
    """Cookies that somebody made up, and a login that no page of ours showed."""
    cookies = [{"Cookie": f"mnist-ablate-session={value}"} for value in ("x", "", "admin", "a" * 4000)]
    forged = [(*LOOK, None, each) for each in cookies]
    form = b"username=admin&password=password&next=/"
    login = [("POST", "/login", form, {**FORM, **own}) for own in ({}, {"X-CSRF-Token": "0" * 64})]
    return asks(*forged, *login, user=ANONYMOUS)(ground)


def guessed(ground: Ground) -> Finding:
    """Default names and passwords; after some the address has to wait."""
    found = [_ask(ground, *LOOK, user=guess) for guess in GUESSES]
    waits = any(answer.status == 429 for answer in found)
    refused = all(answer.status in {401, 429} for answer in found)
    return Finding(each_refused([answer for answer in found if answer.status != 429]).came_back, refused and waits)


def markup(ground: Ground) -> Finding:
    """A question that is markup, in pages, reports and problems."""
    file = json.dumps({"question": MARKUP, "scientific": {"activation": ["relu", "tanh"]}, "seeds": 2})
    _ask(ground, "POST", f"{API}/sweeps", {"name": "marked-up", "file": file})
    shown = [_ask(ground, "GET", path, None, PAGE) for path in ("/", "/sweeps/marked-up", f"/sweeps/{'%3Cscript%3E'}")]
    policies = [answer.headers.get("content-security-policy", "") for answer in shown]
    safe = all("<script>alert" not in answer.body and "<img src=x" not in answer.body for answer in shown)
    strict = all("script-src 'self'" in policy and "unsafe" not in policy for policy in policies)
    return Finding(f"{'none' if safe else 'some'} in {len(shown)} pages", safe and strict)


def _headers(many: Sequence[Mapping[str, str]], request: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    method, path, *body = request
    return [(method, path, *(body or [None]), each) for each in many]


PROBES: dict[str, dict[str, Attack]] = {
    "sweeps, no account": {
        "every route of its API": everything(user=ANONYMOUS),
        "its pages": pages,
        "figures, audit record, description of the API": asks(
            ("GET", "/metrics"),
            ("GET", f"{API}/audit"),
            ("GET", f"{API}/openapi.json"),
            ("GET", "/docs"),
            user=ANONYMOUS,
        ),
        "malformed credentials, headers of a proxy": asks(*_headers(SPOILED, LOOK), user=ANONYMOUS),
        "made-up sessions, a login without its form": sessions,
        "TRACE, PROPFIND, OPTIONS": asks(
            *((method, f"{API}/sweeps") for method in ("TRACE", "PROPFIND", "OPTIONS")), user=ANONYMOUS
        ),
    },
    "sweeps, ordinary account": {
        "change a sweep of another": of_another(
            *(("POST", f"{API}/sweeps/ID/{change}") for change in ("cancel", "pause", "resume")),
            ("PUT", f"{API}/sweeps/ID/priority", {"priority": 10}),
        ),
        "read the audit record": asks(("GET", f"{API}/audit")),
        "submit for another": asks(("POST", f"{API}/sweeps", {"name": "x", "file": IMAGES, "owner": "admin"})),
    },
    "sweeps, other sites": {
        "DNS rebinding, foreign hosts": asks(*_headers([{"Host": host} for host in HOSTS], LOOK)),
        "a page elsewhere writes": asks(*_headers([{"Origin": site} for site in SITES], WRITE)),
        "a page elsewhere sends a form": asks(
            *(("POST", path, b"name=planted&file=x", FORM) for path in ("/new", "/login", "/logout")), user=ANONYMOUS
        ),
        "a browser that tells of another site": asks(*_headers([{"Sec-Fetch-Site": "cross-site"}], WRITE)),
    },
    "sweeps, code that came along": {
        "functions and programs of the machine": texts([f"train: {code}" for code in CODE], OWN_CODE),
        "by a change of a shipped sweep": asks(
            ("POST", f"{API}/sweeps", {"name": "dropout", "set": ["train=os:system"]}),
            ("POST", f"{API}/sweeps?name=planted&set=data=/etc/passwd", IMAGES.encode(), YAML),
        ),
        "data and choices from elsewhere, links that lead out": texts(DATA, IMAGES),
        "files beside the code": texts(["train: train:train\ncode: [away, /etc/passwd]"], OWN_CODE),
    },
    "sweeps, paths and sizes": {
        "names and ids that climb": asks(
            *(("GET", f"{API}/sweeps/{climb}/{part}") for climb in CLIMBS for part in ("file", "report.html")),
            *(("GET", f"/static/{climb}") for climb in CLIMBS),
            *(("POST", f"{API}/sweeps", {"name": climb}) for climb in CLIMBS),
        ),
        "too large, too deep, too many": asks(
            ("POST", f"{API}/sweeps?name=planted", b"x" * 2_000_000, YAML),
            ("POST", f"{API}/sweeps?name=planted", b"x", {**YAML, "Content-Length": "100000000000"}),
            ("POST", f"{API}/sweeps", b"[" * 200_000, JSON),
            ("POST", f"{API}/sweeps?name=planted", b"a: &a [x]\nb: [*a, *a]\n" + b"c: {d: {e: {f: {}}}}\n" * 9, YAML),
            ("POST", f"{API}/sweeps", {"name": "planted", "file": IMAGES, "set": ["seeds=1000", "tuning_trials=1000"]}),
            ("GET", f"{API}/sweeps", None, {"X-Long": "x" * 2_000_000}),
        ),
        "markup in a question": markup,
        "other kinds of content": asks(
            *(("POST", f"{API}/sweeps", b"<a/>", {"Content-Type": kind}) for kind in ("text/xml", "image/png", "x")),
        ),
    },
    "sweeps, guessed account": {"default names and passwords": guessed},
}
"""The guesses come last: they use up what the address may try in a minute."""
