"""Why MLflow cannot be used, in one masked line that says what to do; reaches nothing itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_ablate.errors import UnreachableError, mask, one_line


class RefusedError(UnreachableError):
    """MLflow answered and does not take what was sent; sending it again would not help."""


class RejectedError(UnreachableError):
    """What is at the address does not let us in, or is not MLflow: waiting would not help."""


@contextmanager
def explained(tracking_uri: str) -> Iterator[None]:
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
