"""What the recorded trials mean for a plan: tuned values, ablation path, rows, the winner, what comes next.

They follow from the plan and the records alone, so after a crash the same trials are wanted. Reads no storage.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.controls import ControlRuns
from mnist_ablate.statistics.pairing import ArmRows, Factors, by_arm
from mnist_ablate.statistics.verdict import decide
from mnist_ablate.sweep.adaptive_schedule import Look
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.plan import Plan, PlannedTrial, label
from mnist_ablate.trial import CONTROL_SEED, COUNTED, Params, RecordedTrial, Row, Scalar
from mnist_ablate.workloads.workload import selection_score

Trials = tuple[PlannedTrial, ...]
Entries = Mapping[str, RecordedTrial]  # recorded trials by their ids


def tuned(plan: Plan, entries: Entries) -> dict[str, Params] | None:
    """Each arm's best settings by validation accuracy, the first of equals; None before that is known.

    That is when all points are tried, when a search has tried all of its trials and one completed, or at the end of an
    ablation path.
    """
    if plan.sweep.design == "search":
        return _best_of_search(plan, entries)
    if plan.sweep.design == "ablation_path":
        (steps, _), arms = walk(plan, entries), plan.arms[1:]
        if len(steps) < len(arms):
            return None
        return {label(arm.params): step.settings for arm, step in zip(arms, steps, strict=True)}
    if any(each.id not in entries for each in plan.tuning):
        return None
    scores = [
        selection_score(plan.sweep.workload, entries[each.id].outcome.metrics) for each in plan.tuning
    ]  # all arms at the first point, then at the next
    best: dict[str, Params] = {}
    for place, arm in enumerate(plan.arms if scores else ()):
        own = scores[place :: len(plan.arms)]
        best[label(arm.params)] = plan.points[own.index(max(own))]
    return best


def _best_of_search(plan: Plan, entries: Entries) -> dict[str, Params] | None:
    tried = [entry for entry in entries.values() if entry.stage == "tuning"]
    workload = plan.sweep.workload
    scored = [entry for entry in tried if workload.selection_metric in entry.outcome.metrics]
    if len(tried) < plan.sweep.tuning_trials or not scored:
        return None
    settings, names = (
        max(scored, key=lambda entry: selection_score(workload, entry.outcome.metrics)).trial.settings,
        (*plan.sweep.scientific, *plan.sweep.nuisance),
    )
    return {label(plan.arms[-1].params): {name: settings[name] for name in names}}


@dataclass(frozen=True)
class Step:
    """A change that was made: `settings` after it; `scores` of all that were tried then, none for the last one."""

    factor: str
    settings: Params
    scores: Mapping[str, float]


def walk(plan: Plan, entries: Entries) -> tuple[list[Step], Trials]:
    """The steps of an ablation path that the records decide so far, and all trials of choosing that are known.

    As Fawcett and Hoos ("Analysing differences between algorithm configurations through ablation", 2016), by training
    every candidate at every seed: each round trains every change that is left, and the best one stays. Rounds choose by
    mean validation accuracy on seeds that no verdict uses, and the arms along the path are confirmed on the verdicts'
    seeds: what a step gains is not told by the luck that chose it. Of equally good changes the first in `target` is
    made. The last one is not chosen, so it is not tried.
    """
    steps: list[Step] = []
    trials: list[PlannedTrial] = []
    left, settings = dict(plan.sweep.changes), dict(plan.sweep.baseline)
    while left:
        scores: dict[str, float] = {}
        if len(left) > 1:
            tried = {name: plan.changed({**settings, name: value}, len(steps)) for name, value in left.items()}
            found = [each for planned in tried.values() for each in planned]
            trials += found
            if any(each.id not in entries for each in found):
                break
            scores = {
                name: fmean(selection_score(plan.sweep.workload, entries[each.id].outcome.metrics) for each in planned)
                for name, planned in tried.items()
            }
        factor = max(left, key=lambda name: scores.get(name, 0.0))
        settings[factor] = left.pop(factor)
        steps.append(Step(factor, dict(settings), scores))
    return steps, tuple(trials)


def verdict_trials(plan: Plan, entries: Entries) -> Trials:
    """The trials of the verdicts, in an adaptive sweep those wanted so far; none before the tuning is complete."""
    best = tuned(plan, entries)
    return () if best is None else _wanted(plan, plan.verdict_trials(best), entries)


def as_written_trials(plan: Plan, entries: Entries) -> Trials:
    """The trials of the verdicts on the recipe as written; their claims are open or decided by themselves."""
    return _wanted(plan, plan.as_written_trials(), entries)


def control_trials(plan: Plan, entries: Entries) -> Trials:
    """The trials of the negative control, as many as its arm has; none before the tuning is complete."""
    best = tuned(plan, entries)
    if best is None or not plan.sweep.control_seeds:
        return ()
    seeds = sum(each.arm == plan.control_arm for each in verdict_trials(plan, entries))
    return plan.control_trials(best)[:seeds]


def _wanted(plan: Plan, trials: Trials, entries: Entries) -> Trials:
    """Of an adaptive sweep's trials those whose seeds are wanted by what is recorded of them."""
    sweep = plan.sweep
    if not sweep.looks or not trials:
        return trials
    arms = [arm.params for arm in plan.arms]
    found = seeds_wanted(arms, rows(plan, entries, trials), sweep.every_claim, sweep.looks)
    seeds = dict(zip(map(label, arms), found, strict=True))
    return tuple(each for each in trials if each.trial.seed < seeds[label(each.arm.params)])


def again(plan: Plan, entries: Entries) -> ControlRuns | None:
    """What is recorded of the negative control; None if the sweep has none."""
    if not plan.sweep.control_seeds:
        return None
    wanted = control_trials(plan, entries)
    found = tuple(replace(row, seed=row.seed - CONTROL_SEED) for row in rows(plan, entries, wanted))
    return ControlRuns(plan.control_arm.params, len(wanted) or plan.sweep.min_seeds, found)


def rows(plan: Plan, entries: Entries, trials: Trials | None = None) -> tuple[Row, ...]:
    """What verdicts read: the recorded ones of `trials`, else of `verdict_trials`, in the order of arms, then seeds.

    Trials at values that a repeated tuning gave up are not among them.
    """
    places = {label(arm.params): place for place, arm in enumerate(plan.arms)}
    wanted = verdict_trials(plan, entries) if trials is None else trials
    found = [(each, entries[each.id].outcome) for each in wanted if each.id in entries]
    found.sort(key=lambda each: places[label(each[0].arm.params)])
    return tuple(Row(each.arm.params, each.trial.seed, o.metrics, o.status, o.correct, o.epochs) for each, o in found)


def counts(plan: Plan, entries: Entries, trials: Trials | None = None) -> dict[str, int]:
    """Of the same trials: planned, by status, and `saved`, those that an adaptive sweep did not need."""
    wanted = verdict_trials(plan, entries) if trials is None else trials
    planned = len(plan.arms) * plan.sweep.max_seeds
    found = {**count(rows(plan, entries, wanted)), "planned": planned}
    if plan.sweep.looks:
        over = wanted and all(each.id in entries for each in wanted)
        found["saved"] = planned - len(wanted) if over else 0
    return found


def count(rows: Sequence[Row]) -> dict[str, int]:
    """How many there are, as `planned`, and by status, each status named."""
    by_status = Counter(row.status for row in rows)
    return {"planned": len(rows), **{status: by_status[status] for status in COUNTED}}


def done(plan: Plan, entries: Entries) -> int:
    """How many of the plan's trials are recorded, tuning included."""
    judged = (*verdict_trials(plan, entries), *control_trials(plan, entries), *as_written_trials(plan, entries))
    if plan.sweep.design == "ablation_path":  # a choice made again gives up what followed from the first
        return sum(each.id in entries for each in (*walk(plan, entries)[1], *judged))
    return sum(entry.stage == "tuning" for entry in entries.values()) + sum(each.id in entries for each in judged)


def winner(plan: Plan, entries: Entries) -> RecordedTrial | None:
    """The trial to keep of a finished sweep: the first seed of its best arm.

    That is the arm of what a search found, else the arm with the highest mean validation accuracy, the first of equals.
    None while a trial is missing, or where no arm completed every seed.
    """
    arms: defaultdict[str, list[RecordedTrial]] = defaultdict(list)
    for planned in verdict_trials(plan, entries):
        if planned.id not in entries:
            return None
        arms[label(planned.arm.params)].append(entries[planned.id])
    found = label(plan.arms[-1].params) if plan.sweep.design == "search" else None
    whole = [
        arm
        for name, arm in arms.items()
        if found in {None, name} and all(entry.outcome.status == "complete" for entry in arm)
    ]
    workload = plan.sweep.workload
    best = max(
        whole, key=lambda arm: fmean(selection_score(workload, entry.outcome.metrics) for entry in arm), default=None
    )
    return best[0] if best else None


def due(plan: Plan, entries: Entries) -> Trials:
    """The unrecorded trials, each once, of the first round that lacks any; none when nothing is left to run.

    What chooses is a round of its own, before what is judged. When all of an adaptive sweep's trials are recorded,
    those of claims that are still open are due. What a search will try is decided trial by trial (`search`).
    """
    chosen_by = walk(plan, entries)[1] if plan.sweep.design == "ablation_path" else plan.tuning
    judged = verdict_trials(plan, entries) + control_trials(plan, entries)
    for found in (chosen_by, judged + as_written_trials(plan, entries) if judged else ()):
        if missing := {each.id: each for each in found if each.id not in entries}:
            return tuple(sorted(missing.values(), key=_claim_order(plan)))
    return ()


def awaited(plan: Plan, due: Iterable[PlannedTrial]) -> dict[str, set[str]]:
    """By claim of an adaptive sweep the ids of the trials of this round that it needs."""
    judged = [each for each in due if each.stage == "verdict"]
    arms = _arms_of_claims(plan)
    return {name: {each.id for each in judged if label(each.arm.params) in own} for name, own in arms.items()}


def _claim_order(plan: Plan) -> Callable[[PlannedTrial], int]:
    """In an adaptive sweep, the place of the first claim that a trial decides: so claims are decided one by one.

    Next is always the claim that needs the fewest arms besides those of the claims before it, the first of equals.
    """
    order, left = dict[str, int](), [*_arms_of_claims(plan).values()]
    while left:
        nearest = min(left, key=lambda own: len(own - order.keys()))
        left.remove(nearest)
        order |= dict.fromkeys(nearest - order.keys(), len(order))
    return lambda each: order.get(label(each.arm.params), len(order)) if each.stage == "verdict" else len(order)


def _arms_of_claims(plan: Plan) -> dict[str, set[str]]:
    """The labels of the arms that each claim of an adaptive sweep compares; of another sweep nothing."""
    arms, claims = [ArmRows(arm.params, {}) for arm in plan.arms], plan.sweep.every_claim if plan.sweep.looks else ()
    return {
        each.name: {label(arm.params) for _, own in kind_of(each).sides(arms, each) for arm in own} for each in claims
    }


def seeds_wanted(
    arms: Sequence[Mapping[str, Scalar]], rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]
) -> list[int]:
    """The number of seeds, 0 to it less 1, of each arm: those of the looks so far, and of the next where one is due.

    A look is over when every trial that it wants has a row, failed or not. What a claim at hand has decided, no
    later row changes; so after a crash the same seeds are wanted.
    """
    keys = [frozenset(arm.items()) for arm in arms]
    wanted = dict.fromkeys(keys, looks[0].seeds or 0)
    recorded = by_arm(rows)
    found = {frozenset(arm.params.items()): arm.by_seed for arm in recorded}
    for look, following in pairwise(looks):
        if not all(seed in found.get(arm, {}) for arm, seeds in wanted.items() for seed in range(seeds)):
            break
        wanted |= dict.fromkeys(_undecided(recorded, rows, claims, looks[: look.number]), following.seeds or 0)
    return [wanted[key] for key in keys]


def _undecided(
    recorded: Sequence[ArmRows], rows: Sequence[Row], claims: Sequence[Claim], looks: Sequence[Look]
) -> Iterator[Factors]:
    """The arms of the claims that need another look; a claim that cannot be judged at all does not."""
    for claim, found in zip(claims, decide(rows, claims, looks), strict=True):
        if found.is_open and found.look == looks[-1].number:
            for _, side in kind_of(claim).sides(recorded, claim):
                yield from (frozenset(arm.params.items()) for arm in side)
