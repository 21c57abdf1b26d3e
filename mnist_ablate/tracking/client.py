"""Reaches an MLflow store with short time-outs, or gives up at once; knows nothing of trials.

`mlflow` is imported here alone and late: it takes two seconds, and the first use of an SQLite store two more.
"""

import os
import urllib.error
from http.client import HTTPException
from ssl import SSLError
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mnist_ablate.errors import UnreachableError
from mnist_ablate.tracking import local_store
from mnist_ablate.tracking.opener import exempt_from_proxies, opener
from mnist_ablate.tracking.tracker_errors import database_error, explained, no_answer
from mnist_ablate.workloads.workload import default_workload

if TYPE_CHECKING:
    from mlflow import MlflowClient

EMBEDDED_HOST = "http://127.0.0.1:5000"
"""Where `ui` shows a store that has no server."""
_ANSWER_TIMEOUT_S = 2.5

_FORCED = {
    # A request repeated inside MLflow after a lost reply would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # Credentials stay with the host they were given for.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    # Otherwise each finished run prints two lines on stdout, and costs one more request.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "PGCONNECT_TIMEOUT": "5",
}


def connect(tracking_uri: str) -> "MlflowClient":
    """Returns a client of a store that answers; an embedded SQLite store is created.

    Sets MLflow's environment variables for this process: MLflow reads its time-outs nowhere else.

    Raises:
        UnreachableError: nothing answers there, or not MLflow, or the credentials are refused.
    """
    os.environ.update(_FORCED)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    local_store.create(tracking_uri)
    must_answer(tracking_uri)
    from mlflow import MlflowClient

    with explained(tracking_uri):
        return MlflowClient(tracking_uri=tracking_uri)


def must_answer(tracking_uri: str) -> None:
    """Costs a dead tracker milliseconds, not the import of MLflow and its retries; sends no credentials.

    Raises:
        UnreachableError: the server or the database does not answer.
    """
    scheme = tracking_uri.partition(":")[0].lower()
    if scheme in {"http", "https"}:
        _server_must_answer(tracking_uri)
    elif scheme.startswith(("sqlite", "postgresql", "mysql", "mssql")):
        _database_must_answer(tracking_uri)


def _server_must_answer(tracking_uri: str) -> None:
    try:
        exempt_from_proxies(tracking_uri)
        opener(tracking_uri).open(f"{public_uri(tracking_uri)}/health", timeout=_ANSWER_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()  # Some answer: whether it is MLflow's, and whether it lets us in, shows next.
    except (OSError, HTTPException, ValueError) as error:
        if not isinstance(getattr(error, "reason", error), SSLError):  # MLflow may know the certificate.
            raise UnreachableError(no_answer(tracking_uri, error)) from None


def _database_must_answer(tracking_uri: str) -> None:
    """MLflow itself would try a database that is down, or a file that is none, for minutes."""
    import sqlalchemy

    from mnist_ablate.ledger.database import bound_silence

    try:
        engine = sqlalchemy.create_engine(tracking_uri, poolclass=sqlalchemy.NullPool)
        if engine.dialect.driver == "psycopg2":
            bound_silence()
        sqlalchemy.inspect(engine).get_table_names()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise database_error(tracking_uri, error) from None


def public_uri(tracking_uri: str) -> str:
    """The address without user, password, query and final slash. Raises ValueError if it is none."""
    parts = urlsplit(tracking_uri)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def deep_link(tracking_uri: str, experiment_id: str) -> str:
    """The page of an experiment as a sorted chart: MLflow's own default view hides the runs of a sweep."""
    host = public_uri(tracking_uri) if tracking_uri.lower().startswith("http") else EMBEDDED_HOST
    view = "workflowType=machine_learning&compareRunsMode=CHART"
    order = f"orderByKey=metrics.%60{default_workload().main_metric}%60&orderByAsc=false"
    return f"{host}/#/experiments/{experiment_id}/runs?{view}&{order}"
