"""From rows, recorded trials or raw records to a report. Reads no storage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from mnist_ablate.ledger import preregistration, progress
from mnist_ablate.ledger.preregistration import Earlier, Registration
from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.reports.bundle import EarlierRecord
from mnist_ablate.reports.report import Adaptive, LookShare, Preregistration, Report, Selection, TrialCounts
from mnist_ablate.reports.selection import main_metric, select
from mnist_ablate.statistics import anova, controls, effect_sizes
from mnist_ablate.statistics.controls import ControlRuns, NegativeControl
from mnist_ablate.statistics.verdict import ALPHA, ClaimVerdict, arms, judge
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, SPENDING
from mnist_ablate.sweep.plan import Plan, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Outcome, RecordedTrial, Row
from mnist_ablate.workloads.workload import stored_trial

_ANY_SIZE = 10**9


@dataclass(frozen=True)
class About:
    """What a report says beside the verdicts.

    `fingerprints` describe the inputs, none if unknown. `control` are the runs of the negative control, if there is
    one. `preregistration` says what was written down before the first trial, if anything was.
    """

    fingerprints: Sequence[Mapping[str, JsonValue]] = ()
    control: ControlRuns | None = None
    preregistration: Preregistration | None = None
    selection: Selection = field(default_factory=Selection)


NOTHING = About()


def about(
    plan: Plan,
    entries: Mapping[str, RecordedTrial],
    registration: Registration,
    fingerprints: Sequence[Mapping[str, JsonValue]],
) -> About:
    """What recorded trials say beside the verdicts."""
    registered = Preregistration.model_validate(preregistration.document(plan, registration))
    return About(fingerprints, progress.again(plan, entries), registered, select(plan, entries))


def of_rows(
    sweep: Sweep, rows: Sequence[Row], counts: Mapping[str, int], about: About = NOTHING, alpha: float = ALPHA
) -> Report:
    """Judge the claims of a sweep on finished rows. `counts` are those of `progress.counts`."""
    metric, judged = main_metric(sweep), judge(rows, sweep.claims, alpha, sweep.looks)
    trials = TrialCounts.model_validate(counts)
    levels = [_level(sweep, verdict, alpha) for verdict in judged]
    return Report(
        sweep=sweep.name,
        digest=sweep.digest,
        metric=metric,
        alpha=alpha,
        trials=trials,
        arms=arms(rows, metric, alpha),
        claims=judged,
        preregistration=about.preregistration,
        negative_control=about.control and _control(about.control, sweep, rows, alpha),
        positive_control=controls.positive_control(sweep.claims, judged, finished=not trials.missing),
        adaptive=_adaptive(sweep),
        effect_sizes=tuple(effect_sizes.sizes(sweep.claims, judged, levels)),
        factorial_effects=anova.table(rows, sweep.factors, metric) if sweep.design == "factorial" else None,
        tuning=about.selection.tuning,
        as_written=about.selection.as_written,
        search=about.selection.search,
        path=about.selection.path,
        fingerprints=tuple(about.fingerprints),
    )


def of_records(
    plan: Plan,
    entries: Mapping[str, RecordedTrial],
    registration: Registration,
    fingerprints: Sequence[Mapping[str, JsonValue]],
) -> Report:
    """Judge recorded trials, which are given by their ids."""
    beside = about(plan, entries, registration, fingerprints)
    return of_rows(plan.sweep, progress.rows(plan, entries), progress.counts(plan, entries), beside)


def of_raw(
    study: RawStudy, earlier: Sequence[EarlierRecord], fingerprints: Sequence[Mapping[str, JsonValue]]
) -> Report:
    """Judge what lies in a ledger or a bundle; `earlier` says how records before it were begun."""
    attrs = {key: json.loads(value) for key, value in study.attrs.items()}
    content = attrs["content"]
    plan = make_plan(Sweep.model_validate(content["sweep"]), content["data_digest"], _ANY_SIZE)
    before = tuple(map(_earlier, earlier))
    registration = Registration(attrs["registered"], attrs["digest"], attrs.get("preregistration", {}), before)
    return of_records(plan, {entry.trial.id: entry for entry in map(_entry, study.trials)}, registration, fingerprints)


def _earlier(record: EarlierRecord) -> Earlier:
    sweep = Sweep.model_validate(record.content["sweep"])
    return Earlier(record.record, record.registered, sweep, str(record.content["data_digest"]), record.trials)


def _entry(trial: RawTrial) -> RecordedTrial:
    return RecordedTrial(
        trial=stored_trial(trial.attrs["trial"]),
        params={name: value for name, value in trial.params.items() if name != "seed"},
        stage=json.loads(trial.attrs["stage"]),
        outcome=Outcome.model_validate_json(trial.attrs["outcome"]),
    )


def _level(sweep: Sweep, verdict: ClaimVerdict, alpha: float) -> float:
    """The error rate of the interval of a claim, at its look if there are several."""
    return alpha / len(sweep.claims) * (sweep.looks or SINGLE_LOOK)[(verdict.look or 1) - 1].share


def _control(runs: ControlRuns, sweep: Sweep, rows: Sequence[Row], alpha: float) -> NegativeControl:
    """At the level of a claim: in an adaptive sweep, of one at the look whose seeds the control has."""
    share = next((look.share for look in sweep.looks if look.seeds == runs.planned), 1.0)
    return controls.negative_control(runs, rows, sweep.claims, alpha * share)


def _adaptive(sweep: Sweep) -> Adaptive | None:
    looks = tuple(LookShare(seeds=look.seeds or 0, share=look.share) for look in sweep.looks)
    if not looks:
        return None
    return Adaptive(min=sweep.min_seeds, max=sweep.max_seeds, spending=SPENDING, looks=looks)
