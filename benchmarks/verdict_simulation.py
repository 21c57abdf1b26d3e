"""How often verdicts are wrong, and how often they decide, on simulated sweeps; prints a Markdown table.

    python benchmarks/verdict_simulation.py [SWEEPS]      2,000 sweeps per cell by default: 20 s on one core

Each simulated sweep compares k treatments with one control over n seeds, by accuracies counted on 10,000
images: what a seed does to both arms cancels, the rest is noise of a kind below. Every treatment has the same
true effect; every claim says "higher". A sweep is wrong if any of its claims is: supported though the effect
does not exceed the margin, equivalent though it does, or refuted though it exceeds it as claimed. An effect
of exactly one margin counts as just inside and as just outside, whichever is worse.

The rule is written a second time here, for whole arrays; the first sweeps of each cell go through `judge`
too, and must agree. Exits 1 if more than 5% are wrong, or if, with the normal noise that the plan assumes,
fewer than 80% of the claims are decided at twice the margin although the plan says so many would be.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_ablate.statistics.paired_tests import smallest_effect, t_quantile
from mnist_ablate.statistics.verdict import ALPHA, judge
from mnist_ablate.sweep.sweep import Claim
from mnist_ablate.trial import Row

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]

MARGIN = 0.002
SD = 0.0012  # of the paired differences; an MLP on MNIST has about 0.0008 per arm after 5 epochs
EFFECTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # in margins
DESIGNS = ((1, 3), (1, 6), (1, 10), (1, 14), (6, 8), (7, 10), (7, 12), (25, 10))  # claims, seeds
CHECKED_BY_JUDGE = 3
POWER = 0.8
ROUNDING = 1e-12
SUPPORTED, EQUIVALENT, REFUTED, INCONCLUSIVE = range(4)
NAMES = ("supported", "equivalent", "refuted", "inconclusive")


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """The noise that the t interval and the plan assume."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, shape) / math.sqrt(3.0)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Now and then a bad run: an exponential tail to the left."""
    return 1.0 - rng.standard_exponential(shape)


NOISES: dict[str, tuple[Noise, Noise]] = {
    "normal": (normal, normal),
    "heavy": (heavy, heavy),
    "skewed": (skewed, skewed),
    "skewed, treatment only": (normal, skewed),  # the differences are skewed: neither test expects that
}
"""The noise of the control and of the treatments, each with standard deviation 1."""


@dataclass(frozen=True)
class Cell:
    """The result of one design, noise and effect: shares of sweeps and of claims."""

    wrong: float
    decided: float


def simulate(name: str, design: tuple[int, int], effect: float, sweeps: int) -> Cell:
    """One cell: noise, (claims, seeds), effect in margins, number of sweeps."""
    control, treated = drawn(name, design, effect, sweeps)
    verdicts = decide(treated - control)
    for sweep in range(min(CHECKED_BY_JUDGE, sweeps)):
        judged = by_judge(control[sweep, 0], treated[sweep])
        if judged != [NAMES[verdict] for verdict in verdicts[sweep]]:
            raise AssertionError(f"judge says {judged}, the simulation {verdicts[sweep]}")
    return Cell(wrong_share(verdicts, effect), float((verdicts != INCONCLUSIVE).mean()))


def drawn(name: str, design: tuple[int, ...], effect: float, sweeps: int) -> tuple[Floats, Floats]:
    """Accuracies of control (sweeps, 1, seeds) and treatments (sweeps, claims, seeds); `design` ends with the seeds."""
    n_claims, n_seeds = design[0], design[-1]
    rng = np.random.default_rng([*design, *name.encode(), int(100 * effect) + 1000])
    scale = SD / math.sqrt(2.0)
    of_control, of_treatment = NOISES[name]
    shared = 0.97 + 0.001 * rng.standard_normal((sweeps, 1, n_seeds))
    control = np.round(shared + scale * of_control(rng, (sweeps, 1, n_seeds)), 4)
    noise = scale * of_treatment(rng, (sweeps, n_claims, n_seeds))
    return control, np.round(shared + effect * MARGIN + noise, 4)


def wrong_share(verdicts: NDArray[np.int64], effect: float) -> float:
    """The share of sweeps with a wrong claim; one margin counts as just inside and as just outside."""
    inside = (verdicts == SUPPORTED).any(axis=1).mean() if effect <= 1.0 else 0.0
    denied = verdicts == EQUIVALENT if abs(effect) >= 1.0 else np.zeros_like(verdicts, dtype=bool)
    if effect >= 1.0:
        denied |= verdicts == REFUTED
    return float(max(inside, denied.any(axis=1).mean()))


def decide(differences: Floats) -> NDArray[np.int64]:
    """The contract's rule for "higher": differences (sweeps, claims, seeds) -> verdicts (sweeps, claims)."""
    verdicts, shows_effect = by_interval(differences, ALPHA / differences.shape[1])
    verdicts[shows_effect & (holm(sign_flip_p_values(differences)) > ALPHA)] = INCONCLUSIVE
    return verdicts


def by_interval(differences: Floats, alpha: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What the intervals say, and whether it is the effect claimed, which sign flips must back."""
    n = differences.shape[2]
    mean = differences.mean(axis=2)
    half = t_quantile(n, alpha) * differences.std(axis=2, ddof=1) / math.sqrt(n)
    low, high = mean - half, mean + half
    equal = np.ptp(differences, axis=2) <= ROUNDING
    shows_effect = (mean <= ROUNDING - MARGIN) | (mean > MARGIN + ROUNDING)
    least = np.where(shows_effect, np.minimum(mean, 0.0), -1.0)  # what those not seen can be
    most = np.where(shows_effect, np.maximum(mean, 0.0), 1.0)
    share = 1.0 - alpha ** (1.0 / n)
    low, high = (np.where(equal, mean + (end - mean) * share, usual) for end, usual in ((least, low), (most, high)))
    supported, below = low > MARGIN, high < MARGIN
    equivalent = below & (low > -MARGIN)
    verdicts = np.select([supported, equivalent, below], [SUPPORTED, EQUIVALENT, REFUTED], INCONCLUSIVE)
    return verdicts.astype(np.int64), supported


def sign_flip_p_values(differences: Floats) -> Floats:
    """By counting every pattern of signs; the first sign is fixed, as the test is two-sided."""
    n = differences.shape[2]
    patterns = 1.0 - 2.0 * ((np.arange(2 ** (n - 1)) >> np.arange(n)[:, None]) & 1)
    return np.stack(
        [(np.abs(d @ patterns) >= np.abs(d.sum(axis=1))[:, None] - 1e-12).mean(axis=1) for d in differences]
    )


def holm(p_values: Floats) -> Floats:
    """Adjusted p-values over the claims of each sweep."""
    order = np.argsort(p_values, axis=1)
    factors = np.arange(p_values.shape[1], 0, -1)
    stepped = np.maximum.accumulate(np.take_along_axis(p_values, order, axis=1) * factors, axis=1)
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=1)
    return adjusted


def by_judge(control: Floats, treated: Floats) -> list[str]:
    """The verdicts of the real thing on one sweep: accuracies (seeds,) and (claims, seeds)."""
    rows = [Row({"arm": "control"}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(control)]
    for arm, values in enumerate(treated):
        rows += [Row({"arm": str(arm)}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(values)]
    return [verdict.verdict for verdict in judge(rows, claims(len(treated)))]


def claims(n: int) -> list[Claim]:
    """Of each treatment: better than the control."""
    return [
        Claim(
            name=f"claim-{arm}",
            statement="",
            treatment={"arm": str(arm)},
            control={"arm": "control"},
            direction="higher",
            margin=MARGIN,
        )
        for arm in range(n)
    ]


def main(sweeps: int) -> int:
    """Print the table; 1 if a promise is broken."""
    effects = " | ".join(f"{effect:+g}" if effect else "0" for effect in EFFECTS)
    print(f"Wrong sweeps in % at a true effect of so many margins; {sweeps:,} sweeps per cell.\n")
    print(f"| claims | seeds | plan: smallest effect | noise | {effects} | decided at -2 | at +2 |")
    print("|" + "---|" * (len(EFFECTS) + 6))
    broken = 0
    for n_claims, n_seeds in DESIGNS:
        planned = smallest_effect(n_seeds, n_claims, SD, ALPHA, POWER, margin=MARGIN) / MARGIN
        plan = f"{planned:.2f} margins" if planned < math.inf else "none"
        for name in NOISES:
            cells = [simulate(name, (n_claims, n_seeds), effect, sweeps) for effect in EFFECTS]
            wrong = " | ".join(f"{100 * cell.wrong:.1f}" for cell in cells)
            decided = [cells[0].decided, cells[-1].decided]
            shares = " | ".join(f"{100 * share:.0f}%" for share in decided)
            print(
                f"| {n_claims} | {n_seeds} | {plan} | {name} | {wrong} | {shares} |",
                flush=True,
            )
            promised = name == "normal" and planned <= 1.0
            broken += any(cell.wrong > ALPHA for cell in cells) or (promised and min(decided) < POWER)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
