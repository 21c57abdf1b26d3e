"""Tells a webhook how a sweep ended; a webhook that fails costs one line and three seconds, never the result."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from mnist_ablate.errors import AblateError, mask, one_line
from mnist_ablate.processes import call_within
from mnist_ablate.reports.report import Report
from mnist_ablate.tracking.client import opener

TIMEOUT_S = 3.0


def ended(webhook: str, report: Report, link: str, exit_code: int) -> str:
    """Tell how a sweep came out. A line if that failed, else nothing."""
    return post(webhook, ending(report, link, exit_code))


def ending(report: Report, link: str, exit_code: int) -> dict[str, object]:
    """How a sweep came out, as a webhook gets it: counts, verdicts, the page of its runs."""
    shown = report.model_dump_json(include={"claims": {"__all__": {"name", "statement", "verdict", "effect"}}})
    counts = f"{report.trials.complete} of {report.trials.planned} trials complete"
    first = f"{report.sweep}: {counts}, exit code {exit_code}"
    lines = [first, *(f"{claim.statement} {claim.verdict}" for claim in report.claims), *([link] if link else [])]
    about = {"text": "\n".join(lines), "sweep": report.sweep, "exit_code": exit_code, "link": link}
    return {**about, "trials": report.trials.model_dump(), "verdicts": json.loads(shown)["claims"]}


def failure(sweep: str, reason: str, exit_code: int) -> dict[str, object]:
    """The same of a sweep that an error ended."""
    return {"text": f"{sweep}: {reason}", "sweep": sweep, "exit_code": exit_code, "error": reason}


@contextmanager
def failing(webhook: str, sweep: str) -> Iterator[None]:
    """Tell of an error that ends a sweep, which goes on up. A webhook that fails adds a line to it."""
    try:
        yield
    except AblateError as error:
        content = failure(sweep, one_line(str(error)), error.exit_code)
        if webhook and (problem := post(webhook, content)):
            error.args = (f"{error}\n{problem}",)
        raise


def post(webhook: str, content: Mapping[str, object]) -> str:
    """Send JSON; a line that says why it was not taken, without the webhook's path, which is its secret."""
    try:
        parts = urlsplit(webhook)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "MNIST_ABLATE_WEBHOOK is not an http(s) URL; no notification was sent: correct it, or unset it"
    try:  # a time-out of urllib is one of each read, and a slow host could make many
        reason = call_within(TIMEOUT_S, lambda: _send(webhook, content))
    except TimeoutError:
        reason = f"no answer within {TIMEOUT_S:.0f} s"
    where = f"MNIST_ABLATE_WEBHOOK {parts.scheme}://{parts.hostname}/***"
    return f"{where}: {reason}: no notification was sent" if reason else ""


def _send(webhook: str, content: Mapping[str, object]) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "mnist-ablate"}
    try:
        request = urllib.request.Request(webhook, mask(json.dumps(content)).encode(), headers)  # noqa: S310 - checked
        opener(webhook).open(request, timeout=TIMEOUT_S).close()
    except HTTPError as error:
        return f"answered {error.code}"
    except Exception as error:  # noqa: BLE001 - an odd address or answer must not cost the result
        reason = error.reason if isinstance(error, URLError) else error
        return str(getattr(reason, "strerror", None) or type(reason).__name__)
    return ""
