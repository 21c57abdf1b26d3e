"""Reaches an MLflow store; gives up soon and says why. Knows nothing of trials.

`mlflow` is imported late: it takes two seconds, and the first use of an SQLite store two more. Addresses are opened
with urllib: requests would send the credentials of a `.netrc`, and urllib3 reads no proxy from the environment.
"""

import json
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from importlib.metadata import version
from ipaddress import ip_address
from ssl import SSLError
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from mnist_ablate.environment import override
from mnist_ablate.errors import UnreachableError, mask, one_line
from mnist_ablate.tracking.home_store import create_store, without_stray_folders

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

_EMBEDDED_HOST = "http://127.0.0.1:5000"  # where `ui` shows a store that has no server
_ANSWER_TIMEOUT_S = 2.5
_TRAINING = "workflowType=machine_learning"  # else the page opens in the part for language models
_FORCED = {
    # A request repeated inside MLflow after a lost reply would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # Credentials stay with the host they were given for.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    # Otherwise each finished run prints two lines on stdout, and costs one more request.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "PGCONNECT_TIMEOUT": "5",
    # Files go through the server: the storage behind it is often in a network of its own.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


class RefusedError(UnreachableError):
    """MLflow answered and does not take what was sent; sending it again would not help."""


class RejectedError(UnreachableError):
    """What is at the address does not let us in, or is not MLflow: waiting would not help."""


def connect(tracking_uri: str) -> "MlflowClient":
    """Returns a client of a store that answers; an embedded SQLite store is created.

    Sets MLflow's environment variables for this process: MLflow reads its time-outs nowhere else.
    Raises UnreachableError: nothing answers there, or not MLflow, or the credentials are refused.
    """
    set_variables()
    create_store(tracking_uri)
    check_answer(tracking_uri)
    from mlflow import MlflowClient

    with translate_errors(tracking_uri), without_stray_folders(tracking_uri) as may_leave_some:
        client = MlflowClient(tracking_uri=tracking_uri)
        if may_leave_some:
            client.search_registered_models(max_results=1)  # opens the store of the registry too, here
        return client


def set_variables() -> None:
    """Set MLflow's variables of this process, some of which it reads when it is imported."""
    override({**{name: os.environ.get(name, value) for name, value in _DEFAULTS.items()}, **_FORCED})


def check_answer(tracking_uri: str) -> None:
    """Costs a dead tracker milliseconds, not the import of MLflow and its retries; sends no credentials.

    Raises UnreachableError if the server or the database does not answer.
    """
    scheme = tracking_uri.partition(":")[0].lower()
    if scheme.startswith(("sqlite", "postgresql", "mysql", "mssql")):
        _check_database(tracking_uri)
    if scheme not in {"http", "https"}:
        return
    try:
        opener(tracking_uri).open(f"{public_uri(tracking_uri)}/health", timeout=_ANSWER_TIMEOUT_S).close()
    except HTTPError as error:
        error.close()  # Some answer: whether it is MLflow's, and whether it lets us in, shows next.
    except (OSError, HTTPException, ValueError) as error:
        if not isinstance(getattr(error, "reason", error), SSLError):  # MLflow may know the certificate.
            raise _no_answer(tracking_uri, error) from None


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
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def deep_link(tracking_uri: str, experiment_id: str, metric: str, view: str = "") -> str:
    """The page of an experiment in a view that is stored there, else as a chart sorted by a metric.

    MLflow's own default hides the runs of a sweep, and opens in the part for language models.
    """
    host = public_uri(tracking_uri) if tracking_uri.lower().startswith("http") else _EMBEDDED_HOST
    order = f"orderByKey=metrics.%60{quote(metric)}%60&orderByAsc=false"
    shown = f"viewStateShareKey={quote(view)}" if view else order
    return f"{host}/#/experiments/{experiment_id}/runs?{_TRAINING}&compareRunsMode=CHART&{shown}"


def addresses(text: str, experiment_id: str, run_id: str) -> str:
    """A text for MLflow's page whose `artifact:NAME` and `page:NAME` become addresses of files of a run."""
    page = f"#/experiments/{experiment_id}/runs/{run_id}"
    text = re.sub(r"\(artifact:([\w.]+)\)", rf"(get-artifact?path=\1&run_uuid={run_id})", text)
    text = re.sub(r"\(page:([\w.]+)\)", rf"({page}/artifacts/\1?{_TRAINING})", text)
    return text.replace("(page:)", f"({page}?{_TRAINING})")


def comparison_address(runs: Mapping[str, str]) -> str:
    """The page that compares these runs, whose experiments are given."""
    both = (quote(json.dumps(each, separators=(",", ":"))) for each in ([*runs], [*dict.fromkeys(runs.values())]))
    return "#/compare-runs?runs={}&experiments={}&".format(*both) + _TRAINING


def server_version(tracking_uri: str) -> str:
    """The version of the MLflow whose page shows a store; empty if a server does not tell."""
    if not tracking_uri.lower().startswith("http"):
        return version("mlflow")
    with suppress(OSError, HTTPException, ValueError):
        address = f"{public_uri(tracking_uri)}/version"
        with opener(tracking_uri).open(address, timeout=_ANSWER_TIMEOUT_S) as reply:
            return str(reply.read(100).decode(errors="replace"))
    return ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told, and credentials, stay with the host they were meant for."""

    def redirect_request(self, *_: Any) -> None:
        """Never follow."""


def opener(address: str) -> urllib.request.OpenerDirector:
    """Opens addresses of the host of this one. Raises ValueError if it is no address.

    This machine needs no proxy. That is also told to what reads `no_proxy` in this process and its children.
    """
    host = urlsplit(address).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    exempt = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").replace(" ", "").split(",")
    if is_here and not {"*", host} & set(exempt):
        override({"no_proxy": ",".join([*filter(None, exempt), host])})
    proxies = urllib.request.ProxyHandler({} if is_here else None)  # None: as the environment says
    return urllib.request.build_opener(_NoRedirect, proxies)


@contextmanager
def translate_errors(tracking_uri: str) -> Iterator[None]:
    """Turns whatever MLflow raises inside into one masked line.

    Raises RefusedError if MLflow refused this request, RejectedError if it lets nobody in with these credentials or is
    not MLflow, UnreachableError for anything else: trying later may help.
    """
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ParseError:
        raise not_mlflow(tracking_uri, 200) from None
    except MlflowException as error:
        raise _translated(tracking_uri, error) from None
    except SQLAlchemyError as error:
        raise database_error(tracking_uri, error) from None
    except OSError as error:
        reason = one_line(str(error))
        raise UnreachableError(f"the artifacts of MLflow at {mask(tracking_uri)}: {reason}") from None


def _translated(tracking_uri: str, error: "MlflowException") -> UnreachableError:
    text, where = str(error), f"MLflow at {mask(tracking_uri)}"
    if "failed with timeout exception" in text or "failed with exception" in text:
        if busy := re.search(r"too many (\d{3}) error responses", text):
            return UnreachableError(f"{where} answers with an error ({busy[1]})")
        return _no_answer(tracking_uri, error)
    foreign = _foreign_status(text, error)
    status: int = foreign or error.get_http_status_code()
    if status in {401, 403}:
        told = f"refused the credentials ({status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if status == 403:  # noqa: PLR2004 - HTTP
            told = f"refused this account ({status}): is the experiment another account's? Use another name"
        if "Invalid Host header" in text:
            told = f"refused its own host name ({status}): start it with --allowed-hosts and this name"
        return RejectedError(f"{where} {told}")
    if foreign:
        return not_mlflow(tracking_uri, foreign)
    return _error(status, RefusedError, f"{where} says: {one_line(text)}")


def _foreign_status(text: str, error: Exception) -> int:
    """The HTTP status of a reply that is not in MLflow's form, 0 if it is."""
    if "error_code" not in getattr(error, "json", {"error_code": ""}):
        return 404
    if "not in a valid JSON format" in text:
        return 200
    found = re.search(r"failed with error code (\d{3}) !=", text)
    return int(found[1]) if found else 0


def not_mlflow(tracking_uri: str, status: int) -> UnreachableError:
    """The error for an HTTP status or a reply that MLflow does not give; a proxy may say 5xx while MLflow is down."""
    told = f"is not an MLflow server ({status}): set MLFLOW_TRACKING_URI to one"
    if status in range(300, 400):
        told = f"redirects ({status}), which is not followed: set MLFLOW_TRACKING_URI to the final address"
    return _error(status, RejectedError, f"{mask(tracking_uri)} {told}")


def _error(status: int, lasting: type[UnreachableError], text: str) -> UnreachableError:
    passes = status >= 500 or status == 429  # noqa: PLR2004 - HTTP
    return (UnreachableError if passes else lasting)(text)


def database_error(tracking_uri: str, error: Exception) -> UnreachableError:
    """The error for a database that MLflow would use directly."""
    detail = one_line(str(getattr(error, "orig", None) or error))
    where = f"the MLflow database {mask(tracking_uri)}"
    if any(sign in detail for sign in ("authentication failed", "no password supplied")):
        return RejectedError(f"{where} refused the credentials: check MLFLOW_TRACKING_URI ({detail})")
    return UnreachableError(f"{where} cannot be used: {detail}")


def _no_answer(tracking_uri: str, error: BaseException) -> UnreachableError:
    """Tells the reason deepest down: what the system said of the connection."""
    reason = one_line(str(error))
    cause: object = error
    while isinstance(cause, BaseException):
        if isinstance(cause, TimeoutError) or "timed out" in str(cause):
            reason = "timed out"
        elif isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        elif isinstance(cause, ConnectionError):  # has words of its own only where the system said nothing
            reason = str(cause)
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "reason", None) or (None, *cause.args)[-1]
    return UnreachableError(f"MLflow at {mask(tracking_uri)} does not answer: {reason}")
