"""The policies of docker-compose.yml: what each demands of a service, and a table of who keeps it.

`python benchmarks/compose_policy.py` prints the table in docs/guides/team-stack.md, and fails if a policy is broken.
"""

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
Service = dict[str, Any]

ONE_SHOT = {"account", "sweep"}
PUBLISHED = {"mlflow", "service"}
_TAG = re.compile(r"[a-z0-9./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|_KEY|CREDENTIAL")
_IN_ADDRESS = re.compile(r"://[^/\s]*:[^/\s]*@")
_INSTALLS = re.compile(r"\b(pip|apt|apt-get|apk|conda|uv|npm|curl|wget)\b")
_LOCAL_PORT = re.compile(r"127\.0\.0\.1:(\d+|\$\{\w+:-\d+\}):\d+")
_OFF = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}


@dataclass(frozen=True)
class Policy:
    """`holds` is asked about each of `services`, all if there are none."""

    name: str
    how: str
    holds: Callable[[Service], bool]
    services: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Whether the policy is about the service of this name."""
        return not self.services or name in self.services


def default(text: object) -> str:
    """A value as Compose reads it with nothing set: `${NAME:-value}` is value."""
    return _DEFAULT.sub(lambda found: found[1], str(text))


def environment(service: Service) -> dict[str, str]:
    """Its variables."""
    return {str(name): default(value) for name, value in (service.get("environment") or {}).items()}


def _words(part: object) -> str:
    return " ".join(map(str, part)) if isinstance(part, list) else str(part or "")


def _exact(service: Service) -> bool:
    images = [str(service.get("image"))]
    build = service.get("build")
    if build:
        images.append(str(build["args"]["PYTHON_IMAGE"]))
    replaceable = build or str(service["image"]).startswith("${")
    return bool(replaceable) and all(_TAG.fullmatch(default(image)) for image in images)


def _own(service: Service) -> bool:
    return service.get("pull_policy") == "never" and service["build"]["context"] == "."


def _installs_nothing(service: Service) -> bool:
    start = f"{_words(service.get('command'))} {_words(service.get('entrypoint'))}"
    return not _INSTALLS.search(start)


def _secret_free(service: Service) -> bool:
    texts = [_words(service.get("command")), *environment(service).values()]
    named = [name for name in environment(service) if _SECRET.search(name)]
    files = all(environment(service)[name].startswith("/run/secrets/") for name in named)
    return files and "env_file" not in service and not any(map(_IN_ADDRESS.search, texts))


def _non_root(service: Service) -> bool:
    parts = str(service.get("user")).split("}:")
    return len(parts) == 2 and all(re.match(r"\$\{STACK_[UG]ID:\?", part) for part in parts)  # noqa: PLR2004 - user, group


def _scratch(service: Service) -> bool:
    mounts = service.get("tmpfs") or []
    safe = all(all(word in mount for word in ("size=", "noexec", "nosuid", "nodev")) for mount in mounts)
    return service.get("read_only") is True and safe and any(mount.startswith("/tmp:") for mount in mounts)


def _mounts(service: Service) -> bool:
    """Named volumes, or files of ours that cannot be written; never the engine's socket."""
    found = [str(volume) for volume in service.get("volumes") or []]
    return all(not volume.startswith(("/", ".", "~")) or volume.endswith(":ro") for volume in found)


def _limited(service: Service) -> bool:
    limits = ((service.get("deploy") or {}).get("resources") or {}).get("limits") or {}
    return {"cpus", "memory", "pids"} <= set(limits)


def _rotates(service: Service) -> bool:
    logging = service.get("logging") or {}
    options = logging.get("options") or {}
    return logging.get("driver") == "json-file" and {"max-size", "max-file"} <= set(options)


def _privileges(service: Service) -> bool:
    worse = {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "network_mode", "cgroup_parent"}
    return service.get("security_opt") == ["no-new-privileges:true"] and not worse & set(service)


def _test(service: Service) -> str:
    return _words((service.get("healthcheck") or {}).get("test"))


def _asks_database(service: Service) -> bool:
    return "SELECT 1" in _test(service) or "mlflow_server.py health" in _test(service)


def _listed(name: str, scheme: str) -> Callable[[Service], bool]:
    def holds(service: Service) -> bool:
        names = environment(service).get(name, "").replace("${MLFLOW_HOSTS:+,}", "").replace("${MLFLOW_ORIGINS:+,}", "")
        return bool(names) and all(re.fullmatch(rf"{scheme}[\w.-]+:\d+", entry) for entry in names.split(","))

    return holds


def _only(*networks: str) -> Callable[[Service], bool]:
    return lambda service: set(service.get("networks") or ["default"]) <= set(networks)


def _quiet(service: Service) -> bool:
    found = environment(service)
    return found.get("DO_NOT_TRACK") == found.get("MLFLOW_DISABLE_TELEMETRY") == "true"


def _loopback(service: Service) -> bool:
    ports = service.get("ports") or []
    return bool(ports) and all(isinstance(port, str) and _LOCAL_PORT.fullmatch(port) for port in ports)


_CLUSTER = frozenset({"scheduler", "worker"})
_LASTING = frozenset({"db", "mlflow", "service", *_CLUSTER})
_OWN = frozenset({"mlflow", "account", "sweep", "service", "runner", *_CLUSTER})
POLICIES = (
    Policy("exact image, digest-ready", "full version; a variable takes one with `@sha256:`", _exact),
    Policy("own images are built here", "`pull_policy: never`, context of the project", _own, _OWN),
    Policy("nothing installed at start", "no installer in the command; packages are in the image", _installs_nothing),
    Policy("not root", "`user` is the owner of the secrets, from `.env`; unset, nothing starts", _non_root),
    Policy("root file system read-only", "`read_only`, sized `tmpfs` without exec, setuid, devices", _scratch),
    Policy("no host folders", "named volumes; a file of ours only `:ro`", _mounts),
    Policy("no capabilities", "`cap_drop: [ALL]`", lambda service: service.get("cap_drop") == ["ALL"]),
    Policy("no new privileges", "`no-new-privileges`; no host namespace, device or capability", _privileges),
    Policy("limits", "CPUs, memory and processes", _limited),
    Policy("logs rotate", "`json-file`, size and number", _rotates),
    Policy("signals and zombies", "`init: true`", lambda service: service.get("init") is True),
    Policy("time to stop", "`stop_grace_period`", lambda service: bool(service.get("stop_grace_period"))),
    Policy("secrets are files", "`/run/secrets`; no variable, argument or address holds one", _secret_free),
    Policy("telemetry off", "`MLFLOW_DISABLE_TELEMETRY`, `DO_NOT_TRACK`", _quiet),
    Policy("loopback ports", "published on 127.0.0.1 only", _loopback, frozenset(PUBLISHED)),
    Policy(
        "not published",
        "no `ports`; internal networks only",
        lambda service: "ports" not in service and _only("data", "cluster")(service),
        frozenset({"db", "account", "sweep", *_CLUSTER}),
    ),
    Policy("database out of the workers' reach", "network `cluster` alone", _only("cluster"), _CLUSTER),
    Policy("health checked", "`healthcheck`", lambda service: bool(_test(service)), _LASTING),
    Policy("health asks the database", "a query, with a password", _asks_database, frozenset({"db", "mlflow"})),
    Policy("known hosts", "each with its port", _listed("MLFLOW_SERVER_ALLOWED_HOSTS", ""), frozenset({"mlflow"})),
    Policy(
        "known origins",
        "each with its port",
        _listed("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "https?://"),
        frozenset({"mlflow"}),
    ),
    Policy(
        "no jobs, no pickles",
        "`MLFLOW_SERVER_ENABLE_JOB_EXECUTION`, `MLFLOW_ALLOW_PICKLE_DESERIALIZATION` false",
        lambda service: environment(service).items() >= _OFF.items(),
        frozenset({"mlflow"}),
    ),
)


def load(path: Path = COMPOSE) -> dict[str, Any]:
    """The file as YAML, anchors resolved, variables not."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def broken(document: dict[str, Any]) -> Iterator[str]:
    """`service: policy` for each that does not hold; networks too."""
    for name, service in document["services"].items():
        for policy in POLICIES:
            if policy.covers(name) and not policy.holds(service):
                yield f"{name}: {policy.name}"
    for name in ("data", "cluster"):
        if not (document["networks"].get(name) or {}).get("internal"):
            yield f"network {name}: internal"


def table(document: dict[str, Any]) -> str:
    """Markdown: policy, how it is held, by which services."""
    names = list(document["services"])
    lines = ["| policy | how it is held | services |", "|---|---|---|"]
    for policy in POLICIES:
        covered = [name for name in names if policy.covers(name)]
        who = "all" if covered == names else ", ".join(covered)
        lines.append(f"| {policy.name} | {policy.how} | {who} |")
    lines.append("| internal networks | `internal: true`: no way in or out | data, cluster |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    compose = load()
    sys.stdout.write(table(compose))
    sys.exit("\n".join(broken(compose)) or None)
