"""Commands over what is recorded: the report's document, sync; trains nothing."""

from typing import Any

from mnist_ablate import data, judging
from mnist_ablate.fingerprint import fingerprints
from mnist_ablate.ledger import Ledger, Record
from mnist_ablate.plan import Plan
from mnist_ablate.publishing import open_mirror, publish
from mnist_ablate.settings import Settings


def document(name: str, settings: Settings) -> tuple[dict[str, Any], Record]:
    """The JSON document of what is recorded of a sweep, and the record."""
    record = _find(name, settings)
    return _document(record), record


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
    publish(record, len(records), mirror, settings, _document(record))
    return sum(sent.values()) + sum(alone), len(entries)


def _find(name: str, settings: Settings) -> Record:
    return Ledger(settings.ledger_url, reading=True).find(name)


def _document(record: Record) -> dict[str, Any]:
    plan = record.plan
    return judging.document(plan, record.entries(), record.registration, _fingerprints(record, plan))


def _fingerprints(record: Record, plan: Plan) -> list[dict[str, Any]]:
    """As recorded; those of a record that has none yet are measured if its images are the ones that ship."""
    if record.fingerprints or record.data_digest != data.MNIST_DIGEST:
        return record.fingerprints
    return fingerprints(plan, data.load())
