"""Drives a sweep: plan, tuning, trials, record, mirror; resumes what an earlier run left. Prints nothing."""

import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from mnist_ablate import data
from mnist_ablate.engine import Engine, Event, Finished, Progress
from mnist_ablate.errors import AblateError, UnreachableError
from mnist_ablate.interrupts import Interrupts
from mnist_ablate.ledger import Entry, Ledger, Record
from mnist_ablate.mirror import Mirror
from mnist_ablate.plan import Plan, Planned, expand, label
from mnist_ablate.settings import Settings
from mnist_ablate.summary import count
from mnist_ablate.sweep import Params, Sweep
from mnist_ablate.trial import Row
from mnist_ablate.uploader import Uploader

SAME_FAILURES = 3
"""So many trials failing with one message stop the sweep: the next would fail too."""
DELIVERY_S = 60.0
_REDO = frozenset({"failed", "lost"})


class View(Protocol):
    """Whoever shows a sweep to a person."""

    def opened(self, plan: Plan, entries: Mapping[str, Entry]) -> None:
        """The plan is registered; these trials were recorded earlier."""

    def event(self, event: Event) -> None:
        """A trial started, ended an epoch, is retried, or has finished."""

    def message(self, text: str) -> None:
        """A line for the person; may come from another thread."""


@dataclass(frozen=True)
class Result:
    """What a sweep came to. `counts` and `rows` are those of the verdicts, `planned` and `recorded` of all trials.

    `interrupted` is the signal that ended it early, else 0; `in_step` says whether MLflow has all of it.
    """

    sweep: Sweep
    rows: tuple[Row, ...]
    counts: Mapping[str, int]
    planned: int
    recorded: int
    trained: bool
    mirror: Mirror
    in_step: bool
    interrupted: int


def drive(sweep: Sweep, settings: Settings, view: View) -> Result:
    """Run what is not yet recorded of a sweep, and return all of it.

    Raises ConflictError if another driver runs it or the recorded sweep differs; the other errors as the parts do.
    """
    digits = data.load(settings.data)
    plan = expand(sweep, digits.digest, settings.max_trials)
    ledger = Ledger(settings.ledger_url, settings.home)
    with ledger.driving(sweep.name):
        record = ledger.begin(plan, fresh=settings.fresh)
        view.opened(plan, record.entries())
        mirror = open_mirror(record, settings)
        with Interrupts(view.message) as interrupts, ExitStack() as stack:
            run = _Run(plan, record, mirror, settings, view, interrupts, stack)
            return run.result()


def open_mirror(record: Record, settings: Settings) -> Mirror:
    """The mirror of a record; it connects when it is first used."""
    sweep = record.sweep
    return Mirror(settings.tracking_uri, sweep.name, sweep.digest, sweep.question, provenance(record.data_digest))


def provenance(data_digest: str) -> dict[str, str]:
    """Where results come from: versions, git commit if there is one, machine, data."""
    packages = ("mnist-ablate", "keras", "optuna", "mlflow", "numpy")
    return {
        **{f"version.{name}": version(name) for name in packages},
        "version.python": platform.python_version(),
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "data_digest": data_digest,
    }


def verdict_rows(plan: Plan, entries: Mapping[str, Entry]) -> tuple[Row, ...]:
    """What the verdicts read: the recorded trials of the verdict stage, in the order of the plan."""
    found = [entry for entry in entries.values() if entry.stage == "verdict"]
    places = {label(arm.params): i for i, arm in enumerate(plan.arms)}
    found.sort(key=lambda entry: (places[label(entry.params)], entry.trial.seed))
    return tuple(Row(e.params, e.trial.seed, e.outcome.metrics, e.outcome.status) for e in found)


def tuned(plan: Plan, entries: Mapping[str, Entry]) -> dict[str, Params]:
    """Each arm's best nuisance values by validation accuracy; the first of equals."""
    best: dict[str, Params] = {}
    scores: dict[str, float] = {}
    points = [point for point in plan.points for _ in plan.arms]
    for planned, point in zip(plan.tuning, points, strict=True):
        arm, outcome = label(planned.arm.params), entries[planned.trial.id].outcome
        score = outcome.metrics.get("val_accuracy", -1.0)
        if score > scores.get(arm, -2.0):
            best[arm], scores[arm] = point, score
    return best


class _Run:
    """One run of the driver over one plan; the parts that it starts end with `stack`."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts that `drive` put together
        self,
        plan: Plan,
        record: Record,
        mirror: Mirror,
        settings: Settings,
        view: View,
        interrupts: Interrupts,
        stack: ExitStack,
    ) -> None:
        self._plan, self._record, self._mirror, self._settings = plan, record, mirror, settings
        self._view, self._interrupts, self._stack = view, interrupts, stack
        self._entries = dict(record.entries())
        self._failures: Counter[str] = Counter()
        self._engine: Engine | None = None
        self._uploader: Uploader | None = None

    def result(self) -> Result:
        self._train(self._plan.tuning)
        if not self._interrupts.stopping:
            best = tuned(self._plan, self._entries) if self._plan.points else None
            self._train(self._plan.verdict_trials(best))
        rows = verdict_rows(self._plan, self._entries)
        return Result(
            sweep=self._plan.sweep,
            rows=rows,
            counts=count(rows, len(self._plan.arms) * self._plan.sweep.seeds),
            planned=self._plan.size,
            recorded=len(self._entries),
            trained=self._engine is not None,
            mirror=self._mirror,
            in_step=self._delivered(),
            interrupted=self._interrupts.signal,
        )

    def _train(self, planned: Iterable[Planned]) -> None:
        todo = {each.trial.id: each for each in planned if self._is_due(each.trial.id)}
        if not todo:
            return
        engine, uploader = self._started()
        for event in self._until_stopped(engine, todo):
            self._view.event(event)
            if isinstance(event, Progress):
                uploader.epoch(event.trial, event.epoch)
            elif isinstance(event, Finished):
                self._finish(todo[event.trial.id], event)

    def _is_due(self, trial_id: str) -> bool:
        entry = self._entries.get(trial_id)
        return entry is None or entry.outcome.status in _REDO

    def _until_stopped(self, engine: Engine, todo: Mapping[str, Planned]) -> Iterator[Event]:
        for event in engine.run(each.trial for each in todo.values()):
            yield event
            if max(self._failures.values(), default=0) >= SAME_FAILURES:
                reason, times = self._failures.most_common(1)[0]
                raise AblateError(f"{self._plan.sweep.name}: stopped, {times} trials failed alike: {reason}")

    def _finish(self, planned: Planned, event: Finished) -> None:
        trial, outcome = event.trial, event.outcome
        self._record.add(planned, outcome)
        self._entries[trial.id] = Entry(trial, planned.arm.params, planned.stage, outcome)
        if outcome.status == "failed":
            self._failures[outcome.reason] += 1
            log = self._settings.log_dir / f"{trial.id}.log"
            log.write_text(outcome.traceback, encoding="utf-8")
        assert self._uploader is not None
        self._uploader.outcome(trial, planned.arm.params, outcome)

    def _started(self) -> tuple[Engine, Uploader]:
        """The engine and the uploader, started when there is something to train."""
        if self._engine is None or self._uploader is None:
            self._uploader = self._uploading()
            self._engine = self._stack.enter_context(self._new_engine())
            self._interrupts.on_first = self._engine.drain
        return self._engine, self._uploader

    def _new_engine(self) -> Engine:
        settings = self._settings
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        return Engine(
            jobs=settings.jobs,
            address=settings.cluster,
            data_digest=self._plan.data_digest,
            images=None if settings.data == data.MNIST else settings.data.read_bytes(),
            log_dir=settings.log_dir,
            trainer=settings.trainer,
            trial_timeout_s=settings.trial_timeout_s,
        )

    def _uploading(self) -> Uploader:
        if self._settings.require_mlflow:
            self._mirror.open()
        uploader = Uploader(self._mirror, self._view.message)
        uploader.start()
        return uploader

    def _delivered(self) -> bool:
        """Bring MLflow in step, unless it was seen to be and nothing is new."""
        if self._uploader is None:
            if self._record.mirrored == len(self._entries):
                return True
            self._uploader = self._uploading()
            for entry in self._entries.values():
                self._uploader.outcome(entry.trial, entry.params, entry.outcome)
        in_step = self._uploader.close(DELIVERY_S, settle=True)
        if in_step:
            self._record.mirrored = len(self._entries)
        return in_step


def publish(mirror: Mirror, note: str, document: Mapping[str, Any]) -> bool:
    """Write the verdicts on the parent run; False if MLflow cannot be reached."""
    effects = {f"effect.{claim['name']}": claim["effect"] for claim in document["claims"]}
    try:
        mirror.verdicts(note, {name: value for name, value in effects.items() if value is not None}, [])
    except UnreachableError:
        return False
    return True


def _git_commit() -> str:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
