"""The team's MLflow server: `serve` (the default), `account` makes the sweeps' account, `health` asks the database.

Everything secret comes from files in STACK_SECRETS, and is never an argument: those show in `ps`.
"""

import base64
import configparser
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ADMIN = "admin"
_SECRETS = Path(os.environ.get("STACK_SECRETS", "/run/secrets"))
_SCRATCH = Path(os.environ.get("STACK_SCRATCH", "/tmp"))  # noqa: S108 - a container's own tmpfs
_LISTEN = os.environ.get("STACK_LISTEN", "127.0.0.1")
_PORT = os.environ.get("STACK_PORT", "5000")
_SERVER = os.environ.get("STACK_SERVER", f"http://127.0.0.1:{_PORT}")
# Of a role whose password libpq reads in PGPASSFILE.
_DATABASE = os.environ.get("STACK_DATABASE", "postgresql+psycopg2://mlflow@db:5432/mlflow")
_HOSTS = f"localhost:{_PORT},127.0.0.1:{_PORT}"
_ORIGINS = f"http://localhost:{_PORT},http://127.0.0.1:{_PORT}"
_TIMEOUT_S = 8
_DEFAULTS = {
    "MLFLOW_SERVER_ALLOWED_HOSTS": _HOSTS,
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": _ORIGINS,
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ARTIFACTS_DESTINATION": "file:///artifacts",
    "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": "1800",
}
_AUTH = """\
[mlflow]
default_permission = {permission}
database_uri = {database}
admin_username = {admin}
admin_password = {password}
authorization_function = mlflow_guard:authenticate
grant_default_workspace_access = false
auth_cache_ttl_seconds = {cache_s}
"""


def serve() -> None:
    """Bring the schema up to date, then become the server; ends with one line if a secret is missing."""
    os.umask(0o077)
    os.environ.setdefault("PGPASSFILE", str(_SECRETS / "mlflow_pgpass"))
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = _secret("mlflow_session_key")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = _DATABASE
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(_auth_config())
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)  # of mlflow_guard
    _upgrade()
    options = ["--app-name", "basic-auth", "--serve-artifacts", "--host", _LISTEN, "--port", _PORT]
    workers = ["--workers", os.environ.get("STACK_SERVER_PROCESSES", "2")]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *options, *workers])  # noqa: S606 - no shell


def account() -> None:
    """Create the account that sweeps use, or give it the password in the secrets."""
    name, password = _account()
    path = "/api/2.0/mlflow/users"
    try:
        _call(f"{path}/create", {"username": name, "password": password})
    except urllib.error.HTTPError as error:
        if json.loads(error.read() or b"{}").get("error_code") != "RESOURCE_ALREADY_EXISTS":
            raise
        _call(f"{path}/update-password", {"username": name, "password": password}, method="PATCH")
    sys.stdout.write(f"account {name} is ready\n")


def health() -> None:
    """One query that only the database can answer, as the administrator."""
    _call("/api/2.0/mlflow/experiments/search", {"max_results": 1})


def _secret(name: str) -> str:
    path = _SECRETS / name
    try:
        found = path.read_text(encoding="ascii").strip()
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}: run mnist-ablate stack init, as the user in .env")
    return found or sys.exit(f"{path}: empty: delete it and run mnist-ablate stack init")


def _account() -> tuple[str, str]:
    found = configparser.ConfigParser(interpolation=None)
    found.read_string(_secret("mlflow_credentials"))
    return found["mlflow"]["mlflow_tracking_username"], found["mlflow"]["mlflow_tracking_password"]


def _auth_config() -> Path:
    path = _SCRATCH / "basic_auth.ini"
    path.write_text(
        _AUTH.format(
            permission=os.environ.get("STACK_PERMISSION", "READ"),
            database=_DATABASE,
            admin=ADMIN,
            password=_secret("mlflow_admin_password"),
            cache_s=os.environ.get("STACK_AUTH_CACHE_S", "60"),
        ),
        encoding="ascii",
    )
    return path


def _upgrade() -> None:
    """`mlflow db upgrade`, in this process: as a command it would show the database's address in `ps`."""
    from mlflow.cli import cli

    cli.main(["db", "upgrade", _DATABASE], standalone_mode=False)


def _call(path: str, body: dict[str, Any], method: str = "POST") -> None:
    words = base64.b64encode(f"{ADMIN}:{_secret('mlflow_admin_password')}".encode()).decode()
    headers = {"Authorization": f"Basic {words}", "Content-Type": "application/json"}
    request = urllib.request.Request(_SERVER + path, json.dumps(body).encode(), headers, method=method)  # noqa: S310
    within = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would see the password
    with within.open(request, timeout=_TIMEOUT_S) as reply:
        reply.read()


if __name__ == "__main__":
    try:
        {"serve": serve, "account": account, "health": health}[sys.argv[1] if len(sys.argv) > 1 else "serve"]()
    except (OSError, KeyError) as failure:  # HTTPError is an OSError; none of their texts holds a secret
        sys.exit(f"mlflow_server: {type(failure).__name__}: {failure}")
