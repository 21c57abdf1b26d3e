"""Attacks on the running service, each a name, what was done, and whether it was refused; no test itself.

An attack is refused if the answer is a refusal, or if what it asked for did not happen. After a sweep and all attacks
no secret may have got to processes, logs, databases, files or messages.
"""

import http.client
import json
import os
import secrets
import subprocess
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from command import Command, left_running
from service_stack import Stack

MLFLOW = "/api/2.0/mlflow"
SEARCH = f"{MLFLOW}/experiments/search"
LOOK = ("POST", SEARCH, {"max_results": 1})
"""What an account may do."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 431})
ANONYMOUS = ""
_KEPT = 3000


@dataclass(frozen=True)
class Answer:
    """`status` 0: the server cut the connection."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        return self.status in REFUSALS or self.status == 0

    def __str__(self) -> str:
        return str(self.status) if self.status else "connection cut"


class Finding(NamedTuple):
    """What came back, in a few words, and whether the attack failed."""

    came_back: str
    refused: bool


class Probe(NamedTuple):
    """`attack` does it; `name` says what somebody tries."""

    family: str
    name: str
    attack: "Attack"


class Ground:
    """The service under attack after a sweep, and an ordinary account's own experiment and run in it."""

    def __init__(self, service: Stack) -> None:
        self.service = service
        self.answers: list[str] = []
        self.home = service.folder / "person"
        self.home.mkdir()
        self.said = [f"{done.out} {done.err}" for done in service.swept(self.home)]
        name = {"name": f"probes-{secrets.token_hex(4)}"}
        own = {"experiment_id": service.call(f"{MLFLOW}/experiments/create", name)["experiment_id"]}
        run = service.call(f"{MLFLOW}/runs/create", own)
        self._filled = {"EXPERIMENT_ID": own["experiment_id"], "RUN_ID": run["run"]["info"]["run_id"]}
        self._filled["PORT"] = str(service.port)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        user: str = "sweeper",
        port: int | None = None,
    ) -> Answer:
        """A request as given, with EXPERIMENT_ID, RUN_ID and the ports filled in; the path is not tidied.

        It goes to MLflow's server unless there is another `port`. Every answer is kept for the search for secrets.
        """
        own = {name: self._fill(value) for name, value in (headers or {}).items()}
        data = body if isinstance(body, bytes | None) else self._fill(json.dumps(body)).encode()
        own = {**self._credentials(user), "Content-Type": "application/json", **own}
        connection = http.client.HTTPConnection("127.0.0.1", port or self.service.port, timeout=60)
        try:
            with suppress(BrokenPipeError):  # refused before all of it was sent
                connection.request(method, self._fill(path), data, own)
            reply = connection.getresponse()
            told = {name.lower(): value for name, value in reply.getheaders()}
            found = Answer(reply.status, reply.read(_KEPT).decode(errors="replace"), told)
        except (http.client.HTTPException, OSError):
            found = Answer(0)
        finally:
            connection.close()
        self.answers.append(f"{found.headers} {found.body}")
        return found

    def is_whole(self) -> bool:
        """No artifact route made or deleted a file below the folder of the service, outside the artifacts."""
        made = [path for path in self.service.folder.rglob("*planted*") if path.is_file()]
        kept = (self.service.folder / "basic_auth.ini").exists()
        return kept and all(self.service.artifacts in path.parents for path in made)

    def _fill(self, text: str) -> str:
        for name, value in self._filled.items():
            text = text.replace(name, value)
        return text

    def _credentials(self, user: str) -> dict[str, str]:
        if not user:
            return {}
        name, _, password = user.partition(":")
        words = f"{name}:{password or self.service.password(name)}"
        return {"Authorization": f"Basic {b64encode(words.encode()).decode()}"}


Attack = Callable[[Ground], Finding]


def asks(*requests: tuple[Any, ...], user: str = "sweeper") -> Attack:
    """Each a method, a path, and perhaps a body and headers: `Ground.ask` sends it."""

    def attack(ground: Ground) -> Finding:
        found = each_refused([ground.ask(*each, user=user) for each in requests])
        return Finding(found.came_back, found.refused and ground.is_whole())

    return attack


def gets(*paths: str, user: str = "sweeper") -> Attack:
    return asks(*(("GET", path) for path in paths), user=user)


def each_refused(answers: Sequence[Answer]) -> Finding:
    """Refused if every one of the answers is; tells how many of which."""
    assert answers, "nothing was tried"
    kinds = sorted(Counter(map(str, answers)).items())
    counted = ", ".join(f"{count}x {kind}" for kind, count in kinds) if len(answers) > 1 else kinds[0][0]
    return Finding(counted, all(answer.refused for answer in answers))


def told(ground: Ground, texts: Iterable[str]) -> Finding:
    """Refused if no secret is in any of the texts."""
    found, read = set[str](), 0
    for text in texts:
        read += 1
        found |= {name for name, secret in ground.service.secrets.items() if secret in text}
    return Finding(f"{', '.join(sorted(found)) or 'none'} in {read} texts", not found and read > 0)


def open_to_others(paths: list[Path]) -> Finding:
    """Refused if every file is for its own user alone."""
    others = [str(path) for path in paths if path.stat().st_mode & 0o077]
    return Finding(f"{', '.join(others) or 'none'} of {len(paths)} readable by others", not others and len(paths) >= 4)


def environments(ground: Ground, *parts: str) -> list[Path]:
    """Of all processes of these parts of the service."""
    groups = [left_running(ground.service.processes[name].pid) for name in parts]
    return [Path(f"/proc/{number}/environ") for group in groups for number in group]


def read_of_processes(paths: Iterable[Path]) -> Iterator[str]:
    """Files of processes, but for those that have ended since they were listed, as checks of health do."""
    for path in paths:
        with suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_text(errors="replace")


def arguments(ground: Ground) -> Finding:
    """What `ps` shows to everybody, of every process of this machine."""
    shown = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return told(ground, shown.splitlines())


def workers(ground: Ground) -> Finding:
    """Code of a sweep runs in the workers: they have no secret to give away."""
    paths = environments(ground, "worker-1", "worker-2", "scheduler")
    return told(ground, read_of_processes(paths))


def databases(ground: Ground) -> Finding:
    """Everything that both databases hold: runs, tags, notes, accounts (hashed), the ledger."""
    texts = []
    program = next(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"), Path("pg_dump"))
    for role in ("mlflow", "optuna"):
        environment = {**os.environ, "PGPASSFILE": str(ground.service.folder / "secrets" / f"{role}_pgpass")}
        command = [program, "-w", "-h", "127.0.0.1", "-p", str(ground.service.database_port), "-U", role, role]
        dump = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        texts += dump.stdout.splitlines()
    return told(ground, texts)


def files(*names: str) -> Attack:
    def attack(ground: Ground) -> Finding:
        paths = [path for name in names for path in ground.service.folder.glob(name) if path.is_file()]
        return told(ground, [path.read_text(errors="replace") for path in paths])

    return attack


def modes(ground: Ground) -> Finding:
    folder = ground.service.folder
    return open_to_others([*(folder / "secrets").iterdir(), folder / "basic_auth.ini", ground.service.certificates.key])


def errors(ground: Ground) -> Finding:
    """Commands that fail with a secret in an address or in the environment."""
    words, service = ground.service.secrets, ground.service
    ledger = f"postgresql+psycopg2://{{}}:{words['optuna role']}@127.0.0.1:{{}}"
    tracker = f"http://sweeper:{words['account']}@127.0.0.1:{{}}"
    wrong = [
        {"OPTUNA_STORAGE": ledger.format("optuna", f"{service.database_port}/no_such")},
        {"OPTUNA_STORAGE": ledger.format("mlflow", f"{service.database_port}/optuna")},
        {"OPTUNA_STORAGE": ledger.format("optuna", "9/optuna")},
        {"MLFLOW_TRACKING_URI": tracker.format(9)},
        {"MLFLOW_TRACKING_URI": tracker.format(f"{service.port}/no/such/path")},
    ]
    commands = [Command(ground.home, service.environment(**change)) for change in wrong]
    said = [run(name, "small.yaml", "--debug") for run in commands for name in ("verify", "sync")]
    return told(ground, [f"{done.out} {done.err}" for done in said if done.code])


SECRETS: dict[str, dict[str, Attack]] = {
    "secrets": {
        "arguments of all processes": arguments,
        "environments, for other users": lambda ground: open_to_others(environments(ground, *ground.service.processes)),
        "environments of workers and scheduler": workers,
        "files with secrets, for other users": modes,
        "logs of every part": files("*.log"),
        "runs, tags, notes, ledger in the databases": databases,
        "artifacts and reports": files("artifacts/**/*", "person/**/*"),
        "what the sweep printed": lambda ground: told(ground, ground.said),
        "error messages and tracebacks": errors,
        "every answer to these probes": lambda ground: told(ground, ground.answers),
    }
}


def all_probes() -> list[Probe]:
    """In the order of the table; those that look for secrets come last, when there is most to find."""
    import attacks_access
    import attacks_content
    import attacks_sweeps

    families = {**attacks_access.PROBES, **attacks_content.PROBES, **attacks_sweeps.PROBES, **SECRETS}
    return [Probe(family, name, attack) for family, probes in families.items() for name, attack in probes.items()]
