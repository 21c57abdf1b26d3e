"""From rows, recorded trials or raw records to a report. Reads no storage."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from mnist_ablate.errors import SweepError, mask
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.preregistration import Earlier, Registration, document
from mnist_ablate.ledger.raw_records import RawStudy, recorded_trial
from mnist_ablate.ledger.results_table import Reading, ResultsTable
from mnist_ablate.reports.report import Adaptive, Preregistration, Reach, ReachSetting, Report, Selection, TrialCounts
from mnist_ablate.reports.selection import main_metric, select
from mnist_ablate.statistics import anova, controls, effect_sizes
from mnist_ablate.statistics.claim_verdict import ALPHA, ClaimVerdict
from mnist_ablate.statistics.confounds import ClaimAudit, audit, confounded
from mnist_ablate.statistics.decision_rule import Finding
from mnist_ablate.statistics.pairing import by_arm
from mnist_ablate.statistics.verdict import arms, judge
from mnist_ablate.sweep.adaptive_schedule import SINGLE_LOOK, SPENDING
from mnist_ablate.sweep.plan import Plan, make_plan
from mnist_ablate.sweep.settings_across import changes
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import hint, listed, plainly
from mnist_ablate.trial import USUAL_SOURCES, RecordedTrial, Row

Fingerprints = Sequence[Mapping[str, JsonValue]]  # what the inputs are like; none if that is unknown


@dataclass(frozen=True)
class About:
    """What a report says beside the verdicts.

    `control` are the runs of the negative control, if there is one. `preregistration` says what was written down before
    the first trial, if anything was. `reading` and `audits` are those of a table from elsewhere. `machines` are those
    that trained.
    """

    fingerprints: Fingerprints = ()
    control: controls.ControlRuns | None = None
    preregistration: Preregistration | None = None
    selection: Selection = field(default_factory=Selection)
    reading: Reading | None = None
    audits: Sequence[ClaimAudit] = ()
    machines: Sequence[str] = ()


NOTHING = About()


def of_rows(sweep: Sweep, rows: Sequence[Row], counts: Mapping[str, int], about: About = NOTHING) -> Report:
    """Judge the claims of a sweep on finished rows. `counts` are those of `progress.counts`."""
    metric, looks, control = main_metric(sweep), sweep.looks, about.control
    trials, verdicts = TrialCounts.model_validate(counts), judge(rows, sweep.every_claim, looks=looks)
    judged = _withheld(_seeded(sweep, rows, verdicts), about.audits)
    # The error rate of an interval is that of the look that it was made at; the control's, of the look with its seeds.
    levels = [ALPHA / len(judged) * (looks or SINGLE_LOOK)[(each.look or 1) - 1].share for each in judged]
    share = next((look.share for look in looks if control and look.seeds == control.planned), 1.0)
    adaptive = Adaptive(min=sweep.min_seeds, max=sweep.max_seeds, spending=SPENDING, looks=looks)
    return Report(
        sweep=sweep.name,
        asked=sweep,
        digest=sweep.digest,
        metric=metric,
        alpha=ALPHA,
        generalizes_over=_generalization(sweep, about),
        trials=trials,
        arms=arms(rows, metric),
        claims=judged,
        preregistration=about.preregistration,
        negative_control=control and controls.negative_control(control, rows, sweep.every_claim, ALPHA * share),
        positive_control=controls.positive_control(sweep.every_claim, judged, finished=not trials.missing),
        adaptive=adaptive if looks else None,
        effect_sizes=tuple(effect_sizes.sizes(sweep.every_claim, judged, levels)),
        factorial_effects=_factorial_effects(sweep, rows, metric) if sweep.design == "factorial" else None,
        fingerprints=tuple(about.fingerprints),
        table=about.reading,
        audits=tuple(about.audits),
        reach=tuple(_reach(sweep, judged)),
        **dict(about.selection),
    )


def _generalization(sweep: Sweep, about: About) -> str:
    """What verdicts generalize over. A table does not say it, unless its sweep file does."""
    over = sweep.workload.generalization(sweep.vary)
    if about.reading is not None and sweep.vary == [*USUAL_SOURCES]:
        over = "The verdicts generalize over what differs between the seeds of an arm; the table does not say what."
    measured = [claim.name for claim in sweep.claims if sweep.metric(claim.measured_metric).of_machine]
    if not measured:
        return over
    where = f" ({', '.join(map(mask, about.machines))})" if about.machines else ""
    return (
        f"{over} What is measured in seconds or bytes ({listed(measured)}) holds for the machine that trained{where}."
    )


def _seeded(sweep: Sweep, rows: Sequence[Row], verdicts: tuple[ClaimVerdict, ...]) -> tuple[ClaimVerdict, ...]:
    """The verdicts, but none where every seed gives the same number: such seeds are no repetitions.

    That is so for own code that does not use its seed, and where nothing in an arm depends on what varies.
    """
    why = "the code does not use its seed" if sweep.train else "nothing in them depends on what vary names"
    is_asked = sweep.train or sweep.vary != [*USUAL_SOURCES]
    found = []
    for each in verdicts:
        repeated = [arm for arm in by_arm(rows) if len(arm.by_seed) > 1]
        values = [{row.metrics.get(each.metric) for row in arm.by_seed.values()} for arm in repeated]
        if is_asked and values and all(len(arm) == 1 for arm in values):
            text = f"not judged: every arm has the same {each.metric} for every seed, so {why}"
            found.append(
                replace(each, verdict="inconclusive", finding=Finding.NOT_JUDGED, seeds_needed=None, reason=text)
            )
        else:
            found.append(each)
    return tuple(found)


def _withheld(judged: tuple[ClaimVerdict, ...], audits: Sequence[ClaimAudit]) -> tuple[ClaimVerdict, ...]:
    """The verdicts, but none where a confound that nobody accepted may explain the difference."""
    found = {audit.name: audit.withheld for audit in audits if audit.withheld}
    return tuple(confounded(each, found[each.name]) if each.name in found else each for each in judged)


def of_table(sweep: Sweep, table: ResultsTable, accepted: Sequence[str] = ()) -> Report:
    """Judge the claims of a sweep on results that others recorded. `accepted` names confounds that may stand.

    Raises SweepError for an accepted column that the table does not have.
    """
    for name in accepted:
        known = {**table.context.bare_names, **table.context.columns}
        if name not in known:
            raise SweepError(
                f"--accept-confounded {plainly(name)}: no such column; {hint(name, known, 'the table has')}"
            )
    audits = audit(sweep, table.rows, table.context, accepted, has_seeds=table.has_seeds)
    return of_rows(sweep, table.rows, progress.count(table.rows), About(reading=table.reading, audits=audits))


def _factorial_effects(sweep: Sweep, rows: Sequence[Row], metric: str) -> anova.FactorialEffects | None:
    """The analysis of variance, in the usual setting of `across`."""
    if sweep.across:
        usual = sweep.settings_across[0].items()
        found = [row for row in rows if usual <= row.params.items()]
        rows = [replace(row, params={name: row.params[name] for name in sweep.factors}) for row in found]
    return anova.table(rows, sweep.factors, metric)


def _reach(sweep: Sweep, judged: Sequence[ClaimVerdict]) -> Iterator[Reach]:
    """Each claim as written with its verdict in every setting."""
    if sweep.across:
        for place, claim in enumerate(sweep.claims):
            found = zip(sweep.settings_across, judged[place :: len(sweep.claims)], strict=True)
            settings = tuple(
                ReachSetting(claim=each.name, settings=setting, changes=changes(sweep, setting), verdict=each.verdict)
                for setting, each in found
            )
            yield Reach(name=claim.name, statement=claim.statement, settings=settings)


def of_records(
    plan: Plan, entries: Mapping[str, RecordedTrial], registration: Registration, fingerprints: Fingerprints
) -> Report:
    """Judge recorded trials, which are given by their ids."""
    registered = Preregistration.model_validate(document(plan, registration))
    machines = sorted({entry.outcome.worker for entry in entries.values() if entry.outcome.worker})
    about = About(fingerprints, progress.again(plan, entries), registered, select(plan, entries), machines=machines)
    return of_rows(plan.sweep, progress.rows(plan, entries), progress.counts(plan, entries), about)


def of_raw(study: RawStudy, earlier: Sequence[Earlier], fingerprints: Fingerprints) -> Report:
    """Judge what lies in a ledger or a bundle; `earlier` says how records before it were begun."""
    attrs = {key: json.loads(value) for key, value in study.attrs.items()}
    content = attrs["content"]
    plan = make_plan(Sweep.model_validate(content["sweep"]), content["data_digest"], max_trials=10**9)
    registration = Registration(attrs["registered"], attrs["digest"], attrs.get("preregistration", {}), earlier)
    recorded = [recorded_trial(plan.sweep.workload, each.params, each.attrs) for each in study.trials]
    return of_records(plan, {entry.trial.id: entry for entry in recorded}, registration, fingerprints)
