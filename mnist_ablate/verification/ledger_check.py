"""Is the ledger what the plan asks for? Every final record planned, once; shares no code with the driver."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnist_ablate.ledger.raw_records import RawStudy, RawTrial
from mnist_ablate.ledger.verify_record import FINAL, STATES, Final, final_of, lacking, wrong
from mnist_ablate.statistics.verdict import ALPHA
from mnist_ablate.sweep.adaptive_schedule import SPENDING
from mnist_ablate.sweep.plan import Plan, Planned, control_count, count, expand
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import CONTROL_SEED, TUNING_SEED, Row, Trial
from mnist_ablate.verification.expected_trials import follow, wanted
from mnist_ablate.workloads.workload import default_workload
from mnist_ablate.workloads.workload import trial_id as id_of

_RUN_AGAIN = "run the sweep again"
_RESTORE = "restore the ledger from a copy, or begin anew with --fresh"
_ANY_SIZE = 10**9
Place = tuple[str, str, str]
"""A trial's id, its stage, its arm."""


class Ledger:
    """The latest study of a sweep, read strictly. `problems` is complete once the object is made."""

    def __init__(self, studies: Sequence[RawStudy]) -> None:
        study = studies[-1]
        content = json.loads(study.attrs["content"])
        self.sweep = Sweep.model_validate(content["sweep"])
        self.plan = expand(self.sweep, content["data_digest"], max_trials=_ANY_SIZE)
        self.finals: dict[str, Final] = {}
        self._again: set[str] = set()  # the stages of trials that were run again
        self.problems = [*_unfinished(studies), *self._registered(study), *self._recorded(study.trials)]
        self.missing = 0
        self.rows: list[Row] = []
        self.problems += [*self._planned()]

    def _registered(self, study: RawStudy) -> Iterator[str]:
        if json.loads(study.attrs.get("digest", '""')) != self.sweep.digest:
            yield f"ledger: {study.name}: its digest is not that of the sweep it holds: {_RESTORE}"
        told = json.loads(study.attrs.get("preregistration", "{}"))  # older versions wrote none
        changed = [part for part, value in _parts(self.plan).items() if told and told.get(part) != value]
        if changed:
            what = " and ".join(changed)
            yield f"ledger: {study.name}: {what} not as registered before the first trial: {_RESTORE}"

    def _recorded(self, trials: Sequence[RawTrial]) -> Iterator[str]:
        numbers = [trial.number for trial in trials]
        if len(set(numbers)) != len(numbers):
            yield f"ledger: two records have one number: {_RESTORE}"
        results: defaultdict[str, list[int]] = defaultdict(list)
        for trial in trials:
            where = f"ledger: record {trial.number}"
            if lacks := lacking(trial):
                yield f"{where} is not whole, it lacks {', '.join(lacks)}: {_RESTORE}"
                continue
            final = final_of(trial)
            yield from (f"{where} (trial {final.trial_id}) {text}: {_RESTORE}" for text in wrong(trial, final))
            if results[final.trial_id]:
                first = results[final.trial_id][0]
                yield f"{where}: trial {final.trial_id} had its result in record {first} already: {_RESTORE}"
            if final.outcome["status"] in FINAL:
                results[final.trial_id].append(trial.number)
            self._again |= {final.stage} if final.trial_id in self.finals else set()
            self.finals[final.trial_id] = final

    def _planned(self) -> Iterator[str]:
        tuning, best = self._tuning(), _best(self.plan, self.finals)
        judged = self._wanted(self.plan.verdict_trials(best)) if best is not None else ()
        seeds = [each.trial.seed for each in judged if each.arm == self.plan.control_arm]
        others = self.plan.control_trials(best)[: len(seeds)] if best is not None else ()
        asked = [(_id(each.trial), each) for each in (*judged, *others, *self._wanted(self.plan.as_written_trials()))]
        places = [*tuning, *(_place(id_, each) for id_, each in asked)]
        recorded = [id_ for id_, _, _ in places if id_ in self.finals]
        size = self.plan.size
        if self.sweep.looks:  # what was asked for so far
            size = max(count(self.sweep, self.sweep.least_seeds), self.plan.tuning_size + len(asked))
        self.missing = size - len(recorded)
        if self.missing:
            yield f"ledger: {self.missing} of {size} planned trials are not recorded: {_RUN_AGAIN}"
        yield from self._misplaced({*places, *self._late(best)})
        for id_, each in asked[: len(judged)]:
            if final := self.finals.get(id_):
                metrics, status = final.outcome["metrics"], final.outcome["status"]
                self.rows.append(Row(dict(each.arm.params), final.seed, metrics, status))

    def _misplaced(self, places: set[Place]) -> Iterator[str]:
        """What is recorded and was not planned, or is in another stage or arm than planned."""
        stages: defaultdict[str, set[str]] = defaultdict(set)  # a trial may be in two arms, or written as it was tuned
        for trial_id, stage, _ in places:
            stages[trial_id].add(stage)
        for trial_id, final in self.finals.items():
            if (trial_id, final.stage, _key(final.arm)) in places or self._is_given_up(final):
                continue
            what = "but not planned"
            if trial_id in stages:
                own = final.stage in stages[trial_id]
                what = "in an arm that is not its own" if own else f"as {final.stage}, not as planned"
            yield f"ledger: trial {trial_id} is recorded {what}: {_RESTORE}"

    def _wanted(self, trials: Sequence[Planned]) -> tuple[Planned, ...]:
        finals = self.finals
        return wanted(
            self.sweep, trials, lambda each: finals[id_].outcome if (id_ := _id(each.trial)) in finals else None
        )

    def _late(self, best: dict[str, dict[str, Any]] | None) -> set[Place]:
        """What a look may have asked for that was taken again, and decided, after a failed trial had been run again."""
        if not (self.sweep.looks and self._again) or best is None:
            return set()
        plan = self.plan
        trials = (*plan.verdict_trials(best), *plan.control_trials(best), *plan.as_written_trials())
        return {_place(_id(each.trial), each) for each in trials}

    def _is_given_up(self, final: Final) -> bool:
        """Whether it was planned until a tuning trial, run again, changed what was chosen for its arm."""
        return "tuning" in self._again and _is_chosen(final, self.plan)

    def _tuning(self) -> list[Place]:
        """The tuning trials; those of a search are what was tried of its space."""
        if self.sweep.design == "search":
            arm = _key(self.plan.arms[-1].params)
            return [(id_, "tuning", arm) for id_, final in self.finals.items() if _in_space(final, self.plan)]
        is_path = self.sweep.design == "ablation_path"
        trials = _followed(self.plan, self.finals)[0] if is_path else self.plan.tuning
        return [_place(_id(each.trial), each) for each in trials]


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


def _without_margin(claim: Claim) -> dict[str, Any]:
    told = claim.model_dump(mode="json", exclude={"margin"})
    return told if claim.positive_control else {key: told[key] for key in told if key != "positive_control"}


def _unfinished(studies: Sequence[RawStudy]) -> Iterator[str]:
    for study in studies:
        for trial in study.trials:
            if trial.state not in STATES.values():
                yield f"ledger: {study.name}: record {trial.number} is {trial.state}, not a final state: {_RESTORE}"


def _place(trial_id: str, planned: Planned) -> Place:
    return trial_id, planned.stage, _key(planned.arm.params)


def _id(trial: Trial) -> str:
    return id_of(default_workload(), trial.settings, trial.seed, trial.data_digest)


def _best(plan: Plan, finals: Mapping[str, Final]) -> dict[str, dict[str, Any]] | None:
    """Each arm's nuisance values with the highest validation accuracy, the first of equals; None before all are known.

    Keyed by the words for the arm, as the plan wants them.
    """
    if plan.sweep.design == "search":
        return _found(plan, finals)
    if plan.sweep.design == "ablation_path":
        return _followed(plan, finals)[1]
    if not plan.points:
        return {}
    scored: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for place, planned in enumerate(plan.tuning):
        final = finals.get(_id(planned.trial))
        if final is None:
            return None
        words = " ".join(str(value) for value in planned.arm.params.values())
        point = place // len(plan.arms)
        scored[words].append((-final.outcome["metrics"].get(default_workload().selection_metric, -1.0), point))
    return {words: dict(plan.points[min(scores)[1]]) for words, scores in scored.items()}


def _found(plan: Plan, finals: Mapping[str, Final]) -> dict[str, dict[str, Any]] | None:
    """The settings that a search found best, the first of equals; None before all are tried."""
    tried = [final for final in finals.values() if _in_space(final, plan)]
    scores = [
        (final.outcome["metrics"][default_workload().selection_metric], final)
        for final in tried
        if final.outcome["metrics"]
    ]
    if len(tried) < plan.sweep.tuning_trials or not scores:
        return None
    recipe = max(scores, key=lambda scored: scored[0])[1].settings
    words = " ".join(str(value) for value in plan.arms[-1].params.values())
    return {words: {name: recipe[name] for name in _searched(plan.sweep)}}


def _searched(sweep: Sweep) -> dict[str, Any]:
    return {**sweep.scientific, **sweep.nuisance}


def _in_space(final: Final, plan: Plan) -> bool:
    """Whether a trial is one that the search of this plan can have tried."""
    space, base = _searched(plan.sweep), plan.arms[-1].settings
    settings = {name: final.settings[name] for name in space}
    active = {name for name in space if _active(plan.sweep, name, settings)}
    own = {name: value for name, value in settings.items() if name in active}
    fits = final.settings == {**base, **own} and all(_holds(space[name], value) for name, value in own.items())
    return fits and (final.stage, final.seed, final.data_digest) == ("tuning", TUNING_SEED, plan.data_digest)


def _active(sweep: Sweep, name: str, settings: Mapping[str, Any]) -> bool:
    return all(settings[other] in values for other, values in sweep.conditions.get(name, {}).items())


def _holds(choice: Any, value: Any) -> bool:
    return value in choice if isinstance(choice, list) else bool(choice.low <= value <= choice.high)


def _followed(plan: Plan, finals: Mapping[str, Final]) -> tuple[list[Planned], dict[str, dict[str, Any]] | None]:
    """An ablation path as the records decide it: the trials that choose, and each arm's settings once it is whole."""
    return follow(plan, lambda each: finals[id_].outcome["metrics"] if (id_ := _id(each.trial)) in finals else None)


def _is_chosen(final: Final, plan: Plan) -> bool:
    """Whether it is planned for something that tuning, or a path, can choose."""
    first, most = _seeds(final.stage, plan)
    if not first <= final.seed < first + most or final.data_digest != plan.data_digest:
        return False
    if plan.sweep.design == "ablation_path":
        return _is_on_path(final, plan)
    arms = plan.arms if final.stage == "verdict" else (plan.control_arm,)
    tuned = (each for each in plan.tuning if each.arm in arms and _key(each.arm.params) == _key(final.arm))
    return any(each.trial.settings == final.settings for each in tuned)


def _seeds(stage: str, plan: Plan) -> tuple[int, int]:
    """The first seed of a stage whose trials follow from a choice, and how many there are at most."""
    choosing = plan.sweep.least_seeds if plan.sweep.design == "ablation_path" else 0  # else a choice changes none
    ranges = {
        "verdict": (0, plan.sweep.most_seeds),
        "control": (CONTROL_SEED, control_count(plan.sweep)),
        "tuning": (TUNING_SEED, choosing),
    }
    return ranges.get(stage, (0, 0))


def _is_on_path(final: Final, plan: Plan) -> bool:
    """Whether its recipe is the baseline with as many of the changes as its arm has."""
    base, changes = plan.arms[0].settings, plan.sweep.changes
    made = {name: value for name, value in changes.items() if final.settings[name] != base[name]}
    idle = sum(base[name] == value for name, value in changes.items())  # 0 and 0.0 are a change to the plan
    arms = plan.arms[len(made) : len(made) + idle + 1]
    recipe = plan.changed({**plan.sweep.baseline, **made}, 0)[0].trial.settings
    return recipe == final.settings and any(_key(arm.params) == _key(final.arm) for arm in arms)


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)
