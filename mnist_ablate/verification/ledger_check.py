"""Is the ledger what the plan asks for? Each planned trial has one final record; shares no code with the driver.

Which trials a tuning, a search, an adaptive sweep or an ablation path asks for is worked out here a second time.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

from mnist_ablate.ledger import preregistration
from mnist_ablate.ledger.raw_records import (
    FINAL,
    STATES,
    FinalRecord,
    RawStudy,
    RawTrial,
    content_problems,
    final_of,
    missing_parts,
)
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.pairing import by_arm
from mnist_ablate.statistics.verdict import decide
from mnist_ablate.sweep.plan import Plan, PlannedTrial, count, label, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Epoch, Params, Row, Scalar
from mnist_ablate.workloads.workload import selection_score

_RESTORE = "restore the ledger from a copy, or begin anew with --fresh"
Finals = Mapping[str, FinalRecord]  # the last record of each trial, by its id
Trials = Sequence[PlannedTrial]
Best = dict[str, Params] | None
"""The settings that were chosen for each arm, by its label; None before the choice is made."""


class CheckedLedger:
    """The latest study of a sweep, read strictly. `problems` is complete once the object is made."""

    def __init__(self, studies: Sequence[RawStudy]) -> None:
        study = studies[-1]
        content = json.loads(study.attrs["content"])
        self.sweep = Sweep.model_validate(content["sweep"])
        self.plan = make_plan(self.sweep, content["data_digest"], max_trials=10**9)
        self.runs_digest = self.sweep.digest_with(content["data_digest"])
        self.earlier_digests = {digest for each in studies[:-1] if (digest := _runs_digest(each))}
        self.finals: dict[str, FinalRecord] = {}
        self.rows: list[Row] = []
        self.missing = 0
        self._history: list[FinalRecord] = []
        self.problems = [
            *_unfinished(studies),
            *self._registration_problems(study),
            *self._record_problems(study.trials),
            *self._plan_problems(),
        ]

    def _registration_problems(self, study: RawStudy) -> Iterator[str]:
        if json.loads(study.attrs.get("digest", '""')) != self.sweep.digest:
            yield f"ledger: {study.name}: its digest does not match the sweep it holds: {_RESTORE}"
        told, now = json.loads(study.attrs.get("preregistration", "{}")), preregistration.digests(self.plan)
        changed = " and ".join(part for part in now if told.get(part) != now[part])
        if told and changed:  # older versions wrote none
            yield f"ledger: {study.name}: {changed} not as it was registered before the first trial: {_RESTORE}"

    def _record_problems(self, trials: Sequence[RawTrial]) -> Iterator[str]:
        if len({trial.number for trial in trials}) != len(trials):
            yield f"ledger: two records have one number: {_RESTORE}"
        result_of: dict[str, int] = {}
        for trial in trials:
            where = f"ledger: record {trial.number}"
            if missing := missing_parts(trial):
                yield f"{where} is incomplete, it lacks {', '.join(missing)}: {_RESTORE}"
                continue
            final = final_of(trial, self.sweep.workload)
            id_ = final.trial_id
            for text in content_problems(trial, final, self.sweep.workload):
                yield f"{where} (trial {id_}) {text}: {_RESTORE}"
            if id_ in result_of:
                yield f"{where}: trial {id_} had its result in record {result_of[id_]} already: {_RESTORE}"
            if final.outcome["status"] in FINAL:
                result_of.setdefault(id_, trial.number)
            self.finals[id_] = final
            self._history.append(final)

    def _plan_problems(self) -> Iterator[str]:
        choosing, judged, others = asked_for(self.plan, self.finals)
        size = self.plan.size
        if self.sweep.looks:  # what was asked for so far
            size = max(count(self.sweep, self.sweep.min_seeds), self.plan.tuning_size + len(judged) + len(others))
        self.missing = size - sum(each.id in self.finals for each in (*choosing, *judged, *others))
        if self.missing:
            yield f"ledger: {self.missing} of {size} planned trials are not recorded: run the sweep again"
        self.rows = _rows(self.sweep, judged, self.finals)
        yield from self._misplaced(_places(choosing, judged, others))

    def _misplaced(self, places: set[tuple[str, str, str]]) -> Iterator[str]:
        """What is recorded and was never planned, or is in another stage or arm than planned."""
        own = [(final.trial_id, final.stage, _key(final.arm)) for final in self.finals.values()]
        earlier: dict[str, FinalRecord] = {}
        for final in self._history:
            if final.trial_id in earlier and not places.issuperset(own):
                places |= _places(*asked_for(self.plan, earlier))  # before it was run again the plan asked for others
            earlier[final.trial_id] = final
        stages: defaultdict[str, set[str]] = defaultdict(set)  # a trial may be in two arms, or written as it was tuned
        for id_, stage, _ in places:
            stages[id_].add(stage)
        for id_, stage, arm in own:
            if (id_, stage, arm) not in places:
                what = "but was not planned"
                if planned := stages.get(id_):
                    what = "in another arm than planned" if stage in planned else f"as {stage}, not as planned"
                yield f"ledger: trial {id_} is recorded {what}: {_RESTORE}"


def asked_for(plan: Plan, finals: Finals) -> tuple[Trials, Trials, Trials]:
    """Which trials the plan asks for, as far as the records decide it.

    Those that choose settings, those of the verdicts, and those of the control and of the recipe as written.
    """
    choose = {"search": _searched, "ablation_path": _followed_path}.get(plan.sweep.design, _tuned)
    choosing, best = choose(plan, finals)
    judged: Trials = () if best is None else wanted(plan, plan.verdict_trials(best), finals)
    repeats = sum(each.arm == plan.control_arm for each in judged)
    control = plan.control_trials(best)[:repeats]
    return choosing, judged, [*control, *wanted(plan, plan.as_written_trials(), finals)]


def _tuned(plan: Plan, finals: Finals) -> tuple[Trials, Best]:
    """For each arm the point with the highest validation accuracy, the first of equals."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for planned in plan.tuning:  # all arms at the first point, then at the next
        if planned.id not in finals:
            return plan.tuning, None
        scores[label(planned.arm.params)].append(_score(plan, finals[planned.id]))
    return plan.tuning, {arm: plan.points[found.index(max(found))] for arm, found in scores.items()}


def _searched(plan: Plan, finals: Finals) -> tuple[Trials, Best]:
    """What was tried of the space of a search, and the best of it once enough was tried, the first of equals."""
    space, tried = plan.sweep.space, dict[str, PlannedTrial]()
    for final in finals.values():
        own = {name: final.settings[name] for name in space if plan.sweep.is_active(name, final.settings)}
        if all(_holds(space[name], value) for name, value in own.items()):
            planned = plan.searched(own)
            tried |= {planned.id: planned} if planned.id in finals else {}
    scored = [finals[id_] for id_ in tried if finals[id_].outcome["metrics"]]
    if len(tried) < plan.sweep.tuning_trials or not scored:
        return [*tried.values()], None
    settings = max(scored, key=lambda final: _score(plan, final)).settings
    return [*tried.values()], {label(plan.arms[-1].params): {name: settings[name] for name in space}}


def _holds(choice: Any, value: Any) -> bool:
    return value in choice if isinstance(choice, list) else bool(choice.low <= value <= choice.high)


def _followed_path(plan: Plan, finals: Finals) -> tuple[Trials, Best]:
    """The trials that choose the steps of an ablation path, and each arm's settings once the path is whole."""
    asked, best = list[PlannedTrial](), dict[str, Params]()
    here, left = dict(plan.sweep.baseline), [*plan.sweep.changes.items()]
    for step, arm in enumerate(plan.arms[1:]):
        tried = [plan.changed({**here, name: value}, step) for name, value in left] if len(left) > 1 else []
        asked += [each for planned in tried for each in planned]
        if any(each.id not in finals for each in asked):
            return asked, None
        means = [fmean(_score(plan, finals[each.id]) for each in planned) for planned in tried] or [0.0]
        name, value = left.pop(means.index(max(means)))
        here[name] = value
        best[label(arm.params)] = dict(here)
    return asked, best


def wanted(plan: Plan, trials: Trials, finals: Finals) -> Trials:
    """Of the trials with every seed those that were to be run so far; all if the sweep is not adaptive."""
    claims, taken = plan.sweep.every_claim, list[PlannedTrial]()
    running, earlier = {_key(arm.params) for arm in plan.arms}, 0
    for look in plan.sweep.looks:
        seeds = range(earlier, look.seeds or 0)
        taken += [each for each in trials if each.trial.seed in seeds and _key(each.arm.params) in running]
        if any(each.id not in finals for each in taken):
            break
        rows = _rows(plan.sweep, taken, finals)
        verdicts = decide(rows, claims, plan.sweep.looks[: look.number])
        open_ = [
            claim for claim, found in zip(claims, verdicts, strict=True) if found.is_open and found.look == look.number
        ]
        sides = [side for claim in open_ for _, side in kind_of(claim).sides(by_arm(rows), claim)]
        running, earlier = {_key(arm.params) for side in sides for arm in side}, seeds.stop
    return taken if plan.sweep.looks else trials


def _rows(sweep: Sweep, trials: Trials, finals: Finals) -> list[Row]:
    found = [(each, finals[each.id].outcome) for each in trials if each.id in finals]
    curves = trials and any(kind_of(claim).reads_curves for claim in sweep.claims)
    return [
        Row(
            each.arm.params,
            each.trial.seed,
            o["metrics"],
            o["status"],
            o.get("correct", ""),
            [Epoch.model_validate(epoch) for epoch in o["epochs"]] if curves else (),
        )
        for each, o in found
    ]


def _runs_digest(study: RawStudy) -> str:
    """What the runs of an earlier record are found by in MLflow; nothing if this version cannot read its content."""
    with suppress(ValueError, KeyError):
        content = json.loads(study.attrs["content"])
        return Sweep.model_validate(content["sweep"]).digest_with(content["data_digest"])
    return ""


def _unfinished(studies: Sequence[RawStudy]) -> Iterator[str]:
    for study in studies:
        for trial in study.trials:
            if trial.state not in STATES.values():
                yield f"ledger: {study.name}: record {trial.number} is {trial.state}, not a final state: {_RESTORE}"


def _places(*asked: Trials) -> set[tuple[str, str, str]]:
    """Id, stage and arm of each trial; one can have several places in a plan."""
    return {(each.id, each.stage, _key(each.arm.params)) for trials in asked for each in trials}


def _key(params: Mapping[str, Scalar]) -> str:
    return json.dumps(params, sort_keys=True)


def _score(plan: Plan, final: FinalRecord) -> float:
    return selection_score(plan.sweep.workload, final.outcome["metrics"])
