"""What an ordinary account may send: paths and names, places to read and write, code to run, and how much of it."""

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from attacks import ANONYMOUS, SEARCH, Answer, Finding, Ground, Probe, each_refused

FILES = "/api/2.0/mlflow-artifacts/artifacts"
MLFLOW = "/api/2.0/mlflow"
CLIMBS = (
    "/../{}",
    "/../../{}",
    "/%2e%2e/{}",
    "/..%2f{}",
    "/%252e%252e/{}",
    "/..%252f{}",
    "/..%5c{}",
    "/.%2e/{}",
    "/x/../../{}",
    "/./../{}",
)
ABSOLUTE = ("//etc/passwd", "/%2Fetc%2Fpasswd", "/file:///etc/passwd", "//proc/self/environ")
LOCATIONS = (
    "file:///etc",
    "file:/etc",
    "/etc",
    "../../etc",
    "file:///proc/self",
    "mlflow-artifacts:/../../etc",
    "mlflow-artifacts:/%2e%2e/%2e%2e",
    "s3://somebody-elses-bucket/x",
    "http://169.254.169.254/latest",
    "dbfs:/x",
)
SOURCES = (
    "file:///etc",
    "/etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "http://127.0.0.1:8786/",
    "mlflow-artifacts:/../../etc",
    "runs:/00000000000000000000000000000000/../x",
    "s3://bucket/../x",
)
INSIDE = ("http://169.254.169.254/", "http://127.0.0.1:22/", "https://localhost/", "file:///etc/passwd")
NAMES = (
    "../planted",
    "..%2fplanted",
    "a/../../planted",
    "/etc/planted",
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
)


def climbs(method: str, target: str, user: str) -> Callable[[Ground], Finding]:
    def attack(ground: Ground) -> Finding:
        bodies = {"PUT": b"planted"}
        paths = [FILES + each.format(target) for each in CLIMBS]
        found = each_refused([ground.ask(method, path, bodies.get(method), user=user) for path in paths])
        kept = (ground.service.folder / "basic_auth.ini").exists()
        return Finding(found.came_back, found.refused and kept and not ground.outside())

    return attack


def listings(ground: Ground) -> Finding:
    wishes = ("../", "..%2f", "/etc", "%2e%2e%2f", "..", "file:///etc")
    lists = [f"{FILES}?path={each}" for each in wishes]
    lists += [f"{MLFLOW}/artifacts/list?run_id={ground.run_id}&path={each}" for each in wishes]
    return each_refused([ground.ask("GET", path) for path in lists])


def run_files(ground: Ground) -> Finding:
    """The two routes that name a run and a path inside it."""
    wishes = ("../../../basic_auth.ini", "..%2f..%2f..%2fplanted", "/etc/passwd", "%2e%2e/%2e%2e/%2e%2e/planted")
    where = f"run_uuid={ground.run_id}&path="
    reads = [ground.ask("GET", f"/get-artifact?{where}{each}") for each in wishes]
    writes = [ground.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?{where}{each}", b"planted") for each in wishes]
    found = each_refused(reads + writes)
    return Finding(found.came_back, found.refused and not ground.outside())


def locations(user: str) -> Callable[[Ground], Finding]:
    def attack(ground: Ground) -> Finding:
        bodies = [{"name": secrets.token_hex(4), "artifact_location": each} for each in LOCATIONS]
        bodies += [{"name": secrets.token_hex(4), "artifactLocation": each} for each in LOCATIONS[:2]]
        return each_refused([ground.ask("POST", f"{MLFLOW}/experiments/create", body, user=user) for body in bodies])

    return attack


def names(ground: Ground) -> Finding:
    """A name is text: the files of an experiment or run of that name lie where all lie."""
    places = [place for name in NAMES for place in _places(ground, f"{name}-{secrets.token_hex(2)}")]
    held = all(place.startswith("mlflow-artifacts:/") and ".." not in place for place in places)
    return Finding(f"{len(places)} kept as text, own folders", held and not ground.outside())


def _places(ground: Ground, name: str) -> Iterator[str]:
    made = ground.ask("POST", f"{MLFLOW}/experiments/create", {"name": name}).json
    run = {"experiment_id": made["experiment_id"], "run_name": name}
    found = ground.ask("POST", f"{MLFLOW}/runs/create", run).json["run"]["info"]
    ground.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={found['run_id']}&path=planted.txt", b"planted")
    yield ground.service.call(f"{MLFLOW}/experiments/get?experiment_id={made['experiment_id']}")["experiment"][
        "artifact_location"
    ]
    yield found["artifact_uri"]


def keys(ground: Ground) -> Finding:
    """Metric, parameter and tag names may become file names."""
    value = {"run_id": ground.run_id, "key": "../../planted", "value": 1, "timestamp": 1}
    text = value | {"value": "x"}
    calls = (("log-metric", value), ("log-parameter", text), ("set-tag", text))
    return each_refused([ground.ask("POST", f"{MLFLOW}/runs/{call}", body) for call, body in calls])


def sources(ground: Ground) -> Finding:
    name = {"name": f"model-{secrets.token_hex(4)}"}
    ground.ask("POST", f"{MLFLOW}/registered-models/create", name)
    bodies = [name | {"source": each} | run for each in SOURCES for run in ({}, {"run_id": ground.run_id})]
    return each_refused([ground.ask("POST", f"{MLFLOW}/model-versions/create", body) for body in bodies])


def calls_inside(user: str) -> Callable[[Ground], Finding]:
    """Routes that would make the server call an address of the caller's choice."""

    def attack(ground: Ground) -> Finding:
        event = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
        hooks = [{"name": "w", "url": each, "events": event} for each in INSIDE]
        found = [ground.ask("POST", f"{MLFLOW}/webhooks", body, user=user) for body in hooks]
        proxied = [{"gateway_path": each, "json_data": {}} for each in INSIDE]
        path = "/ajax-api/2.0/mlflow/gateway-proxy"
        return each_refused(found + [ground.ask("POST", path, body, user=user) for body in proxied])

    return attack


def posts(user: str, *requests: tuple[str, Any]) -> Callable[[Ground], Finding]:
    return lambda ground: each_refused([ground.ask("POST", path, body, user=user) for path, body in requests])


def too_much(ground: Ground) -> Finding:
    """64 MiB of JSON, by nobody and by an account."""
    found = each_refused([ground.ask("POST", SEARCH, b" " * 2**26, user=user) for user in (ANONYMOUS, "sweeper")])
    return Finding(found.came_back, found.refused and ground.ask("POST", SEARCH, {"max_results": 1}).status == 200)


def too_long(ground: Ground) -> Finding:
    long = "y" * 200_000
    return each_refused([ground.ask("GET", f"{SEARCH}?x={long}"), ground.ask("GET", SEARCH, headers={"X-Long": long})])


def too_deep(ground: Ground) -> Finding:
    """Nested brackets, and an answer afterwards."""
    answer = ground.ask("POST", SEARCH, b"[" * 100_000)
    alive = ground.ask("POST", SEARCH, {"max_results": 1}).status == 200
    return Finding(f"{answer}, no traceback, alive", "Traceback" not in answer.body and answer.status != 200 and alive)


def too_many(ground: Ground) -> Finding:
    points = [{"key": "a", "value": 1, "timestamp": 1, "step": step} for step in range(1001)]
    fields = " ".join(f'a{n}: mlflowGetRun(input: {{runId: "x"}}) {{run {{info {{runId}}}}}}' for n in range(200))
    batch = ground.ask("POST", f"{MLFLOW}/runs/log-batch", {"run_id": ground.run_id, "metrics": points})
    named = ground.ask("POST", f"{MLFLOW}/experiments/create", {"name": "x" * 600})
    graph = ground.ask("POST", "/graphql", {"query": f"{{{fields}}}", "operationName": None})
    return each_refused([batch, named, Answer(400) if json.loads(graph.body).get("data") is None else graph])


def injected(ground: Ground) -> Finding:
    """SQL in filters and orders."""
    own = {"experiment_ids": [ground.experiment_id]}
    filters = ("tags.x = 'a' OR 1=1; DROP TABLE runs", "metrics.a > 0) UNION SELECT password_hash FROM users --")
    bodies = [own | {"filter": each} for each in filters] + [own | {"order_by": ["pg_sleep(5)"]}]
    return each_refused([ground.ask("POST", f"{MLFLOW}/runs/search", body) for body in bodies])


RUNS_CODE = (
    ("/ajax-api/3.0/jobs", {"job_name": "os.system", "params": {"command": "id"}}),
    ("/ajax-api/3.0/jobs/", {"job_name": "os.system", "params": {"command": "id"}}),
    ("/ajax-api/3.0/mlflow/assistant/message", {"message": "run id"}),
    ("/api/3.0/mlflow/scorers/register", {"experiment_id": "0", "name": "s", "serialized_scorer": "{}"}),
    ("/api/3.0/mlflow/mcp-servers", {"name": "x"}),
)
KEEPS_KEYS = (
    (
        "/api/3.0/mlflow/gateway/secrets/create",
        {"secret_name": "a", "secret_value": {"api_key": "x"}, "provider": "openai"},
    ),
    ("/gateway/x/mlflow/invocations", {"messages": []}),
    ("/ajax-api/3.0/mlflow/gateway/endpoints/list", {}),
)
DISGUISED = (
    ("/ajax-api/3.0/mlflow/%61ssistant/message", {"message": "run id"}),
    ("/ajax-api/3.0//mlflow/assistant/message", {"message": "run id"}),
    ("/ajax-api/3.0/mlflow/x/../assistant/message", {"message": "run id"}),
    ("/ajax-api/3.0/mlflow/ASSISTANT/message", {"message": "run id"}),
    ("/ajax-api/3.0/%6aobs", {"job_name": "os.system", "params": {}}),
    ("/api/2.0/mlflow/webhooks%2f", {"name": "w", "url": INSIDE[0]}),
)
OTLP = (("/v1/traces", {}), ("/v1/metrics", {}), ("/v1/logs", {}))

PROBES = [
    Probe("paths", "read above the artifacts", climbs("GET", "basic_auth.ini", "sweeper")),
    Probe("paths", "read above the artifacts, as administrator", climbs("GET", "basic_auth.ini", "admin")),
    Probe("paths", "write above the artifacts", climbs("PUT", "planted.txt", "sweeper")),
    Probe("paths", "write above the artifacts, as administrator", climbs("PUT", "planted.txt", "admin")),
    Probe("paths", "delete above the artifacts", climbs("DELETE", "basic_auth.ini", "sweeper")),
    Probe("paths", "delete above the artifacts, as administrator", climbs("DELETE", "basic_auth.ini", "admin")),
    Probe("paths", "absolute paths", lambda g: each_refused([g.ask("GET", FILES + path) for path in ABSOLUTE])),
    Probe("paths", "list above the artifacts", listings),
    Probe("paths", "a run's file outside the run", run_files),
    Probe(
        "paths",
        "static files outside their folder",
        lambda g: each_refused(
            [g.ask("GET", "/static-files" + each.format("etc/passwd"), user=ANONYMOUS) for each in CLIMBS]
        ),
    ),
    Probe("places", "experiment kept in /etc, in other stores", locations("sweeper")),
    Probe("places", "the same, as administrator", locations("admin")),
    Probe("places", "experiment and run names as paths", names),
    Probe("places", "metric, parameter and tag names as paths", keys),
    Probe("places", "model version from files, other hosts", sources),
    Probe("places", "server calls an inside address", calls_inside("sweeper")),
    Probe("places", "the same, as administrator", calls_inside("admin")),
    Probe("code", "run jobs, assistant, scorers", posts("sweeper", *RUNS_CODE)),
    Probe("code", "the same, as administrator", posts("admin", *RUNS_CODE)),
    Probe("code", "closed routes in disguise", posts("admin", *DISGUISED)),
    Probe("code", "gateway: keep keys, call models", posts("sweeper", *KEEPS_KEYS)),
    Probe("code", "OTLP traces and metrics", posts("sweeper", *OTLP)),
    Probe("code", "SQL in filters and orders", injected),
    Probe("amounts", "64 MiB of JSON", too_much),
    Probe("amounts", "200 kB of address or header", too_long),
    Probe("amounts", "100,000 nested brackets", too_deep),
    Probe("amounts", "too many points, fields, letters", too_many),
]
