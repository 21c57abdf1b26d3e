"""What the recorded trials mean for a plan: tuned values, rows of the verdicts, the winner, what comes next.

They follow from the plan and the records alone, so after a crash the same trials are wanted. Reads no storage.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from mnist_ablate.ledger.ablation_path import walk
from mnist_ablate.statistics.controls import ControlRuns
from mnist_ablate.statistics.pairing import ArmRows, Factors, by_arm, compared
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.adaptive_schedule import Look
from mnist_ablate.sweep.plan import Plan, PlannedTrial, label
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import CONTROL_SEED, COUNTED, Params, RecordedTrial, Row, Scalar
from mnist_ablate.workloads.workload import default_workload

_UNTUNED = -2.0
_NO_SCORE = -1.0
CHOSEN_BY = default_workload().selection_metric
Round = tuple[PlannedTrial, ...]
Arms = Sequence[Mapping[str, Scalar]]
Entries = Mapping[str, RecordedTrial]
"""Recorded trials by their ids."""


def tuned(plan: Plan, entries: Entries) -> dict[str, Params] | None:
    """Each arm's best nuisance values by validation accuracy, the first of equals; None before all are tried."""
    if plan.sweep.design == "search":
        return _best_of_search(plan, entries)
    if plan.sweep.design == "ablation_path":
        return _path_settings(plan, entries)
    best: dict[str, Params] = {}
    scores: dict[str, float] = {}
    points = [point for point in plan.points for _ in plan.arms]
    for planned, point in zip(plan.tuning, points, strict=True):
        entry, arm = entries.get(planned.id), label(planned.arm.params)
        if entry is None:
            return None
        score = entry.outcome.metrics.get(CHOSEN_BY, _NO_SCORE)
        if score > scores.get(arm, _UNTUNED):
            best[arm], scores[arm] = point, score
    return best


def _best_of_search(plan: Plan, entries: Entries) -> dict[str, Params] | None:
    """The settings of the best trial of a search; None before all are tried, or if none of them completed."""
    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    scored = [entry for entry in tried if CHOSEN_BY in entry.outcome.metrics]
    if len(tried) < plan.sweep.tuning_trials or not scored:
        return None
    settings = max(scored, key=lambda entry: entry.outcome.metrics[CHOSEN_BY]).trial.settings
    searched = (*plan.sweep.scientific, *plan.sweep.nuisance)
    return {label(plan.arms[-1].params): {name: settings[name] for name in searched}}


def _path_settings(plan: Plan, entries: Entries) -> dict[str, Params] | None:
    """The settings of each arm along an ablation path; None before it is known to its end."""
    walked = walk(plan, entries)
    if not walked.ends(plan):
        return None
    return {label(arm.params): step.settings for arm, step in zip(plan.arms[1:], walked.steps, strict=True)}


def verdict_trials(plan: Plan, entries: Entries) -> tuple[PlannedTrial, ...]:
    """The trials of the verdicts, in an adaptive sweep those wanted so far; none before the tuning is complete."""
    best = tuned(plan, entries)
    return () if best is None else _wanted(plan, plan.verdict_trials(best), entries)


def as_written_trials(plan: Plan, entries: Entries) -> tuple[PlannedTrial, ...]:
    """The trials of the verdicts on the recipe as written; their claims are open or decided by themselves."""
    return _wanted(plan, plan.as_written_trials(), entries)


def _wanted(plan: Plan, trials: tuple[PlannedTrial, ...], entries: Entries) -> tuple[PlannedTrial, ...]:
    """Of an adaptive sweep's trials those whose seeds are wanted by what is recorded of them."""
    sweep = plan.sweep
    if not sweep.looks or not trials:
        return trials
    arms = [arm.params for arm in plan.arms]
    found = seeds_wanted(arms, _rows(plan, trials, entries), sweep.claims, sweep.looks)
    seeds = dict(zip(map(label, arms), found, strict=True))
    return tuple(each for each in trials if each.trial.seed < seeds[label(each.arm.params)])


def control_trials(plan: Plan, entries: Entries) -> tuple[PlannedTrial, ...]:
    """The trials of the negative control, as many as its arm has; none before the tuning is complete."""
    best = tuned(plan, entries)
    if best is None or not plan.sweep.has_negative_control:
        return ()
    seeds = sum(each.arm == plan.control_arm for each in verdict_trials(plan, entries))
    return plan.control_trials(best)[:seeds]


def again(plan: Plan, entries: Entries) -> ControlRuns | None:
    """What is recorded of the negative control; None if the sweep has none."""
    if not plan.sweep.has_negative_control:
        return None
    wanted = control_trials(plan, entries)
    found = [each.trial for each in wanted if each.id in entries]
    outcomes = [(trial.seed - CONTROL_SEED, entries[trial.id].outcome) for trial in found]
    params = plan.control_arm.params
    rows_ = tuple(Row(params, seed, outcome.metrics, outcome.status) for seed, outcome in outcomes)
    return ControlRuns(params, len(wanted) or plan.sweep.min_seeds, rows_)


def as_written(plan: Plan, entries: Entries) -> tuple[Row, ...]:
    """What the verdicts on the recipe as written read, as `rows`; none if the sweep does not ask for them."""
    return _rows(plan, as_written_trials(plan, entries), entries)


def rows(plan: Plan, entries: Entries) -> tuple[Row, ...]:
    """What the verdicts read: the recorded trials of the verdict stage, in the order of arms, then seeds.

    Trials at values that a repeated tuning gave up are not among them.
    """
    return _rows(plan, verdict_trials(plan, entries), entries)


def _rows(plan: Plan, trials: Iterable[PlannedTrial], entries: Entries) -> tuple[Row, ...]:
    places = {label(arm.params): place for place, arm in enumerate(plan.arms)}
    found = [each for each in trials if each.id in entries]
    found.sort(key=lambda each: (places[label(each.arm.params)], each.trial.seed))
    outcomes = [(each, entries[each.id].outcome) for each in found]
    return tuple(Row(each.arm.params, each.trial.seed, o.metrics, o.status) for each, o in outcomes)


def counts(plan: Plan, entries: Entries) -> dict[str, int]:
    """The trials of the verdicts: planned, by status, and `saved`, those that an adaptive sweep did not need."""
    return _counted(plan, verdict_trials(plan, entries), entries)


def as_written_counts(plan: Plan, entries: Entries) -> dict[str, int]:
    """The same of the recipe as written."""
    return _counted(plan, as_written_trials(plan, entries), entries)


def _counted(plan: Plan, trials: tuple[PlannedTrial, ...], entries: Entries) -> dict[str, int]:
    planned = len(plan.arms) * plan.sweep.max_seeds
    over = trials and all(each.id in entries for each in trials)
    saved = {"saved": planned - len(trials) if over else 0} if plan.sweep.looks else {}
    return {**count(_rows(plan, trials, entries), planned), **saved}


def done(plan: Plan, entries: Entries) -> int:
    """How many of the plan's trials are recorded, tuning included."""
    tuned_already = sum(entry.stage == "tuning" for entry in entries.values())
    if plan.sweep.design == "ablation_path":  # a choice made again gives up what followed from the first
        tuned_already = sum(each.id in entries for each in walk(plan, entries).trials)
    trials = (
        *verdict_trials(plan, entries),
        *control_trials(plan, entries),
        *as_written_trials(plan, entries),
    )
    return tuned_already + sum(each.id in entries for each in trials)


def count(rows: Sequence[Row], planned: int | None = None) -> dict[str, int]:
    """Trials planned (all rows, unless told) and by status, each status named."""
    by_status = Counter(row.status for row in rows)
    return {
        "planned": len(rows) if planned is None else planned,
        **{status: by_status[status] for status in COUNTED},
    }


def winner(plan: Plan, entries: Entries) -> RecordedTrial | None:
    """The trial to keep of a finished sweep: the first seed of its best arm.

    That is the arm of what a search found, else the arm with the highest mean validation accuracy, the first of equals.
    None while a trial is missing, or where no arm completed every seed.
    """
    arms: defaultdict[str, list[RecordedTrial]] = defaultdict(list)
    for planned in verdict_trials(plan, entries):
        if planned.trial.id not in entries:
            return None
        arms[label(planned.arm.params)].append(entries[planned.trial.id])
    found = label(plan.arms[-1].params) if plan.sweep.design == "search" else None
    whole = [
        arm
        for name, arm in arms.items()
        if found in {None, name} and all(entry.outcome.status == "complete" for entry in arm)
    ]
    return (
        max(whole, key=lambda arm: fmean(entry.outcome.metrics.get(CHOSEN_BY, 0.0) for entry in arm))[0]
        if whole
        else None
    )


def due(plan: Plan, entries: Entries) -> Round:
    """The unrecorded trials, each once, of the first round that lacks any; none when nothing is left to run.

    What a search will try is not among them: that is decided trial by trial (`search`).
    """
    for found in rounds(plan, entries):
        missing = {each.id: each for each in found if each.id not in entries}
        if missing:
            return tuple(missing.values())
    return ()


def rounds(plan: Plan, entries: Entries) -> Iterator[Round]:
    """The trials that are known to be wanted, those to be done first in a round of their own.

    When all are recorded, another call may know of more: in an adaptive sweep those of claims that are still open.
    """
    tuning = walk(plan, entries).trials if plan.sweep.design == "ablation_path" else plan.tuning
    if tuning:
        yield tuning
    judged = verdict_trials(plan, entries) + control_trials(plan, entries)
    if judged:
        yield judged + as_written_trials(plan, entries)


def seeds_wanted(arms: Arms, rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]) -> list[int]:
    """The number of seeds, 0 to it less 1, of each arm: those of the looks so far, and of the next where one is due.

    A look is over when every trial that it wants has a row, failed or not. What a claim at hand has decided, no
    later row changes; so after a crash the same seeds are wanted.
    """
    keys = [frozenset(arm.items()) for arm in arms]
    wanted = dict.fromkeys(keys, _seeds(looks[0]))
    recorded = by_arm(rows)
    for look, following in pairwise(looks):
        if not _is_over(recorded, wanted):
            break
        for arm in _undecided(recorded, rows, claims, looks[: look.number]):
            wanted[arm] = _seeds(following)
    return [wanted[key] for key in keys]


def _seeds(look: Look) -> int:
    assert look.seeds is not None, "an adaptive sweep counts its seeds"
    return look.seeds


def _is_over(recorded: Sequence[ArmRows], wanted: Mapping[Factors, int]) -> bool:
    found = {frozenset(arm.params.items()): arm.by_seed for arm in recorded}
    return all(seed in found.get(arm, {}) for arm, seeds in wanted.items() for seed in range(seeds))


def _undecided(
    recorded: Sequence[ArmRows], rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]
) -> set[Factors]:
    """The arms of the claims that need another look; a claim that cannot be judged at all does not."""
    verdicts = judge(rows, claims, looks=looks)
    last = looks[-1].number
    judged = zip(claims, verdicts, strict=True)
    open_ = [claim for claim, verdict in judged if verdict.is_open and verdict.look == last]
    sides = [side for claim in open_ for _, side in compared(recorded, claim)[0]]
    return {frozenset(arm.params.items()) for side in sides for arm in side}
