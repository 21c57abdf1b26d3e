"""The recorded trials of a sweep as a table, a row a trial: `report --format csv`, which `judge` reads back."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from mnist_ablate.ledger import progress
from mnist_ablate.ledger.results_table import STAGES
from mnist_ablate.sweep.plan import Plan
from mnist_ablate.trial import Params, RecordedTrial, Scalar

_FINAL, _WRITTEN, _TUNING, _CONTROL = STAGES


def table(plan: Plan, entries: Mapping[str, RecordedTrial]) -> str:
    """CSV in UTF-8: the stage, every factor and tuned setting, the seed, how it ended, every metric, when and how long.

    Numbers are written so that they are read back to the bit. `judge` reads the trials whose stage is `verdict`.
    """
    trials = [*_trials(plan, entries)]
    factors = [*plan.sweep.columns]
    tuned = [name for name in plan.sweep.nuisance if name not in factors]
    metrics = list(dict.fromkeys(name for _, _, entry in trials for name in entry.outcome.metrics))
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["stage", *factors, *tuned, "seed", "outcome", *metrics, "trial", "started", "seconds"])
    for stage, params, entry in trials:
        settings, outcome = entry.trial.settings, entry.outcome
        started = datetime.fromtimestamp(outcome.started_ms / 1000, UTC).isoformat() if outcome.started_ms else ""
        cells: list[Scalar] = [params.get(name, settings.get(name, "")) for name in factors]
        cells += [settings.get(name, "") for name in tuned]
        values = [outcome.metrics.get(name, "") for name in metrics]
        rows.writerow(
            [stage, *cells, entry.trial.seed, outcome.status, *values, entry.trial.id, started, outcome.seconds]
        )
    return written.getvalue()


def _trials(plan: Plan, entries: Mapping[str, RecordedTrial]) -> Iterator[tuple[str, Params, RecordedTrial]]:
    """The recorded trials of the plan, each with its stage and its factors; those of the verdicts first."""
    stages = {
        _FINAL: progress.verdict_trials(plan, entries),
        _WRITTEN: progress.as_written_trials(plan, entries),
        _CONTROL: progress.control_trials(plan, entries),
    }
    for stage, trials in stages.items():
        yield from ((stage, each.arm.params, entries[each.id]) for each in trials if each.id in entries)
    yield from ((_TUNING, entry.params, entry) for entry in entries.values() if entry.stage == "tuning")
