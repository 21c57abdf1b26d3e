"""Reaches an MLflow store with short time-outs, or gives up at once and says why; knows nothing of trials.

`mlflow` is imported late: it takes two seconds, and the first use of an SQLite store two more. Addresses are opened
with urllib: requests would send the credentials of a `.netrc`, and urllib3 reads no proxy from the environment.
"""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from ipaddress import ip_address
from ssl import SSLError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnist_ablate.errors import UnreachableError, mask, one_line
from mnist_ablate.tracking import local_store
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


class RefusedError(UnreachableError):
    """MLflow answered and does not take what was sent; sending it again would not help."""


class RejectedError(UnreachableError):
    """What is at the address does not let us in, or is not MLflow: waiting would not help."""


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
    check_answer(tracking_uri)
    from mlflow import MlflowClient

    with translate_errors(tracking_uri):
        return MlflowClient(tracking_uri=tracking_uri)


def check_answer(tracking_uri: str) -> None:
    """Costs a dead tracker milliseconds, not the import of MLflow and its retries; sends no credentials.

    Raises:
        UnreachableError: the server or the database does not answer.
    """
    scheme = tracking_uri.partition(":")[0].lower()
    if scheme in {"http", "https"}:
        _check_server(tracking_uri)
    elif scheme.startswith(("sqlite", "postgresql", "mysql", "mssql")):
        _check_database(tracking_uri)


def _check_server(tracking_uri: str) -> None:
    try:
        exempt_from_proxies(tracking_uri)
        opener(tracking_uri).open(f"{public_uri(tracking_uri)}/health", timeout=_ANSWER_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()  # Some answer: whether it is MLflow's, and whether it lets us in, shows next.
    except (OSError, HTTPException, ValueError) as error:
        if not isinstance(getattr(error, "reason", error), SSLError):  # MLflow may know the certificate.
            raise UnreachableError(no_answer(tracking_uri, error)) from None


def _check_database(tracking_uri: str) -> None:
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told, and credentials, stay with the host they were meant for."""

    def redirect_request(self, *_: Any) -> None:
        """Never follow."""


def opener(address: str) -> urllib.request.OpenerDirector:
    """Opens addresses of the host of this one. Raises ValueError if it is no address."""
    proxies = urllib.request.ProxyHandler({} if _is_here(address) else None)  # None: as the environment says
    return urllib.request.build_opener(_NoRedirect, proxies)


def exempt_from_proxies(address: str) -> None:
    """Tell what reads `no_proxy` in this process and its children, if the address is this machine's."""
    if not _is_here(address):
        return
    host = str(urlsplit(address).hostname)
    given = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").replace(" ", "").split(",")
    if not {"*", host} & set(given):
        os.environ["no_proxy"] = ",".join([*filter(None, given), host])


def _is_here(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def translate_errors(tracking_uri: str) -> Iterator[None]:
    """Turns whatever MLflow raises inside into one masked line.

    Raises:
        RefusedError: MLflow answered and refused this request.
        RejectedError: MLflow lets nobody in with these credentials, or it is not MLflow.
        UnreachableError: anything else; trying later may help.
    """
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ParseError:
        raise not_mlflow(tracking_uri, 200) from None
    except MlflowException as error:
        status: int = error.get_http_status_code()
        raise _explanation(tracking_uri, error, status) from None
    except SQLAlchemyError as error:
        raise database_error(tracking_uri, error) from None
    except OSError as error:
        reason = one_line(str(error))
        raise UnreachableError(f"the artifacts of MLflow at {mask(tracking_uri)}: {reason}") from None


def _explanation(tracking_uri: str, error: Exception, mlflow_status: int) -> UnreachableError:
    text, where = str(error), f"MLflow at {mask(tracking_uri)}"
    if "failed with timeout exception" in text or "failed with exception" in text:
        return UnreachableError(_lost_request(tracking_uri, text, error))
    foreign = _foreign_status(text, error)
    status = foreign or mlflow_status
    if status in {401, 403}:
        return RejectedError(f"{where} {_refusal(status, text)}")
    if foreign:
        return not_mlflow(tracking_uri, foreign)
    kind = UnreachableError if _may_pass(status) else RefusedError
    return kind(f"{where} says: {one_line(text)}")


def _foreign_status(text: str, error: Exception) -> int:
    """The HTTP status of a reply that is not in MLflow's form, 0 if it is."""
    if "error_code" not in getattr(error, "json", {"error_code": ""}):
        return 404
    if "not in a valid JSON format" in text:
        return 200
    found = re.search(r"failed with error code (\d{3}) !=", text)
    return int(found[1]) if found else 0


def _lost_request(tracking_uri: str, text: str, error: Exception) -> str:
    found = re.search(r"too many (\d{3}) error responses", text)
    if found:
        return f"MLflow at {mask(tracking_uri)} answers with an error ({found[1]})"
    return no_answer(tracking_uri, error)


def _refusal(status: int, text: str) -> str:
    if "Invalid Host header" in text:
        return f"refused its own host name ({status}): start it with --allowed-hosts and this name"
    return f"refused the credentials ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def not_mlflow(tracking_uri: str, status: int) -> UnreachableError:
    """The error for an HTTP status or a reply that MLflow does not give; a proxy may say 5xx while MLflow is down."""
    text = f"is not an MLflow server ({status}): set MLFLOW_TRACKING_URI to one"
    if status in range(300, 400):
        text = f"redirects ({status}), which is not followed: set MLFLOW_TRACKING_URI to the final address"
    kind = UnreachableError if _may_pass(status) else RejectedError
    return kind(f"{mask(tracking_uri)} {text}")


def _may_pass(status: int) -> bool:
    return status >= 500 or status == 429  # noqa: PLR2004 - HTTP


def database_error(tracking_uri: str, error: Exception) -> UnreachableError:
    """The error for a database that MLflow would use directly."""
    detail = one_line(str(getattr(error, "orig", None) or error))
    where = f"the MLflow database {mask(tracking_uri)}"
    if any(sign in detail for sign in ("authentication failed", "no password supplied")):
        return RejectedError(f"{where} refused the credentials: check MLFLOW_TRACKING_URI ({detail})")
    return UnreachableError(f"{where} cannot be used: {detail}")


def no_answer(tracking_uri: str, error: BaseException) -> str:
    """The reason deepest down: what the system said of the connection."""
    reason = one_line(str(error))
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, TimeoutError) or "timed out" in str(cause):
            reason = "timed out"
        elif isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None)
    return f"MLflow at {mask(tracking_uri)} does not answer: {reason}"
