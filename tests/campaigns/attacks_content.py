"""What an ordinary account may send: paths and names, places to read and write, code to run, and how much of it."""

import json
import secrets
from collections.abc import Iterator

from attacks import ANONYMOUS, LOOK, MLFLOW, SEARCH, Answer, Attack, Finding, Ground, asks, each_refused, gets

FILES = "/api/2.0/mlflow-artifacts/artifacts"
UPLOAD = "/ajax-api/2.0/mlflow/upload-artifact?run_uuid="
CLIMBS = (
    *(f"/{up}/{{}}" for up in ("..", "../..", "%2e%2e", ".%2e", "x/../..", "./..")),
    *(f"/{up}{{}}" for up in ("..%2f", "%252e%252e/", "..%252f", "..%5c")),
)
TARGETS = (("read", "GET", "basic_auth.ini"), ("write", "PUT", "planted.txt"), ("delete", "DELETE", "basic_auth.ini"))
ABSOLUTE = ("//etc/passwd", "/%2Fetc%2Fpasswd", "/file:///etc/passwd", "//proc/self/environ")
FOLDERS = ("../", "..%2f", "/etc", "%2e%2e%2f", "..", "file:///etc")
OUTSIDE = ("../../../basic_auth.ini", "..%2f..%2f..%2fplanted", "/etc/passwd", "%2e%2e/%2e%2e/%2e%2e/planted")
LOCAL = ("file:///etc", "file:/etc", "/etc", "../../etc", "file:///proc/self")
CLIMBING = ("mlflow-artifacts:/../../etc", "mlflow-artifacts:/%2e%2e/%2e%2e")
LOCATIONS = (*LOCAL, *CLIMBING, "s3://somebody-elses-bucket/x", "http://169.254.169.254/latest", "dbfs:/x")
HOSTS = ("http://169.254.169.254/latest/meta-data", "http://127.0.0.1:8786/", "s3://bucket/../x")
SOURCES = ("file:///etc", "/etc/passwd", CLIMBING[0], "runs:/00000000000000000000000000000000/../x", *HOSTS)
INSIDE = ("http://169.254.169.254/", "http://127.0.0.1:22/", "https://localhost/", "file:///etc/passwd")
CALLED = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
PATHS = ("../planted", "..%2fplanted", "a/../../planted", "/etc/planted")
NAMES = (*PATHS, "<script>alert(1)</script>", "'; DROP TABLE runs; --")
POINT = {"run_id": "RUN_ID", "key": "../../planted", "value": 1, "timestamp": 1}
"""Metric, parameter and tag names may become file names."""
JOB = {"job_name": "os.system", "params": {"command": "id"}}
OWN_RUNS = {"experiment_ids": ["EXPERIMENT_ID"]}
SQL = (
    {"filter": "tags.x = 'a' OR 1=1; DROP TABLE runs"},
    {"filter": "metrics.a > 0) UNION SELECT password_hash FROM users --"},
    {"order_by": ["pg_sleep(5)"]},
)


def climbs(method: str, target: str, user: str) -> Attack:
    body = b"planted" if method == "PUT" else None
    return asks(*((method, FILES + each.format(target), body) for each in CLIMBS), user=user)


def posts(*requests: tuple[str, object], user: str = "sweeper") -> Attack:
    return asks(*(("POST", *each) for each in requests), user=user)


def locations(user: str) -> Attack:
    named = (("artifact_location", LOCATIONS), ("artifactLocation", LOCATIONS[:2]))
    bodies = [{"name": secrets.token_hex(4), name: place} for name, places in named for place in places]
    return posts(*((f"{MLFLOW}/experiments/create", body) for body in bodies), user=user)


def names(ground: Ground) -> Finding:
    """A name is text: the files of an experiment or run of that name lie where all lie."""
    places = [place for name in NAMES for place in _places(ground, f"{name}-{secrets.token_hex(2)}")]
    held = all(place.startswith("mlflow-artifacts:/") and ".." not in place for place in places)
    return Finding(f"{len(places)} kept as text, own folders", held and ground.is_whole())


def _places(ground: Ground, name: str) -> Iterator[str]:
    id_ = json.loads(ground.ask("POST", f"{MLFLOW}/experiments/create", {"name": name}).body)["experiment_id"]
    made = ground.ask("POST", f"{MLFLOW}/runs/create", {"experiment_id": id_, "run_name": name})
    run = json.loads(made.body)["run"]["info"]
    ground.ask("POST", f"{UPLOAD}{run['run_id']}&path=planted.txt", b"planted")
    yield ground.service.call(f"{MLFLOW}/experiments/get?experiment_id={id_}")["experiment"]["artifact_location"]
    yield run["artifact_uri"]


def sources(ground: Ground) -> Finding:
    name = {"name": f"model-{secrets.token_hex(4)}"}
    ground.ask("POST", f"{MLFLOW}/registered-models/create", name)
    bodies = [{**name, "source": each, **run} for each in SOURCES for run in ({}, {"run_id": "RUN_ID"})]
    return posts(*((f"{MLFLOW}/model-versions/create", body) for body in bodies))(ground)


def calls_inside(user: str) -> Attack:
    """Routes that would make the server call an address of the caller's choice."""
    hooks = [(f"{MLFLOW}/webhooks", {"name": "w", "url": each, "events": CALLED}) for each in INSIDE]
    path = "/ajax-api/2.0/mlflow/gateway-proxy"
    return posts(*hooks, *((path, {"gateway_path": each, "json_data": {}}) for each in INSIDE), user=user)


def alive(ground: Ground) -> bool:
    return ground.ask(*LOOK).status == 200


def too_much(ground: Ground) -> Finding:
    """64 MiB of JSON, by nobody and by an account."""
    found = each_refused([ground.ask("POST", SEARCH, b" " * 2**26, user=user) for user in (ANONYMOUS, "sweeper")])
    return Finding(found.came_back, found.refused and alive(ground))


def too_deep(ground: Ground) -> Finding:
    """Nested brackets, and an answer afterwards."""
    answer = ground.ask("POST", SEARCH, b"[" * 100_000)
    said = "Traceback" in answer.body or answer.status == 200
    return Finding(f"{answer}, no traceback, alive", not said and alive(ground))


def too_many(ground: Ground) -> Finding:
    points = [{"key": "a", "value": 1, "timestamp": 1, "step": step} for step in range(1001)]
    fields = " ".join(f'a{n}: mlflowGetRun(input: {{runId: "x"}}) {{run {{info {{runId}}}}}}' for n in range(200))
    batch = ground.ask("POST", f"{MLFLOW}/runs/log-batch", {"run_id": "RUN_ID", "metrics": points})
    named = ground.ask("POST", f"{MLFLOW}/experiments/create", {"name": "x" * 600})
    graph = ground.ask("POST", "/graphql", {"query": f"{{{fields}}}", "operationName": None})
    return each_refused([batch, named, Answer(400) if json.loads(graph.body).get("data") is None else graph])


RUNS_CODE = (
    ("/ajax-api/3.0/jobs", JOB),
    ("/ajax-api/3.0/jobs/", JOB),
    ("/ajax-api/3.0/mlflow/assistant/message", {"message": "run id"}),
    ("/api/3.0/mlflow/scorers/register", {"experiment_id": "0", "name": "s", "serialized_scorer": "{}"}),
    ("/api/3.0/mlflow/mcp-servers", {"name": "x"}),
)
KEY = {"secret_name": "a", "secret_value": {"api_key": "x"}, "provider": "openai"}
ASSISTANTS = ("mlflow/%61ssistant", "/mlflow/assistant", "mlflow/x/../assistant", "mlflow/ASSISTANT")
DISGUISED = (
    *((f"/ajax-api/3.0/{path}/message", {"message": "run id"}) for path in ASSISTANTS),
    ("/ajax-api/3.0/%6aobs", {"job_name": "os.system", "params": {}}),
    ("/api/2.0/mlflow/webhooks%2f", {"name": "w", "url": INSIDE[0]}),
)
PROBES: dict[str, dict[str, Attack]] = {
    "paths": {
        **{
            f"{verb} above the artifacts{note}": climbs(method, target, user)
            for verb, method, target in TARGETS
            for note, user in (("", "sweeper"), (", as administrator", "admin"))
        },
        "absolute paths": gets(*(FILES + path for path in ABSOLUTE)),
        "list above the artifacts": gets(
            *(f"{FILES}?path={each}" for each in FOLDERS),
            *(f"{MLFLOW}/artifacts/list?run_id=RUN_ID&path={each}" for each in FOLDERS),
        ),
        "a run's file outside the run": asks(
            *(("GET", f"/get-artifact?run_uuid=RUN_ID&path={each}") for each in OUTSIDE),
            *(("POST", f"{UPLOAD}RUN_ID&path={each}", b"planted") for each in OUTSIDE),
        ),
        "static files outside their folder": gets(
            *("/static-files" + each.format("etc/passwd") for each in CLIMBS), user=ANONYMOUS
        ),
    },
    "places": {
        "experiment kept in /etc, in other stores": locations("sweeper"),
        "the same, as administrator": locations("admin"),
        "experiment and run names as paths": names,
        "metric, parameter and tag names as paths": posts(
            (f"{MLFLOW}/runs/log-metric", POINT),
            (f"{MLFLOW}/runs/log-parameter", {**POINT, "value": "x"}),
            (f"{MLFLOW}/runs/set-tag", {**POINT, "value": "x"}),
        ),
        "model version from files, other hosts": sources,
        "server calls an inside address": calls_inside("sweeper"),
        "the same call, as administrator": calls_inside("admin"),
    },
    "code": {
        "run jobs, assistant, scorers": posts(*RUNS_CODE),
        "the same, as administrator": posts(*RUNS_CODE, user="admin"),
        "closed routes in disguise": posts(*DISGUISED, user="admin"),
        "gateway: keep keys, call models": posts(
            ("/api/3.0/mlflow/gateway/secrets/create", KEY),
            ("/gateway/x/mlflow/invocations", {"messages": []}),
            ("/ajax-api/3.0/mlflow/gateway/endpoints/list", {}),
        ),
        "OTLP traces and metrics": posts(*((f"/v1/{what}", {}) for what in ("traces", "metrics", "logs"))),
        "SQL in filters and orders": posts(*((f"{MLFLOW}/runs/search", {**OWN_RUNS, **each}) for each in SQL)),
    },
    "amounts": {
        "64 MiB of JSON": too_much,
        "200 kB of address or header": asks(
            ("GET", f"{SEARCH}?x={'y' * 200_000}"), ("GET", SEARCH, None, {"X-Long": "y" * 200_000})
        ),
        "100,000 nested brackets": too_deep,
        "too many points, fields, letters": too_many,
    },
}
