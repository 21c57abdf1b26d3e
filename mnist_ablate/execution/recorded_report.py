"""What is recorded of a sweep: its report, and MLflow brought in step with it. Trains nothing."""

from pydantic import JsonValue

from mnist_ablate.execution.publishing import open_mirror, publish
from mnist_ablate.ledger.ledger import Ledger, Record
from mnist_ablate.reports import judging
from mnist_ablate.reports.report import Report
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, planned_settings
from mnist_ablate.workloads.workload import default_workload


def report(name: str, settings: Settings) -> tuple[Report, Record]:
    """The report on what is recorded of a sweep, and the record."""
    record = _find(name, settings)
    return _report(record), record


def sync(name: str, settings: Settings) -> tuple[int, int]:
    """Send MLflow what it lacks of a recorded sweep; how many runs were sent, and how many there are.

    Raises UnreachableError if MLflow cannot be reached.
    """
    record = _find(name, settings)
    mirror, records = open_mirror(record, settings), record.records()
    entries = {entry.trial.id: entry for entry in records}
    ended = [(entry.trial, entry.params, entry.outcome) for entry in entries.values()]
    sent = mirror.outcomes_together(ended)
    alone = [mirror.outcome(*each) for each in ended if each[0].id not in sent]
    publish(record, len(records), mirror, settings, _report(record))
    return sum(sent.values()) + sum(alone), len(entries)


def _find(name: str, settings: Settings) -> Record:
    return Ledger(settings.ledger_url, reading=True).find(name)


def _report(record: Record) -> Report:
    plan = record.plan
    return judging.of_records(plan, record.entries(), record.registration, _fingerprints(record, plan))


def _fingerprints(record: Record, plan: Plan) -> list[dict[str, JsonValue]]:
    """As recorded; those of a record that has none yet are measured if its inputs are those that ship."""
    if record.fingerprints or record.data_digest != default_workload().shipped_digest:
        return record.fingerprints
    workload = default_workload()
    return workload.fingerprints(workload.load(None), planned_settings(plan))
