"""Commands over what is recorded: the report's document, sync, verify; trains nothing."""

from collections.abc import Iterator
from typing import Any

from mnist_ablate import summary
from mnist_ablate.driver import open_mirror, publish, tuned, verdict_rows
from mnist_ablate.ledger import Entry, Ledger, Record
from mnist_ablate.mirror import Mirror
from mnist_ablate.plan import Plan, expand
from mnist_ablate.report import markdown
from mnist_ablate.settings import Settings


def document(name: str, settings: Settings) -> tuple[dict[str, Any], str]:
    """The JSON document of what is recorded of a sweep, and its question."""
    record = Ledger(settings.ledger_url, settings.home).find(name)
    return _document(record), record.sweep.question


def sync(name: str, settings: Settings) -> tuple[int, int]:
    """Send MLflow what it lacks of a recorded sweep; how many runs were sent, and how many there are.

    Raises UnreachableError if MLflow cannot be reached.
    """
    record = Ledger(settings.ledger_url, settings.home).find(name)
    mirror, entries = open_mirror(record, settings), record.entries()
    sent = sum(mirror.outcome(entry.trial, entry.params, entry.outcome) for entry in entries.values())
    judged = _document(record)
    publish(mirror, markdown(judged, record.sweep.question), judged)
    record.mirrored = len(entries)
    return sent, len(entries)


def verify(name: str, settings: Settings) -> list[str]:
    """What does not agree between plan, ledger and MLflow, one line each; nothing if all is well."""
    record = Ledger(settings.ledger_url, settings.home).find(name)
    return [*_unplanned(record), *_out_of_step(open_mirror(record, settings), record.entries())]


def _document(record: Record) -> dict[str, Any]:
    plan = expand(record.sweep, record.data_digest, max_trials=10**9)
    rows = verdict_rows(plan, record.entries())
    return summary.document(record.sweep, rows, summary.count(rows, len(plan.arms) * plan.sweep.seeds))


def _unplanned(record: Record) -> Iterator[str]:
    plan: Plan = expand(record.sweep, record.data_digest, max_trials=10**9)
    entries = record.entries()
    planned = {each.trial.id for each in plan.tuning}
    missing = planned - entries.keys()
    if not missing:
        planned |= {each.trial.id for each in plan.verdict_trials(tuned(plan, entries) if plan.points else None)}
        missing = planned - entries.keys()
    if missing:
        yield f"ledger: {len(missing)} of {plan.size} planned trials are not recorded: run the sweep again"
    for trial_id in sorted(entries.keys() - planned):
        yield f"ledger: trial {trial_id} is recorded but not planned"
    for trial_id, entry in entries.items():
        if entry.trial.id != trial_id or entry.outcome.trial_id != trial_id:
            yield f"ledger: trial {trial_id} does not have the content that its id says"


def _out_of_step(mirror: Mirror, entries: dict[str, Entry]) -> Iterator[str]:
    from mnist_ablate import record as sent

    stored = mirror.stored()
    for trial_id, entry in entries.items():
        run = stored.get(trial_id)
        if run is None:
            yield f"MLflow: no run of trial {trial_id}: run sync"
        elif run.copies != 1 or not sent.in_step(run.status, run.outcome, run.metrics, entry.outcome):
            yield f"MLflow: run of trial {trial_id} differs from the ledger: run sync"
    for trial_id in sorted(stored.keys() - entries.keys()):
        yield f"MLflow: run of trial {trial_id} has no record in the ledger"
