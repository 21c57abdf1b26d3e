"""Commands over what is recorded: the report's document, sync, verify; trains nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mnist_ablate import record as sent
from mnist_ablate import standing, summary
from mnist_ablate.ledger import Entry, Ledger, Record
from mnist_ablate.mirror import Mirror
from mnist_ablate.plan import Plan, expand
from mnist_ablate.publishing import open_mirror, publish
from mnist_ablate.settings import Settings
from mnist_ablate.trial import Recipe

_ANY_SIZE = 10**9


def document(name: str, settings: Settings) -> tuple[dict[str, Any], Record]:
    """The JSON document of what is recorded of a sweep, and the record."""
    record = _find(name, settings)
    return _document(record), record


def sync(name: str, settings: Settings) -> tuple[int, int]:
    """Send MLflow what it lacks of a recorded sweep; how many runs were sent, and how many there are.

    Raises UnreachableError if MLflow cannot be reached.
    """
    record = _find(name, settings)
    mirror, entries = open_mirror(record, settings), record.entries()
    sent_now = sum(mirror.outcome(entry.trial, entry.params, entry.outcome) for entry in entries.values())
    publish(record, mirror, settings, _document(record))
    return sent_now, len(entries)


def verify(name: str, settings: Settings) -> list[str]:
    """What does not agree between plan, ledger and MLflow, one line each; nothing if all is well."""
    record = _find(name, settings)
    plan, records = _plan(record), record.records()
    entries = {entry.trial.id: entry for entry in records}
    return [
        *_damaged(records),
        *_unplanned(plan, entries),
        *_out_of_step(open_mirror(record, settings), entries),
    ]


def _find(name: str, settings: Settings) -> Record:
    return Ledger(settings.ledger_url, reading=True).find(name)


def _plan(record: Record) -> Plan:
    return expand(record.sweep, record.data_digest, max_trials=_ANY_SIZE)


def _document(record: Record) -> dict[str, Any]:
    plan = _plan(record)
    rows = standing.rows(plan, record.entries())
    return summary.document(record.sweep, rows, summary.count(rows, len(plan.arms) * plan.sweep.seeds))


def _damaged(records: list[Entry]) -> Iterator[str]:
    """Records that were altered, and trials that were trained again though they had a result."""
    for entry in records:
        if not entry.intact:
            yield f"ledger: trial {entry.trial.id} was altered after it had been recorded"
    results = Counter(entry.trial.id for entry in records if entry.outcome.status in {"complete", "diverged"})
    for trial_id, times in results.items():
        if times > 1:
            yield f"ledger: trial {trial_id} has {times} results"


def _unplanned(plan: Plan, entries: Mapping[str, Entry]) -> Iterator[str]:
    missing = plan.size - standing.done(plan, entries)
    if missing:
        yield f"ledger: {missing} of {plan.size} planned trials are not recorded: run the sweep again"
    planned = {each.trial.id for each in (*plan.tuning, *standing.verdict_trials(plan, entries))}
    recipes = {_untuned(arm.recipe, plan) for arm in plan.arms} if plan.points else set()
    for trial_id, entry in entries.items():
        superseded = entry.stage == "verdict" and _untuned(entry.trial.recipe, plan) in recipes
        if trial_id not in planned and not superseded:
            yield f"ledger: trial {trial_id} is recorded but not planned"


def _untuned(recipe: Recipe, plan: Plan) -> Recipe:
    """A recipe without its nuisance values: those of a repeated tuning may be others."""
    defaults = Recipe().model_dump(include=set(plan.sweep.nuisance))
    return recipe.model_copy(update=defaults)


def _out_of_step(mirror: Mirror, entries: Mapping[str, Entry]) -> Iterator[str]:
    stored = mirror.stored()
    for trial_id, entry in entries.items():
        run = stored.get(trial_id)
        if run is None:
            yield f"MLflow: no run of trial {trial_id}: run sync"
        elif run.copies != 1:
            yield f"MLflow: {run.copies} runs of trial {trial_id}: run sync"
        elif not sent.in_step(run.status, run.outcome, run.metrics, entry.outcome):
            yield f"MLflow: run of trial {trial_id} differs from the ledger: run sync"
    for trial_id in sorted(stored.keys() - entries.keys()):
        yield f"MLflow: run of trial {trial_id} has no record in the ledger"
