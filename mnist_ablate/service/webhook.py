"""Tells a webhook how a sweep ended; a webhook that fails costs one line and three seconds, never the result."""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from pydantic import JsonValue

from mnist_ablate.errors import AblateError, mask, one_line
from mnist_ablate.processes import call_within
from mnist_ablate.reports.report import Report
from mnist_ablate.tracking.client import opener

TIMEOUT_S = 3.0
_KINDS = ("http", "https")


def ended(webhook: str, report: Report, link: str, exit_code: int) -> str:
    """Tell how a sweep came out: counts, verdicts, the page of its runs. A line if that failed, else nothing."""
    told = [f"{claim.statement} {claim.verdict}" for claim in report.claims]
    trials = report.trials
    verdicts: list[JsonValue] = [
        {
            "name": claim.name,
            "statement": claim.statement,
            "verdict": claim.verdict,
            "effect": claim.effect if math.isfinite(claim.effect) else None,
        }
        for claim in report.claims
    ]
    first = f"{report.sweep}: {trials.complete} of {trials.planned} trials complete, exit code {exit_code}"
    content: dict[str, JsonValue] = {
        "text": "\n".join([first, *told, *([link] if link else [])]),
        "sweep": report.sweep,
        "exit_code": exit_code,
        "trials": trials.model_dump(),
        "verdicts": verdicts,
        "link": link,
    }
    return post(webhook, content)


@contextmanager
def failing(webhook: str, sweep: str) -> Iterator[None]:
    """Tell of an error that ends a sweep, which goes on up. A webhook that fails adds a line to it."""
    try:
        yield
    except AblateError as error:
        if webhook:
            text = one_line(str(error))
            content: dict[str, JsonValue] = {
                "text": f"{sweep}: {text}",
                "sweep": sweep,
                "exit_code": error.exit_code,
                "error": text,
            }
            if failure := post(webhook, content):
                error.args = (f"{error}\n{failure}",)
        raise


def post(webhook: str, content: Mapping[str, JsonValue]) -> str:
    """Send JSON; a line that says why it was not taken, without the webhook's path, which is its secret."""
    try:
        parts = urlsplit(webhook)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _KINDS or not parts.hostname:
        return "MNIST_ABLATE_WEBHOOK is not an http(s) URL; no notification was sent: correct it, or unset it"
    where = f"MNIST_ABLATE_WEBHOOK {parts.scheme}://{parts.hostname}/***"
    try:  # a time-out of urllib is one of each read, and a slow host could make many
        reason = call_within(TIMEOUT_S, lambda: _send(webhook, content))
    except TimeoutError:
        reason = f"no answer within {TIMEOUT_S:.0f} s"
    return f"{where}: {reason}: no notification was sent" if reason else ""


def _send(webhook: str, content: Mapping[str, JsonValue]) -> str:
    body = mask(json.dumps(content)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "mnist-ablate"}
    try:
        request = urllib.request.Request(webhook, body, headers)  # noqa: S310 - its kind was checked
        opener(webhook).open(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return str(getattr(reason, "strerror", None) or type(reason).__name__)
    except Exception as error:  # noqa: BLE001 - an odd address or answer must not cost the result
        return type(error).__name__
    return ""
