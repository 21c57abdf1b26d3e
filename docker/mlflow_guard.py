"""MLflow's authorization function: refuses what no sweep needs, whoever asks, then asks for name and password.

It also gives an experiment back to the account that created it, if MLflow did not come to note that.

MLflow calls it before every request of a route that is not public (`authorization_function` in its configuration).
"""

import os
import re
from typing import Any

from flask import Response, make_response, request

_CLOSED = re.compile(
    r"(/ajax-api|/api)?(/[23]\.0)?(/mlflow)?/("
    r"gateway|gateway-proxy|webhooks"  # call other hosts, the first two with keys kept here
    r"|assistant|scorers|jobs|mcp-servers"  # run commands or code of others on the server
    r"|v1|runs/create-promptlab-run|signup|users/create-ui"
    r")(/.*)?"
)
_LOCATED = "/experiments/create"
_NAMED = "/experiments/get-by-name"
_LARGEST_JSON = 16 * 2**20
_JSON_PATHS = ("/api/", "/ajax-api/")
_FILES = ("/mlflow-artifacts/", "/upload-artifact")


def authenticate() -> Any:
    """The account, or the answer instead: 403 if closed or from elsewhere, 413 for too much, 401 for no account."""
    refused = _refused(request.path)
    if refused is not None:
        return refused
    from mlflow.server.auth import authenticate_request_basic_auth, make_basic_auth_response

    given = request.authorization
    if given is None or given.type != "basic" or not given.password:
        return make_basic_auth_response()
    account = authenticate_request_basic_auth()
    if request.path.endswith(_NAMED) and not isinstance(account, Response):
        _give_back(request.args.get("experiment_name", ""), account.username)
    return account


def _give_back(experiment: str, account: str) -> None:
    """MLflow creates an experiment, then notes whose it is. One without that note and without runs is its maker's.

    The note is missing if the server was killed in between; nobody but an administrator could use it then. Its tag
    `account` is of whoever created it: no other account may write there.
    """
    from mlflow.entities import ViewType
    from mlflow.server.auth import store
    from mlflow.server.auth.db.models import SqlRolePermission
    from mlflow.server.handlers import _get_tracking_store

    runs = _get_tracking_store()
    found = runs.get_experiment_by_name(experiment) if experiment else None
    if found is None or found.tags.get("account") != account:
        return
    own = {"resource_type": "experiment", "resource_pattern": found.experiment_id}
    with store.ManagedSessionMaker() as session:
        noted = session.query(SqlRolePermission).filter_by(**own).first()
    if noted is None and not runs.search_runs([found.experiment_id], "", ViewType.ALL, max_results=1):
        store.grant_user_permission(account, permission="MANAGE", **own)


def _refused(path: str) -> Response | None:
    if _foreign(request.headers.get("Origin")):
        return _answer("from a page of another site", 403)
    if "\\" in path or "%5c" in path.lower():
        return _answer("no such path", 404)
    if _CLOSED.fullmatch(path):
        return _answer("closed on this server", 403)
    is_json = path.startswith(_JSON_PATHS) and not any(part in path for part in _FILES)
    if is_json and (request.content_length or 0) > _LARGEST_JSON:
        return _answer(f"more than {_LARGEST_JSON} bytes", 413)
    if path.endswith(_LOCATED) and _elsewhere():
        return _answer("artifacts are kept by the server: give no artifact_location", 403)
    return None


def _foreign(origin: str | None) -> bool:
    """MLflow itself lets the pages of any server on this machine in, with the credentials that a browser keeps."""
    own = {f"{scheme}://{request.host}" for scheme in ("http", "https")}
    allowed = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    return origin is not None and origin not in own | {each.strip() for each in allowed.split(",")}


def _elsewhere() -> bool:
    """Whether an experiment would keep its files in a place of the caller's choice: any folder of the server's."""
    body = request.get_json(force=True, silent=True)
    return isinstance(body, dict) and bool(body.get("artifact_location") or body.get("artifactLocation"))


def _answer(text: str, status: int) -> Response:
    answer: Response = make_response(f"{text}\n", status)
    answer.headers["Content-Type"] = "text/plain"
    return answer
