"""docker-compose.yml keeps its policies, each policy notices what breaks it, and the images are what it says."""

import copy
import json
import re
import subprocess
import sys
from functools import reduce
from importlib.metadata import version
from operator import getitem
from pathlib import Path
from typing import Any

import compose_policy as policy
import jsonschema
import mlflow
import pytest
from check_jsonschema import builtin_schemas

from mnist_ablate.service.stack import new_secrets

ROOT = Path(__file__).parents[2]
COMPOSE = policy.load()
SERVICES = COMPOSE["services"]
CHECKS = [(name, found) for name in SERVICES for found in policy.POLICIES if found.covers(name)]


@pytest.mark.parametrize(("name", "demand"), CHECKS, ids=[f"{name}-{found.name}" for name, found in CHECKS])
def test_service_keeps_the_policy(name: str, demand: Any) -> None:
    assert demand.holds(SERVICES[name]), demand.how


def test_no_service_escapes_the_policies_and_no_policy_its_test() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    both = {name: ["cluster", "service"] for name in ("scheduler", "worker")}
    own = {"sweep": ["cluster"], "service": ["service"], "runner": ["service"]}
    assert profiles == {"db": None, "mlflow": None, "account": None, **both, **own}
    assert not list(policy.broken(COMPOSE))
    assert {found.name for found in policy.POLICIES} <= {name.partition(": ")[2] for name in BREAKS}


BREAKS: dict[str, tuple[str, Any]] = {
    "db: exact image, digest-ready": ("image", "${POSTGRES_IMAGE:-postgres:latest}"),
    "mlflow: own images are built here": ("pull_policy", None),
    "worker: nothing installed at start": ("entrypoint", ["sh", "-c", "pip install x && mnist-ablate"]),
    "mlflow: not root": ("user", "${STACK_UID:-0}:${STACK_GID:-0}"),
    "db: not root": ("user", None),
    "db: root file system read-only": ("read_only", False),
    "worker: root file system read-only": ("tmpfs", ["/tmp:mode=1777"]),
    "mlflow: no host folders": ("volumes", ["/var/run/docker.sock:/var/run/docker.sock"]),
    "sweep: no capabilities": ("cap_drop", ["NET_RAW"]),
    "mlflow: no new privileges": ("privileged", True),
    "account: no new privileges": ("security_opt", None),
    "worker: limits": ("deploy", {"resources": {"limits": {"cpus": "1", "pids": 100}}}),
    "scheduler: logs rotate": ("logging", {"driver": "json-file"}),
    "worker: signals and zombies": ("init", None),
    "db: time to stop": ("stop_grace_period", None),
    "db: secrets are files": ("environment.POSTGRES_PASSWORD", "postgres"),
    "sweep: secrets are files": ("environment.OPTUNA_STORAGE", "postgresql+psycopg2://optuna:word@db/optuna"),
    "mlflow: telemetry off": ("environment.MLFLOW_DISABLE_TELEMETRY", "false"),
    "mlflow: loopback ports": ("ports", ["${MLFLOW_PORT:-5000}:5000"]),
    "db: not published": ("ports", ["127.0.0.1:5432:5432"]),
    "scheduler: not published": ("networks", ["cluster", "edge"]),
    "worker: database out of the workers' reach": ("networks", ["cluster", "data"]),
    "worker: health checked": ("healthcheck", None),
    "mlflow: health asks the database": ("healthcheck", {"test": ["CMD", "curl", ":5000/health"]}),
    "mlflow: known hosts": ("environment.MLFLOW_SERVER_ALLOWED_HOSTS", "mlflow:5000,*"),
    "mlflow: known origins": ("environment.MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "*"),
    "mlflow: no jobs, no pickles": ("environment.MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true"),
    "network data: internal": ("data", {}),
}


@pytest.mark.parametrize("found", BREAKS)
def test_policy_notices_what_breaks_it(found: str) -> None:
    document, (path, value) = copy.deepcopy(COMPOSE), BREAKS[found]
    *way, last = path.split(".")
    changed = reduce(getitem, way, document["services"].get(found.partition(":")[0], document["networks"]))
    changed[last] = value
    if value is None:
        del changed[last]
    assert found in list(policy.broken(document))


def test_file_follows_the_schema_of_the_compose_specification_which_notices_a_misspelled_key() -> None:
    found = builtin_schemas.get_builtin_schema("vendor.compose-spec")
    schema = jsonschema.validators.validator_for(found)(found)  # of the draft it names: another passes everything
    assert not [error.message for error in schema.iter_errors(COMPOSE)]
    document = copy.deepcopy(COMPOSE)
    document["services"]["db"]["read_onyl"] = True
    assert any("read_onyl" in error.message for error in schema.iter_errors(document))


def test_what_services_name_is_declared() -> None:
    for service in SERVICES.values():
        used = [secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", [])]
        assert set(used) <= set(COMPOSE["secrets"])
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(volume)).partition(":")[0]
            assert source in {*COMPOSE["volumes"], "/dev/null"} or (ROOT / source).is_file()


def test_secrets_are_those_that_stack_init_writes_and_each_service_sees_only_those_it_needs() -> None:
    assert set(COMPOSE["secrets"]) == set(new_secrets()) - {"client.env"}
    assert all(secret["file"] == f"./secrets/{name}" for name, secret in COMPOSE["secrets"].items())
    seen = {name: json.dumps(service.get("secrets", [])) for name, service in SERVICES.items()}
    assert [name for name, text in seen.items() if "postgres_password" in text] == ["db"]
    assert [name for name, text in seen.items() if "mlflow_admin_password" in text] == ["mlflow", "account"]
    assert seen["worker"] == seen["scheduler"] == "[]"
    assert [name for name, text in seen.items() if "mail_password" in text] == ["runner"]
    assert [name for name, text in seen.items() if "mlflow_credentials" in text] == ["account", "sweep", "runner"]


def test_docs_hold_the_policy_table_that_the_script_prints() -> None:
    done = subprocess.run([sys.executable, policy.__file__], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, policy.table(COMPOSE))
    assert policy.table(COMPOSE) in (ROOT / "docs" / "guides" / "team-stack.md").read_text(encoding="utf-8")


def test_images_are_of_the_version_and_base_of_the_compose_file_and_end_as_another_user_than_root() -> None:
    before, *stages = policy.DOCKERFILE.read_text().split("\nFROM ")
    final = {stage.split(" AS ")[1].split("\n")[0]: stage for stage in stages}
    for service in (each for each in SERVICES.values() if "build" in each):
        assert re.findall(r"^USER (.*)$", final[service["build"]["target"]], re.MULTILINE) == ["10001:10001"]
        assert service["image"].endswith(f":{version('mnist-ablate')}")
        assert f"ARG PYTHON_IMAGE={policy.default(service['build']['args']['PYTHON_IMAGE'])}" in before.splitlines()


def test_everything_in_the_server_image_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = (ROOT / "docker" / "requirements.txt").read_text().splitlines()
    assert [line for line in wanted if not line.startswith("#") and "==" not in line and line not in pinned] == []


def test_build_context_leaves_secrets_out() -> None:
    text = (ROOT / ".dockerignore").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert not [line for line in lines if "secrets" in line or ".env" in line]


def test_mlflow_has_every_variable_that_it_is_given() -> None:
    used = "".join((ROOT / name).read_text() for name in ("docker/mlflow_server.py", "docker-compose.yml"))
    given = set(re.findall(r"\bMLFLOW_[A-Z_]+\b(?=[\":])", used))
    package = Path(mlflow.__file__).parent
    known = "".join((package / name).read_text() for name in ("environment_variables.py", "cli/__init__.py"))
    of_compose_alone = {"MLFLOW_PORT", "MLFLOW_HOSTS", "MLFLOW_ORIGINS", "MLFLOW_URL", "MLFLOW_SERVER_PROCESSES"}
    assert {name for name in given if f'"{name}"' not in known} == of_compose_alone
