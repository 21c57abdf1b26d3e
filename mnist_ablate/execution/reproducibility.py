"""Whether training repeats itself: one trial twice, another seed, each factor changed. Records nothing."""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Literal

from mnist_ablate.errors import AblateError
from mnist_ablate.execution.worker import TRIALS
from mnist_ablate.sweep.plan import Plan, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.text import counted
from mnist_ablate.trial import Outcome, Params, Scalar
from mnist_ablate.workloads.workload import Trainer, repeatable, trial_of

Repeats = Literal["to the bit", "to rounding", "no"]
_ROUNDING = 1e-5
"""The largest relative difference that the order of additions explains in single precision."""


@dataclass(frozen=True)
class Check:
    """`differs` has the relative difference between two runs of one trial, by metric. `ignored` are settings."""

    sweep: str
    repeats: Repeats
    differs: Mapping[str, float]
    uses_seed: bool
    ignored: tuple[str, ...]
    trials: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        yield f"{self.sweep}: " + (
            "does not repeat itself" if self.repeats == "no" else f"repeats itself {self.repeats}"
        )
        if self.repeats != "to the bit":
            worst = max(self.differs, key=lambda name: self.differs[name])
            yield f"  the same trial twice: {worst} differs by {self.differs[worst]:.2g} of its size"
        if self.repeats == "no":
            yield "  verdicts stand all the same, but pairs of seeds are worth less: plan more seeds"
        if not self.uses_seed:
            yield "  warning: another seed gives the same numbers, so there can be no verdict: draw from the seed"
        for name in self.ignored:
            yield f"  warning: results do not depend on {name}: is it used?"
        yield f"{counted(self.trials, 'trial')}, {self.seconds:.1f} s"


def check(sweep: Sweep, data: str | None, say: Callable[[str], None]) -> Check:
    """Train the first arm twice, once with another seed, and once with another value of each factor.

    Raises AblateError if a trial fails.
    """
    workload = sweep.workload
    if workload.runs_code:
        say(f"this runs your code: {workload.runs_code}")
    inputs = workload.load(data)
    plan = make_plan(sweep, inputs.digest)
    trainer: Trainer = resolve_name(os.environ.get("MNIST_ABLATE_TRAINER") or workload.trainer)(inputs)
    outcomes: list[Outcome] = []

    def train(what: str, params: Params, seed: int = 0) -> Mapping[str, float]:
        say(what)
        trial = trial_of(workload, params, seed, inputs.digest, sweep.vary)
        outcome = trainer.train(trial, lambda _epoch: None, lambda _text: None)
        if outcome.status not in ("complete", "diverged"):
            raise AblateError(f"{sweep.name}: {what}: {outcome.status}: {outcome.reason}")
        outcomes.append(outcome)
        return repeatable(workload, outcome.metrics)

    first = plan.arms[0].settings
    with _folder_of_trials():
        once, again = train("a trial", first), train("the same trial again", first)
        other_seed = train("another seed", first, 1)
        changed = {
            name: train(f"another value of {name}: {value}", {**first, name: value})
            for name, value in _other_values(plan)
        }
    differs = {name: _difference(value, again.get(name, math.nan)) for name, value in once.items()}
    return Check(
        sweep=sweep.name,
        repeats="to the bit"
        if once == again
        else "to rounding"
        if max(differs.values(), default=0.0) < _ROUNDING
        else "no",
        differs=differs,
        uses_seed=other_seed != again,
        ignored=tuple(name for name, metrics in changed.items() if metrics == again),
        trials=len(outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )


@contextmanager
def _folder_of_trials() -> Iterator[None]:
    """For what the trials write, unless the user has named one. It stays if a trial fails."""
    if os.environ.get(TRIALS):
        yield
        return
    folder = tempfile.mkdtemp(prefix="mnist-ablate-check-")
    os.environ[TRIALS] = folder
    try:
        yield
    finally:
        del os.environ[TRIALS]
    shutil.rmtree(folder, ignore_errors=True)


def _other_values(plan: Plan) -> Iterator[tuple[str, Scalar]]:
    """For each factor, a value that the first arm does not have."""
    first = plan.arms[0].settings
    for name in dict.fromkeys(name for arm in plan.arms for name in arm.settings):
        values = [arm.settings[name] for arm in plan.arms if arm.settings[name] != first[name]]
        yield from ((name, value) for value in values[:1])


def _difference(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-300) if a != b else 0.0
