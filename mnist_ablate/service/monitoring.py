"""How the service is: alive, ready, its figures for Prometheus, its log as lines of JSON. Changes nothing."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_ablate.errors import AblateError, mask
from mnist_ablate.service.queue import Queue
from mnist_ablate.service.submissions import SUBMISSIONS
from mnist_ablate.tracking.client import check_answer

_PREFIX = "mnist_ablate_"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LOG = logging.getLogger(__name__)
_TOLD = ("request", "account", "client", "method", "path", "status", "ms", "sweep", "owner")
"""What a line of the log can tell beside its message."""
_METHODS = {"GET", "HEAD", "POST", "PUT"}
_QUIET = {"/healthz", "/readyz", "/metrics"}


class _QueueFigures(Collector):
    """The queue's figures, counted when somebody asks for them."""

    def __init__(self, queue: Queue, streams: Callable[[], int]) -> None:
        self._queue, self._streams = queue, streams

    def collect(self) -> Iterator[Metric]:
        """The figures; only that the database is down while it is."""
        streams = GaugeMetricFamily(f"{_PREFIX}event_streams", "Event streams that are open", self._streams())
        try:
            found = [*self._of_queue()]
        except AblateError:
            found = []
        yield GaugeMetricFamily(f"{_PREFIX}database_up", "Whether the database answers", float(bool(found)))
        yield streams
        yield from found

    def _of_queue(self) -> Iterator[Metric]:
        sweeps = GaugeMetricFamily(f"{_PREFIX}sweeps", "Sweeps in the queue by state", labels=["state"])
        for state, count in self._queue.counts().items():
            sweeps.add_metric([state], count)
        yield sweeps
        runners = self._queue.runners()
        yield GaugeMetricFamily(f"{_PREFIX}runners", "Runners that live", len(runners))
        yield GaugeMetricFamily(
            f"{_PREFIX}mlflow_behind", "Ended sweeps that MLflow lacks a part of", self._queue.behind()
        )
        oldest_due = select(func.min(SUBMISSIONS.c.submitted_at)).where(SUBMISSIONS.c.state == "waiting")
        recorded, seconds = func.sum(SUBMISSIONS.c.recorded), func.sum(SUBMISSIONS.c.processor_s)
        sums = select(recorded, seconds, oldest_due.scalar_subquery())
        with self._queue.reading() as connection:
            trials, processor_s, oldest = connection.execute(sums).one()
        yield CounterMetricFamily(f"{_PREFIX}trials_recorded", "Trials recorded, of all sweeps", trials or 0)
        yield CounterMetricFamily(f"{_PREFIX}processor_seconds", "Seconds of training, of all sweeps", processor_s or 0)
        waited = time.time() - oldest if oldest else 0.0
        yield GaugeMetricFamily(f"{_PREFIX}longest_wait_seconds", "How long the oldest waiting sweep waits", waited)


class Monitoring:
    """Counts requests, and asks the queue for the rest when `metrics` are asked for."""

    def __init__(self, queue: Queue, tracking_uri: str, streams: Callable[[], int]) -> None:
        self._queue, self._tracking_uri = queue, tracking_uri
        self._registry = CollectorRegistry()
        self._registry.register(_QueueFigures(queue, streams))
        labels = ("method", "route", "status")
        self._requests = Counter(f"{_PREFIX}http_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            f"{_PREFIX}http_seconds", "Until an answer began", ("route",), buckets=_BUCKETS, registry=self._registry
        )

    def metrics(self) -> bytes:
        """All figures in the text format of Prometheus."""
        return generate_latest(self._registry)

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """Whether sweeps are taken and run now, and what each part says. MLflow may be away: sweeps run without it."""
        parts = {"database": "ok", "runner": "ok", "mlflow": "ok"}
        try:
            self._queue.ping()
            if not self._queue.runners():
                parts["runner"] = "none is there: start `mnist-ablate runner`"
        except AblateError as error:
            parts["database"] = mask(str(error))
            parts["runner"] = "unknown"
        if self._tracking_uri.startswith("http"):
            try:
                check_answer(self._tracking_uri)
            except AblateError as error:
                parts["mlflow"] = mask(str(error))
        return parts["database"] == parts["runner"] == "ok", parts

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request, which took so long until its answer began."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class AccessLog:
    """An ASGI application before all others: a line of the log for each request, with its sweep's id."""

    def __init__(self, app: ASGIApp, monitoring: Monitoring) -> None:
        self._app, self._monitoring = app, monitoring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell of it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tell(scope, message["status"], time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, told)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        state = scope.get("state", {})
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._monitoring.count(method, route, status, seconds)
        if scope["path"] in _QUIET and status < 400:  # noqa: PLR2004 - all is well
            return
        account = state.get("account")
        about = {
            "request": state.get("request_id", ""),
            "client": state.get("client", ""),
            "account": account.name if account else "",
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * seconds, 1),
            "sweep": state.get("sweep") or scope.get("path_params", {}).get("id_", ""),
        }
        _LOG.info("request", extra=about)


class JsonLines(logging.Formatter):
    """A line of JSON for each message, with secrets masked: time, level, message, and what the message is about."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = {name: value for name in _TOLD if (value := getattr(record, name, "")) not in {"", None}}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": record.levelname.lower(), "message": record.getMessage(), **told}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps({name: mask(value) if isinstance(value, str) else value for name, value in line.items()})


def log_to_stderr(*, as_json: bool) -> None:
    """Write the log of this program to stderr: all of it as JSON, or only what is wrong, as text for a person."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(message)s"))
    root = logging.getLogger("mnist_ablate")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if as_json else logging.WARNING)
    root.propagate = False
