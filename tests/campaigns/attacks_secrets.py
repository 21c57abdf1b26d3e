"""Where a secret may have got to after a sweep and all attacks: processes, logs, databases, files, messages."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attacks import Finding, Ground, Probe
from command import Command

PROC = Path("/proc")
PUBLIC_MODE = stat.S_IRWXG | stat.S_IRWXO


def told(ground: Ground, texts: Iterable[str]) -> Finding:
    """Refused if no secret is in any of the texts."""
    found, read = set[str](), 0
    for text in texts:
        read += 1
        found |= {name for name, secret in ground.service.secrets.items() if secret in text}
    return Finding(f"{', '.join(sorted(found)) or 'none'} in {read} texts", not found and read > 0)


def processes(ground: Ground, name: str) -> dict[int, Path]:
    """A part of the service and all processes that it started, by number."""
    group = ground.service.processes[name].pid
    return {int(path.name): path for path in PROC.glob("[0-9]*") if _session(path) == group}


def _session(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def arguments(ground: Ground) -> Finding:
    """What `ps` shows to everybody, of every process of this machine."""
    shown = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return told(ground, shown.splitlines())


def environments(ground: Ground) -> Finding:
    """The environment of a process is for its own user alone."""
    parts = [path for name in ground.service.processes for path in processes(ground, name).values()]
    open_to_all = [path for path in parts if (path / "environ").stat().st_mode & PUBLIC_MODE]
    return Finding(f"{len(open_to_all)} of {len(parts)} readable by others", not open_to_all and len(parts) >= 4)


def workers(ground: Ground) -> Finding:
    """Code of a sweep runs in the workers: they have no secret to give away."""
    paths = [path for name in ("worker-1", "worker-2", "scheduler") for path in processes(ground, name).values()]
    return told(ground, [(path / "environ").read_text(errors="replace") for path in paths])


def databases(ground: Ground) -> Finding:
    """Everything that both databases hold: runs, tags, notes, accounts (hashed), the ledger."""
    texts = []
    for role in ("mlflow", "optuna"):
        secret = ground.service.folder / "secrets" / f"{role}_pgpass"
        command = ["-w", "-h", "127.0.0.1", "-p", str(ground.service.database_port), "-U", role, role]
        environment = {**os.environ, "PGPASSFILE": str(secret)}
        program = next(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"), Path("pg_dump"))
        dump = subprocess.run([program, *command], env=environment, capture_output=True, text=True, check=True)
        texts += dump.stdout.splitlines()
    return told(ground, texts)


def files(*names: str) -> Callable[[Ground], Finding]:
    def attack(ground: Ground) -> Finding:
        folder = ground.service.folder
        paths = [path for name in names for path in sorted(folder.glob(name)) if path.is_file()]
        return told(ground, [path.read_text(errors="replace") for path in paths])

    return attack


def modes(ground: Ground) -> Finding:
    """Files with secrets are for their own user alone."""
    folder = ground.service.folder
    paths = [*(folder / "secrets").iterdir(), folder / "basic_auth.ini", ground.service.certificates.key]
    others = [path.name for path in paths if path.stat().st_mode & PUBLIC_MODE]
    return Finding(f"{', '.join(others) or 'none'} of {len(paths)} readable by others", not others)


def errors(ground: Ground) -> Finding:
    """Commands that fail with a secret in an address or in the environment."""
    words, service = ground.service.secrets, ground.service
    role, account = words["optuna role"], words["account"]
    place = f"127.0.0.1:{service.database_port}"
    wrong: list[Mapping[str, str]] = [
        {"OPTUNA_STORAGE": f"postgresql+psycopg2://optuna:{role}@{place}/no_such"},
        {"OPTUNA_STORAGE": f"postgresql+psycopg2://mlflow:{role}@{place}/optuna"},
        {"OPTUNA_STORAGE": f"postgresql+psycopg2://optuna:{role}@127.0.0.1:9/optuna"},
        {"MLFLOW_TRACKING_URI": f"http://sweeper:{account}@127.0.0.1:9"},
        {"MLFLOW_TRACKING_URI": f"http://sweeper:{account}@127.0.0.1:{service.port}/no/such/path"},
    ]
    said = []
    for change in wrong:
        for command in ("verify", "sync"):
            done = Command(ground.home, service.environment(**change))(command, "small.yaml", "--debug")
            said.append(f"{done.out} {done.err}" if done.code else "")
    return told(ground, [text for text in said if text])


PROBES = [
    Probe("secrets", "arguments of all processes", arguments),
    Probe("secrets", "environments, for other users", environments),
    Probe("secrets", "environments of workers and scheduler", workers),
    Probe("secrets", "files with secrets, for other users", modes),
    Probe("secrets", "logs of every part", files("*.log")),
    Probe("secrets", "runs, tags, notes, ledger in the databases", databases),
    Probe("secrets", "artifacts and reports", files("artifacts/**/*", "person/**/*")),
    Probe("secrets", "what the sweep printed", lambda ground: told(ground, ground.said)),
    Probe("secrets", "error messages and tracebacks", errors),
    Probe("secrets", "every answer to these probes", lambda ground: told(ground, ground.answers)),
]
