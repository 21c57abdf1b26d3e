"""The JSON document of recorded trials: which of them are judged, and what is said beside; reads no storage."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mnist_ablate.ledger import preregistration, progress
from mnist_ablate.ledger.preregistration import Earlier, Registration
from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.reports import selection, summary
from mnist_ablate.sweep.plan import Plan, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome, RecordedTrial, Trial

_ANY_SIZE = 10**9


def document(
    plan: Plan, entries: Mapping[str, RecordedTrial], registration: Registration, prints: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What `report` prints: of the recorded trials by their ids, with the fingerprints of the normalizers."""
    rows = progress.rows(plan, entries)
    about = summary.About(
        prints,
        progress.again(plan, entries),
        preregistration.document(plan, registration),
        selection.document(plan, entries),
    )
    return summary.document(plan.sweep, rows, progress.counts(plan, entries), about)


def of_raw(
    study: RawStudy, earlier: Sequence[Mapping[str, Any]], prints: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The same from what lies in a ledger or a bundle; `earlier` says how records before it were begun."""
    attrs = {key: json.loads(value) for key, value in study.attrs.items()}
    content = attrs["content"]
    plan = make_plan(Sweep.model_validate(content["sweep"]), content["data_digest"], _ANY_SIZE)
    before = tuple(map(_earlier, earlier))
    registration = Registration(attrs["registered"], attrs["digest"], attrs.get("preregistration", {}), before)
    return document(plan, {entry.trial.id: entry for entry in map(_entry, study.trials)}, registration, prints)


def _earlier(about: Mapping[str, Any]) -> Earlier:
    content = about["content"]
    sweep = Sweep.model_validate(content["sweep"])
    return Earlier(about["record"], about["registered"], sweep, content["data_digest"], about["trials"])


def _entry(trial: RawTrial) -> RecordedTrial:
    return RecordedTrial(
        trial=Trial(**json.loads(trial.attrs["trial"]), id=json.loads(trial.attrs["trial_id"])),
        params={name: value for name, value in trial.params.items() if name != "seed"},
        stage=json.loads(trial.attrs["stage"]),
        outcome=Outcome.model_validate_json(trial.attrs["outcome"]),
    )
