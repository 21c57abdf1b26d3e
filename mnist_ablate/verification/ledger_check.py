"""Is the ledger what the plan asks for? Each planned trial has one final record; shares no code with the driver.

Which trials a tuning, a search, an adaptive sweep or an ablation path asks for is worked out here a second time.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mnist_ablate.ledger.raw_records import (
    FINAL,
    STATES,
    FinalRecord,
    RawStudy,
    RawTrial,
    content_id,
    content_problems,
    final_of,
    missing_parts,
)
from mnist_ablate.statistics.verdict import ALPHA, judge
from mnist_ablate.sweep.adaptive_schedule import SPENDING
from mnist_ablate.sweep.plan import Plan, PlannedTrial, control_count, count, make_plan
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Params, Row, Scalar, Trial
from mnist_ablate.workloads.workload import default_workload

_RUN_AGAIN = "run the sweep again"
_RESTORE = "restore the ledger from a copy, or begin anew with --fresh"
_ANY_SIZE = 10**9
Place = tuple[str, str, str]
"""A trial's id, its stage, its arm."""
Best = dict[str, Params] | None
"""The values that were chosen for each arm, by the words for the arm; None before the choice is made."""


class CheckedLedger:
    """The latest study of a sweep, read strictly. `problems` is complete once the object is made."""

    def __init__(self, studies: Sequence[RawStudy]) -> None:
        study = studies[-1]
        content = json.loads(study.attrs["content"])
        self.sweep = Sweep.model_validate(content["sweep"])
        self.plan = make_plan(self.sweep, content["data_digest"], max_trials=_ANY_SIZE)
        self.finals: dict[str, FinalRecord] = {}
        self.rows: list[Row] = []
        self.missing = 0
        self._stages_run_again: set[str] = set()
        self.problems = [*_unfinished(studies), *self._registration_problems(study)]
        self.problems += [*self._record_problems(study.trials)]
        self.problems += [*self._plan_problems()]

    def _registration_problems(self, study: RawStudy) -> Iterator[str]:
        if json.loads(study.attrs.get("digest", '""')) != self.sweep.digest:
            yield f"ledger: {study.name}: its digest does not match the sweep it holds: {_RESTORE}"
        told = json.loads(study.attrs.get("preregistration", "{}"))  # older versions wrote none
        changed = [part for part, value in _parts(self.plan).items() if told and told.get(part) != value]
        if changed:
            what = " and ".join(changed)
            yield f"ledger: {study.name}: {what} not as it was registered before the first trial: {_RESTORE}"

    def _record_problems(self, trials: Sequence[RawTrial]) -> Iterator[str]:
        if len({trial.number for trial in trials}) != len(trials):
            yield f"ledger: two records have one number: {_RESTORE}"
        result_of: dict[str, int] = {}
        for trial in trials:
            where = f"ledger: record {trial.number}"
            if missing := missing_parts(trial):
                yield f"{where} is incomplete, it lacks {', '.join(missing)}: {_RESTORE}"
                continue
            final = final_of(trial)
            for text in content_problems(trial, final):
                yield f"{where} (trial {final.trial_id}) {text}: {_RESTORE}"
            if final.trial_id in result_of:
                first = result_of[final.trial_id]
                yield f"{where}: trial {final.trial_id} had its result in record {first} already: {_RESTORE}"
            if final.outcome["status"] in FINAL:
                result_of.setdefault(final.trial_id, trial.number)
            if final.trial_id in self.finals:
                self._stages_run_again.add(final.stage)
            self.finals[final.trial_id] = final

    def _plan_problems(self) -> Iterator[str]:
        plan, expected = self.plan, ExpectedTrials(self.plan, self.finals)
        best = expected.best()
        judged = () if best is None else expected.wanted(plan.verdict_trials(best))
        controls = sum(each.arm == plan.control_arm for each in judged)
        others = () if best is None else plan.control_trials(best)[:controls]
        asked = [_place(each) for each in (*judged, *others, *expected.wanted(plan.as_written_trials()))]
        places = [*expected.tuning(), *asked]
        size = plan.size
        if self.sweep.looks:  # what was asked for so far
            size = max(count(self.sweep, self.sweep.min_seeds), plan.tuning_size + len(asked))
        self.missing = size - sum(id_ in self.finals for id_, _, _ in places)
        if self.missing:
            yield f"ledger: {self.missing} of {size} planned trials are not recorded: {_RUN_AGAIN}"
        if best is not None and self.sweep.looks and self._stages_run_again:
            # A look may have asked for them before a failed trial, run again, decided it.
            places += map(_place, (*plan.verdict_trials(best), *plan.control_trials(best), *plan.as_written_trials()))
        yield from self._misplaced({*places})
        for each in judged:
            if final := expected.final(each):
                metrics, status = final.outcome["metrics"], final.outcome["status"]
                self.rows.append(Row(dict(each.arm.params), final.seed, metrics, status))

    def _misplaced(self, places: set[Place]) -> Iterator[str]:
        """What is recorded and was not planned, or is in another stage or arm than planned."""
        stages: defaultdict[str, set[str]] = defaultdict(set)  # a trial may be in two arms, or written as it was tuned
        for id_, stage, _ in places:
            stages[id_].add(stage)
        for id_, final in self.finals.items():
            if (id_, final.stage, _key(final.arm)) in places:
                continue
            if "tuning" in self._stages_run_again and _can_be_chosen(final, self.plan):
                continue  # it was planned until a tuning trial, run again, changed the choice
            what = "but was not planned"
            if id_ in stages:
                own = final.stage in stages[id_]
                what = "in another arm than planned" if own else f"as {final.stage}, not as planned"
            yield f"ledger: trial {id_} is recorded {what}: {_RESTORE}"


class ExpectedTrials:
    """Which trials the plan asks for, as far as the records decide it."""

    def __init__(self, plan: Plan, finals: Mapping[str, FinalRecord]) -> None:
        self._plan, self._sweep, self._finals = plan, plan.sweep, finals
        self._is_path = plan.sweep.design == "ablation_path"
        self._path = self._followed_path() if self._is_path else ([], None)

    def final(self, planned: PlannedTrial) -> FinalRecord | None:
        """The record of a planned trial, if there is one."""
        return self._finals.get(_id(planned.trial))

    def tuning(self) -> list[Place]:
        """The tuning trials; those of a search are what was tried of its space."""
        if self._sweep.design == "search":
            return [(tried.trial_id, "tuning", _key(self._plan.arms[-1].params)) for tried in self._tried()]
        return [_place(each) for each in (self._path[0] if self._is_path else self._plan.tuning)]

    def best(self) -> Best:
        """Each arm's settings with the highest validation accuracy, the first of equals; none if nothing is tuned."""
        plan = self._plan
        if self._sweep.design == "search":
            return self._found()
        if self._is_path:
            return self._path[1]
        scores: dict[str, list[float]] = {_words(arm.params): [] for arm in plan.arms if plan.points}
        for planned in plan.tuning:  # all arms at the first point, then at the next
            final = self.final(planned)
            if final is None:
                return None
            scores[_words(planned.arm.params)].append(_score(final))
        return {words: dict(plan.points[found.index(max(found))]) for words, found in scores.items()}

    def _tried(self) -> list[FinalRecord]:
        return [final for final in self._finals.values() if _in_space(final, self._plan)]

    def _found(self) -> Best:
        """The settings that a search found best, the first of equals; None before all are tried."""
        tried = self._tried()
        scored = [final for final in tried if final.outcome["metrics"]]
        if len(tried) < self._sweep.tuning_trials or not scored:
            return None
        settings = max(scored, key=_score).settings
        return {_words(self._plan.arms[-1].params): {name: settings[name] for name in self._sweep.space}}

    def _followed_path(self) -> tuple[list[PlannedTrial], Best]:
        """The trials that choose the steps of an ablation path, and each arm's settings once the path is whole."""
        plan, asked, best = self._plan, list[PlannedTrial](), dict[str, Params]()
        here = dict(plan.sweep.baseline)
        changes = [(name, value) for name, value in plan.sweep.target.items() if name in plan.sweep.changes]
        for number, arm in enumerate(plan.arms[1:]):
            chosen = 0
            if len(changes) > 1:
                tried = [plan.changed({**here, name: value}, number) for name, value in changes]
                asked += [each for planned in tried for each in planned]
                known = [[final for each in planned if (final := self.final(each))] for planned in tried]
                if [*map(len, known)] != [*map(len, tried)]:
                    return asked, None
                means = [fmean(map(_score, finals)) for finals in known]
                chosen = means.index(max(means))
            name, value = changes.pop(chosen)
            here[name] = value
            best[_words(arm.params)] = dict(here)
        return asked, best

    def wanted(self, trials: Sequence[PlannedTrial]) -> tuple[PlannedTrial, ...]:
        """Of the trials with every seed those that were to be run so far; all if the sweep is not adaptive."""
        sweep = self._sweep
        if not sweep.looks:
            return tuple(trials)
        arms = {_key(each.arm.params): each.arm.params for each in trials}
        taken: list[PlannedTrial] = []
        running, earlier = set(arms), 0
        for number, look in enumerate(sweep.looks, 1):
            size = look.seeds or 0
            taken += [each for each in trials if earlier <= each.trial.seed < size and _key(each.arm.params) in running]
            outcomes = [(each, final.outcome) for each in taken if (final := self.final(each))]
            if len(outcomes) < len(taken):
                break
            rows = [Row(each.arm.params, each.trial.seed, o["metrics"], o["status"]) for each, o in outcomes]
            verdicts = judge(rows, sweep.claims, looks=sweep.looks[:number])
            open_ = [
                claim
                for claim, found in zip(sweep.claims, verdicts, strict=True)
                if (found.look, found.verdict) == (number, "inconclusive") and found.is_judged
            ]
            running = {key for key, arm in arms.items() if any(_is_compared(arm, c, arms.values()) for c in open_)}
            earlier = size
        return tuple(taken)


def _is_compared(arm: Mapping[str, Scalar], claim: Claim, arms: Iterable[Mapping[str, Scalar]]) -> bool:
    """Whether it is on a side of a claim, and every side has an arm that differs from it only in what sides name."""
    contexts = [claim.where] if claim.versus is None else [claim.where, {**claim.where, **claim.versus}]
    values = [claim.treatment] if claim.control is None else [claim.treatment, claim.control]
    sides = [({**context, **value}).items() for context in contexts for value in values]
    named = {name for side in sides for name, _ in side}
    rest = {name: value for name, value in arm.items() if name not in named}.items()
    like = [other.items() for other in arms if rest <= other.items()]
    return any(side <= arm.items() for side in sides) and all(any(side <= other for other in like) for side in sides)


def _parts(plan: Plan) -> dict[str, str]:
    """The digests of what was to be written down before the first trial."""
    sweep = plan.sweep
    asked = sweep.model_dump(mode="json", include={"design", "scientific", "nuisance", "tuning_trials", "seeds"})
    trials = [*plan.tuning, *plan.verdict_trials(), *plan.control_trials()]
    asked |= sweep.model_dump(
        mode="json", include={"as_written", "conditions", "pruning", "target"}, exclude_defaults=True
    )
    asked["trials"] = [_id(each.trial) for each in trials]
    if sweep.looks:
        asked |= {"looks": [[look.seeds, look.share] for look in sweep.looks], "spending": SPENDING}
    content = {
        "question": sweep.question,
        "plan": asked,
        "claims": [_without_margin(claim) for claim in sweep.claims],
        "margins": [ALPHA, {claim.name: claim.margin for claim in sweep.claims}],
    }
    texts = {part: json.dumps(value, sort_keys=True) for part, value in content.items()}
    return {part: hashlib.sha256(text.encode()).hexdigest() for part, text in texts.items()}


def _without_margin(claim: Claim) -> dict[str, object]:
    told = claim.model_dump(mode="json", exclude={"margin"})
    return told if claim.positive_control else {key: told[key] for key in told if key != "positive_control"}


def _unfinished(studies: Sequence[RawStudy]) -> Iterator[str]:
    for study in studies:
        for trial in study.trials:
            if trial.state not in STATES.values():
                yield f"ledger: {study.name}: record {trial.number} is {trial.state}, not a final state: {_RESTORE}"


def _place(planned: PlannedTrial) -> Place:
    return _id(planned.trial), planned.stage, _key(planned.arm.params)


def _id(trial: Trial) -> str:
    return content_id(trial.settings, trial.seed, trial.data_digest)


def _words(params: Mapping[str, Scalar]) -> str:
    return " ".join(str(value) for value in params.values())


def _key(params: Mapping[str, Scalar]) -> str:
    return json.dumps(params, sort_keys=True)


def _score(final: FinalRecord) -> float:
    return float(final.outcome["metrics"].get(default_workload().selection_metric, -1.0))


def _in_space(final: FinalRecord, plan: Plan) -> bool:
    """Whether a trial is one that the search of this plan can have tried."""
    sweep, base = plan.sweep, plan.arms[-1].settings
    own = {
        name: final.settings[name]
        for name in sweep.space
        if all(final.settings[other] in values for other, values in sweep.conditions.get(name, {}).items())
    }
    fits = final.settings == {**base, **own} and all(_holds(sweep.space[name], value) for name, value in own.items())
    return fits and (final.stage, final.seed, final.data_digest) == ("tuning", TUNING_SEED, plan.data_digest)


def _holds(choice: Any, value: Any) -> bool:
    return value in choice if isinstance(choice, list) else bool(choice.low <= value <= choice.high)


def _can_be_chosen(final: FinalRecord, plan: Plan) -> bool:
    """Whether it is planned for something that tuning, or a path, can choose."""
    is_path = plan.sweep.design == "ablation_path"
    seeds = {
        "verdict": range(plan.sweep.max_seeds),
        "control": range(CONTROL_SEED, CONTROL_SEED + control_count(plan.sweep)),
        "tuning": range(TUNING_SEED, TUNING_SEED + (plan.sweep.min_seeds if is_path else 0)),  # else none changes
    }
    if final.seed not in seeds.get(final.stage, ()) or final.data_digest != plan.data_digest:
        return False
    if is_path:
        return _is_on_path(final, plan)
    arms = plan.arms if final.stage == "verdict" else (plan.control_arm,)
    tuned = (each for each in plan.tuning if each.arm in arms and _key(each.arm.params) == _key(final.arm))
    return any(each.trial.settings == final.settings for each in tuned)


def _is_on_path(final: FinalRecord, plan: Plan) -> bool:
    """Whether its recipe is the baseline with as many of the changes as its arm has."""
    base, changes = plan.arms[0].settings, plan.sweep.changes
    made = {name: value for name, value in changes.items() if final.settings[name] != base[name]}
    idle = sum(base[name] == value for name, value in changes.items())  # 0 and 0.0 are a change to the plan
    arms = plan.arms[len(made) : len(made) + idle + 1]
    settings = plan.changed({**plan.sweep.baseline, **made}, 0)[0].trial.settings
    return settings == final.settings and any(_key(arm.params) == _key(final.arm) for arm in arms)
