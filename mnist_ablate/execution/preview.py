"""What a sweep will cost and can find, before it is run: times one short trial of each network shape."""

import dataclasses
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate.execution.engine import default_jobs
from mnist_ablate.statistics.verdict import ALPHA, can_decide, fewest_seeds, smallest_effect
from mnist_ablate.sweep.adaptive_schedule import ONCE
from mnist_ablate.sweep.plan import Plan, control_count, count, expand, label, normalizers, weights_needed
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.text import counted
from mnist_ablate.workloads.keras_mnist import data, input_words, weights_download
from mnist_ablate.workloads.keras_mnist.fingerprint import fingerprints

PART = 10
"""The timed trial trains on every tenth image."""
ASSUMED_SD = 0.002
"""Of paired differences in accuracy between seeds: what the shipped MLP sweeps show, as a fraction."""
START_S = 6.0
"""Workers, keras and the first compilation."""


@dataclass(frozen=True)
class Preview:
    """A plan's size, its time on this machine's cores, and the effects that it can tell from its margins.

    Seeds, trials and time are the most that there can be; an adaptive sweep may do with the `least`.
    """

    sweep: str
    digest: str
    arms: list[str]
    seeds: int
    least_seeds: int
    tuning_trials: int
    as_written_trials: int
    control_trials: int
    trials: int
    least_trials: int
    jobs: int
    estimated_s: float
    claims: list[dict[str, Any]]
    fingerprints: list[dict[str, Any]]
    warnings: list[str]

    def document(self) -> dict[str, Any]:
        """As JSON; an effect that no size would reveal is null."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """As lines for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        tuning = f", {self.tuning_trials} of them tuning" if self.tuning_trials else ""
        tuning += f", {self.as_written_trials} as written" if self.as_written_trials else ""
        control = f", {self.control_trials} of them the negative control" if self.control_trials else ""
        adaptive = self.least_seeds < self.seeds
        seeds = f"{self.least_seeds} to " * adaptive + counted(self.seeds, "seed")
        trials = f"from {self.least_trials:,} to " * adaptive + counted(self.trials, "trial")
        yield f"{self.sweep}: {counted(len(self.arms), 'arm')} x {seeds}, {trials}{tuning}{control}"
        yield from (f"  {arm}" for arm in self.arms)
        about, jobs = "at most" if adaptive else "about", counted(self.jobs, "job")
        yield f"{about} {self.estimated_s / 60:.1f} min with {jobs} (one short trial of each shape was timed)"
        for claim in self.claims:
            if (size := claim["smallest_effect"]) is not None:
                beyond = f"{size:.2%} beyond its margin of {claim['margin']:.2%}"
                yield f"  {claim['name']}: finds effects {beyond} (80% power)"
        if self.claims:
            yield f"  (accuracy, if paired differences between seeds have a standard deviation of {ASSUMED_SD:.2%})"
        yield f"{input_words.TITLE}:"
        for found in self.fingerprints:
            yield f"  {found['normalizer']}"
            yield from (f"    {line}" for line in input_words.lines(found))
        yield from (f"warning: {warning}" for warning in self.warnings)


def preview(sweep: Sweep, path: Path | None, max_trials: int, weights: Path | None = None) -> Preview:
    """Expand a sweep and time each of its network shapes on a tenth of the images at `path`.

    `weights` is a file for `weights: imagenet`; one that is not there is warned of.
    """
    digits = data.load(path)
    plan = expand(sweep, digits.digest, max_trials)
    found = fingerprints(normalizers(plan), plan.arms[0].recipe, digits)
    return Preview(
        sweep=sweep.name,
        digest=sweep.digest,
        arms=[label(arm.params) for arm in plan.arms],
        seeds=sweep.most_seeds,
        least_seeds=sweep.least_seeds,
        tuning_trials=plan.tuning_size,
        as_written_trials=len(plan.as_written_trials()),
        control_trials=control_count(sweep),
        trials=plan.size,
        least_trials=count(sweep, sweep.least_seeds),
        jobs=default_jobs(),
        estimated_s=_time_s(plan, digits),
        claims=[_claim(sweep, claim) for claim in sweep.claims],
        fingerprints=found,
        warnings=[*_warnings(sweep), *_absent(plan, weights), *input_words.damage(found)],
    )


def _claim(sweep: Sweep, claim: Claim) -> dict[str, Any]:
    seeds, alpha = sweep.most_seeds, ALPHA * (sweep.looks or ONCE)[-1].share
    size = smallest_effect(seeds, len(sweep.claims), ASSUMED_SD, alpha, margin=claim.margin)
    known = claim.metric.endswith("accuracy") and math.isfinite(size)
    return {"name": claim.name, "margin": claim.margin, "smallest_effect": size if known else None}


def _warnings(sweep: Sweep) -> Iterator[str]:
    claims = len(sweep.claims)
    most, looks = sweep.most_seeds, sweep.looks or ONCE
    if claims and not any(can_decide(look.seeds or most, claims, ALPHA * look.share) for look in looks):
        least = fewest_seeds(claims, ALPHA * looks[-1].share)
        way = f"set seeds.max={least}" if sweep.looks else f"seeds {least}"
        what = f"any of {claims} claims" if claims > 1 else "the claim"
        yield f"{counted(most, 'seed')} cannot support {what}: sign flips need {least} (--{way})"
    if not claims:
        yield "no claims: the sweep will show arms, and judge nothing"


def _absent(plan: Plan, given: Path | None) -> Iterator[str]:
    yield from filter(None, (weights_download.problem(weights, given) for weights in weights_needed(plan)))


def _time_s(plan: Plan, digits: data.Digits) -> float:
    """Seconds on all cores: missing features of frozen bases, and an epoch of each shape times the epochs asked for."""
    with _quiet():
        from mnist_ablate.workloads.keras_mnist.compiled_program import shape_of
        from mnist_ablate.workloads.keras_mnist.trainer import Trainer

        trainer = Trainer(_part(digits))
        recipes = {shape_of(arm.recipe): arm.recipe for arm in plan.arms}
        epoch_s = {shape: PART * trainer.epoch_seconds(recipe) for shape, recipe in recipes.items()}
        features_s = _features_s(plan, digits)
    runs = len(plan.points) + plan.sweep.most_seeds * (2 if plan.sweep.as_written else 1)
    epochs_s = sum((arm.recipe.epochs + 0.5) * epoch_s[shape_of(arm.recipe)] for arm in plan.arms)
    again = plan.control_arm.recipe
    control_s = control_count(plan.sweep) * (again.epochs + 0.5) * epoch_s[shape_of(again)]
    tried = plan.tuning_size - len(plan.tuning)  # of a search or a path: as long as the last arm, if none is pruned
    tried_s = tried * (plan.arms[-1].recipe.epochs + 0.5) * epoch_s[shape_of(plan.arms[-1].recipe)]
    return START_S + (features_s + runs * epochs_s + control_s + tried_s) / default_jobs()


def _features_s(plan: Plan, digits: data.Digits) -> float:
    """Seconds of one core for what no earlier trial has computed."""
    from mnist_ablate.workloads.keras_mnist.extractor import image_seconds, source_of
    from mnist_ablate.workloads.keras_mnist.features import Store

    store = Store(digits)
    sources = {source for arm in plan.arms if (source := source_of(arm.recipe)).base}
    missing = {source: n for source in sources if (n := store.missing(source))}
    image_s = {source.base: image_seconds(source, digits.x_train) for source in missing}
    return sum(n * image_s[source.base] for source, n in missing.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow's C++ parts write to file descriptor 2, whatever its log level says."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _part(digits: data.Digits) -> data.Digits:
    return dataclasses.replace(
        digits,
        x_train=digits.x_train[::PART],
        y_train=digits.y_train[::PART],
        x_val=digits.x_val[::PART],
        y_val=digits.y_val[::PART],
        x_test=digits.x_test[::PART],
        y_test=digits.y_test[::PART],
    )
