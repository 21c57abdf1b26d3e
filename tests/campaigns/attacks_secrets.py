"""Where a secret may have got to after a sweep and all attacks: processes, logs, databases, files, messages."""

import os
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

from attacks import Attack, Finding, Ground
from command import Command, left_running

PUBLIC_MODE = stat.S_IRWXG | stat.S_IRWXO


def told(ground: Ground, texts: Iterable[str]) -> Finding:
    """Refused if no secret is in any of the texts."""
    found, read = set[str](), 0
    for text in texts:
        read += 1
        found |= {name for name, secret in ground.service.secrets.items() if secret in text}
    return Finding(f"{', '.join(sorted(found)) or 'none'} in {read} texts", not found and read > 0)


def open_to_others(paths: list[Path]) -> Finding:
    """Refused if every file is for its own user alone."""
    others = [str(path) for path in paths if path.stat().st_mode & PUBLIC_MODE]
    return Finding(f"{', '.join(others) or 'none'} of {len(paths)} readable by others", not others and len(paths) >= 4)


def environments(ground: Ground, *parts: str) -> list[Path]:
    """Of all processes of these parts of the service."""
    groups = [left_running(ground.service.processes[name].pid) for name in parts]
    return [Path(f"/proc/{number}/environ") for group in groups for number in group]


def arguments(ground: Ground) -> Finding:
    """What `ps` shows to everybody, of every process of this machine."""
    shown = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    return told(ground, shown.splitlines())


def workers(ground: Ground) -> Finding:
    """Code of a sweep runs in the workers: they have no secret to give away."""
    paths = environments(ground, "worker-1", "worker-2", "scheduler")
    return told(ground, [path.read_text(errors="replace") for path in paths])


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


PROBES: dict[str, dict[str, Attack]] = {
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
