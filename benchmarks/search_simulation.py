"""How much a winner flatters itself, and how tuning changes verdicts, on made-up sweeps whose truth is known.

Run as `python benchmarks/search_simulation.py [SWEEPS]`; it ends with 1 if a promise is broken. Two tables:

- **The winner's bias.** Every sweep tries recipes of random true accuracy once, takes the best by validation and trains
  it and the baseline again on fresh seeds. "Seen" is the gain as a search alone would tell it, best minus baseline;
  "confirmed" is what `report` tells. Promised: confirmed is off by no more than three standard errors of the
  simulation, and its 95% interval covers the winner's true gain in 93 to 97% of sweeps.
- **Tuned and untuned verdicts.** Two arms are equally good at their own best learning rate, and those lie apart; the
  recipe as written has the control's. Promised: as written the claim that the treatment is worse is supported, tuned
  it is not (in more than 5% of sweeps), and where the treatment is worse at any rate both say so.
"""

import math
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.paired_tests import t_quantile
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

Floats = NDArray[np.float64]

SD = 0.002
"""Of accuracy between seeds of one recipe, on validation and on test images alike."""
BASELINE = 0.970
TRIALS = (10, 40, 160)
SPREADS = (0.0, 0.001, 0.004)
"""Standard deviations of the tried recipes' true accuracies: 0 is a search in which nothing can be gained."""
SEEDS = 10
COVERED = (0.93, 0.97)
CURVATURE = 0.004
"""What an arm loses a decade away from its best learning rate, squared."""
MARGIN = 0.002
POWER = 0.8
VERDICTS = ("supported", "refuted", "equivalent", "inconclusive")


@dataclass(frozen=True)
class Bias:
    """Means over sweeps, as fractions: the winner's true gain, and what was said of it."""

    true: float
    seen: float
    confirmed: float
    covered: float
    standard_error: float


def winners(trials: int, spread: float, sweeps: int) -> Bias:
    """So many sweeps of one search each."""
    rng = np.random.default_rng([trials, round(1e6 * spread), 1])
    truth = BASELINE + spread * rng.standard_normal((sweeps, trials))
    seen = truth + SD * rng.standard_normal((sweeps, trials))
    rows = np.arange(sweeps)
    best = seen.argmax(axis=1)
    gain = truth[rows, best] - BASELINE
    shared = SD * rng.standard_normal((3, sweeps, SEEDS))
    baseline, winner = BASELINE + shared[0] + shared[1], truth[rows, best][:, None] + shared[0] + shared[2]
    difference = winner - baseline
    mean = difference.mean(axis=1)
    half = t_quantile(SEEDS, ALPHA) * difference.std(axis=1, ddof=1) / math.sqrt(SEEDS)
    covered = (np.abs(mean - gain) <= half).mean()
    error = float((mean - gain).std(ddof=1) / math.sqrt(sweeps))
    looked = seen[rows, best] - baseline.mean(axis=1)
    return Bias(float(gain.mean()), float(looked.mean()), float(mean.mean()), float(covered), error)


SWEEP = {
    "name": "made-up",
    "question": "Is the treatment worse?",
    "scientific": {"normalizer": ["unit", "centered"]},
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}},
    "tuning_trials": 12,
    "fixed": {"learning_rate": 0.01},
    "seeds": SEEDS,
    "claims": [
        {
            "name": "worse",
            "statement": "The treatment is worse.",
            "treatment": {"normalizer": "centered"},
            "control": {"normalizer": "unit"},
            "direction": "lower",
            "margin": MARGIN,
        }
    ],
}


def accuracy(recipe: Recipe, apart: float, worse: float) -> float:
    """True accuracy: a parabola in the logarithm of the rate; the treatment's best is `apart` decades lower."""
    treated = recipe.normalizer == "centered"
    distance = math.log10(recipe.learning_rate) - (-2.0 - apart * treated)
    return BASELINE - CURVATURE * distance**2 - worse * treated


def verdicts(apart: float, worse: float, sweeps: int) -> tuple[Counter[str], Counter[str]]:
    """The verdicts as written and tuned over so many sweeps."""
    rng = np.random.default_rng([round(10 * apart), round(1e5 * worse), 2])
    sweep = Sweep.model_validate(SWEEP)
    plan = make_plan(sweep, "made-up")
    truth = np.array(
        [accuracy(Recipe.model_validate(each.trial.settings), apart, worse) for each in plan.tuning]
    ).reshape(-1, len(plan.arms))
    counted: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    written = [accuracy(Recipe.model_validate(arm.settings), apart, worse) for arm in plan.arms]
    for _ in range(sweeps):
        best = (truth + SD * rng.standard_normal(truth.shape)).argmax(axis=0)
        tuned = [truth[point, arm] for arm, point in enumerate(best)]
        for found, true in zip(counted, (written, tuned), strict=True):
            found[judged(sweep, true, rng)] += 1
    return counted


def judged(sweep: Sweep, truth: list[float], rng: np.random.Generator) -> str:
    """The verdict of one claim on fresh seeds."""
    rows = [
        Row({"normalizer": arm}, seed, {"test_accuracy": float(true + value)})
        for arm, true in zip(("unit", "centered"), truth, strict=True)
        for seed, value in enumerate(SD * rng.standard_normal(SEEDS))
    ]
    return judge(rows, sweep.claims)[0].verdict


def main(sweeps: int) -> int:
    """Print both tables; 1 if a promise is broken."""
    return int(_biases(sweeps) + _verdicts(sweeps) > 0)


def _biases(sweeps: int) -> int:
    print(
        f"Gain over the baseline in percentage points, mean of {sweeps:,} sweeps; confirmed on {SEEDS} fresh seeds.\n"
    )
    print(
        "| trials | spread of true accuracies | true gain of the winner | as seen | confirmed | 95% interval covers |"
    )
    print("|---|---|---|---|---|---|")
    broken = 0
    for trials in TRIALS:
        for spread in SPREADS:
            found = winners(trials, spread, sweeps)
            gains = " | ".join(f"{100 * value:+.3f}" for value in (found.true, found.seen, found.confirmed))
            print(f"| {trials} | {100 * spread:g} pp | {gains} | {found.covered:.1%} |", flush=True)
            unbiased = abs(found.confirmed - found.true) <= 3 * found.standard_error
            broken += not (unbiased and COVERED[0] <= found.covered <= COVERED[1])
    return broken


def _verdicts(sweeps: int) -> int:
    print(f"\nVerdicts on 'the treatment is worse', margin {100 * MARGIN:g} pp, {sweeps:,} sweeps a row.\n")
    print("| best rates apart | truly worse by | as written | tuned |")
    print("|---|---|---|---|")
    broken = 0
    for apart, worse in ((0.0, 0.0), (1.5, 0.0), (0.0, 0.01), (1.5, 0.01)):
        written, tuned = verdicts(apart, worse, sweeps)
        texts = [", ".join(f"{f[name] / sweeps:.1%} {name}" for name in VERDICTS if f[name]) for f in (written, tuned)]
        print(f"| {apart:g} decades | {100 * worse:g} pp | {' | '.join(texts)} |", flush=True)
        supported = [found["supported"] / sweeps for found in (written, tuned)]
        wanted = [bool(apart or worse), bool(worse)]
        broken += any(share < POWER if want else share > ALPHA for share, want in zip(supported, wanted, strict=True))
    return broken


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
