"""How often verdicts are wrong, and how often they decide, on simulated sweeps; prints Markdown tables.

    python benchmarks/verdict_simulation.py [SWEEPS]      2,000 sweeps per cell by default: some minutes on one core

Each simulated sweep compares k treatments with one control over n seeds, by accuracies counted on 10,000 images: what a
seed does to both arms cancels, the rest is noise of a kind below. Of some kinds trainings collapse to about 10%, with a
rate for each arm. Every treatment has the same true effect on trainings that do not collapse, and every claim says
"lower" or every claim says "same".

A sweep is wrong if any of its verdicts is, and a verdict is wrong if what it rests on is false: "supported" by the
interval though the typical effect does not exceed the margin; "equivalent" though it does; "refuted" by the interval
though the effect is as claimed; either of them by collapses though that side does not collapse more often. An effect of
exactly one margin counts as just inside and as just outside, whichever is worse.

The rule is written a second time here, for whole arrays; the first sweeps of each cell go through `judge` too, and must
agree. Exits 1 if more than 5% are wrong in a cell, beyond what 2.6 standard errors of the simulation explain, or if
fewer claims than promised are decided at three margins with five seeds and seven claims.
"""

import math
import sys
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.collapses import barnard_p_value
from mnist_ablate.statistics.decision_rule import COLLAPSE_SHARE, FEWEST_PAIRS
from mnist_ablate.statistics.paired_tests import t_quantile
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim, Direction
from mnist_ablate.trial import Row

Floats = NDArray[np.float64]
Verdicts = NDArray[np.int64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]
Claimed = Literal["lower", "same"]

MARGIN = 0.002
SD = 0.0012  # of the paired differences; an MLP on MNIST has about 0.0008 per arm after 5 epochs
EFFECTS = (-3.0, -1.0, 0.0, 0.5, 1.0, 3.0, 10.0)  # in margins, positive as claimed by "lower"
SEEDS = (3, 4, 5, 6, 8, 10, 20, 30)
MOST = SEEDS[-1]
CLAIMS = (1, 7, 20)
CHECKED_BY_JUDGE = 2
ROUNDING = 1e-12
COLLAPSE_AT = 0.55
SUPPORTED, EQUIVALENT, REFUTED, INCONCLUSIVE = range(4)
NAMES = ("supported", "equivalent", "refuted", "inconclusive")


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """The noise that the t interval and the plan assume."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, shape) / math.sqrt(3.0)


def bad_tail(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Now and then a bad run: an exponential tail to the left."""
    return 1.0 - rng.standard_exponential(shape)


def good_tail(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Now and then a lucky one: an exponential tail to the right."""
    return rng.standard_exponential(shape) - 1.0


def log_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """A log-normal tail to the left, of skewness 1.75, as that of many losses."""
    drawn, sd = np.exp(0.5 * rng.standard_normal(shape)), math.sqrt((math.exp(0.25) - 1) * math.exp(0.25))
    return (math.exp(0.125) - drawn) / sd


def unequal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Every other treatment varies half as much as the control, the others twice as much."""
    return rng.standard_normal(shape) * np.where(np.arange(shape[1]) % 2, 2.0, 0.5)[:, None]


@dataclass(frozen=True)
class Noise:
    """The noise of the control and of the treatments, each with standard deviation 1, and how often they collapse.

    Accuracies are counted on so many `images`.
    """

    control: Draw = normal
    treatment: Draw = normal
    control_rate: float = 0.0
    treatment_rate: float = 0.0
    images: int = 10_000
    promised: float = 0.0  # the share of claims decided at 3 margins with 5 seeds and 7 claims


NOISES: dict[str, Noise] = {
    "normal": Noise(promised=0.90),
    "heavy": Noise(heavy, heavy, promised=0.85),
    "log-normal": Noise(log_normal, log_normal, promised=0.85),
    "skewed": Noise(bad_tail, bad_tail, promised=0.85),
    "skewed, treatment only": Noise(normal, bad_tail, promised=0.85),
    "skewed the other way": Noise(normal, good_tail, promised=0.85),
    "discrete": Noise(images=1000, promised=0.85),
    "unequal spreads": Noise(normal, unequal, promised=0.75),
    "collapses 0, 2%": Noise(treatment_rate=0.02),
    "collapses 2, 2%": Noise(control_rate=0.02, treatment_rate=0.02),
    "collapses 0, 10%": Noise(treatment_rate=0.1),
    "collapses 10, 0%": Noise(control_rate=0.1),
    "collapses 10, 10%": Noise(control_rate=0.1, treatment_rate=0.1),
    "collapses 50, 50%": Noise(control_rate=0.5, treatment_rate=0.5),
    "collapses 0, 50%": Noise(treatment_rate=0.5),
    "collapses 0, 100%": Noise(treatment_rate=1.0),
    "collapses 100, 0%": Noise(control_rate=1.0),
    "collapses 10, 10%, skewed": Noise(normal, bad_tail, 0.1, 0.1),
}
"""By name; the rates are of the control and of the treatments."""


@dataclass(frozen=True)
class Decisions:
    """Verdicts (sweeps, claims), which of them rest on collapses, and which claims more seeds cannot help."""

    verdicts: Verdicts
    by_collapses: NDArray[np.bool_]
    is_over: NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """The result of one design, noise and effect: shares of sweeps and of claims."""

    wrong: float
    decided: float


def simulate(name: str, design: tuple[int, int], effect: float, sweeps: int, claimed: Claimed = "lower") -> Cell:
    """One cell: noise, (claims, seeds), effect in margins, number of sweeps."""
    control, treated = drawn(name, design, effect, sweeps)
    found = decide(control, treated, claimed)
    for sweep in range(min(CHECKED_BY_JUDGE, sweeps)):
        judged = by_judge(control[sweep, 0], treated[sweep], claimed)
        if judged != [NAMES[verdict] for verdict in found.verdicts[sweep]]:
            raise AssertionError(f"judge says {judged}, the simulation {found.verdicts[sweep]}")
    return Cell(wrong_share(found, effect, NOISES[name], claimed), float((found.verdicts != INCONCLUSIVE).mean()))


def drawn(name: str, design: tuple[int, ...], effect: float, sweeps: int) -> tuple[Floats, Floats]:
    """Accuracies of control (sweeps, 1, seeds) and treatments (sweeps, claims, seeds); `design` ends with the seeds."""
    n_claims, n_seeds = design[0], design[-1]
    rng = np.random.default_rng([*design, *name.encode(), int(100 * effect) + 1000])
    noise, scale = NOISES[name], SD / math.sqrt(2.0)
    shared = 0.95 + 0.001 * rng.standard_normal((sweeps, 1, n_seeds))
    control = shared + scale * noise.control(rng, (sweeps, 1, n_seeds))
    treated = shared - effect * MARGIN + scale * noise.treatment(rng, (sweeps, n_claims, n_seeds))
    for arms, rate in ((control, noise.control_rate), (treated, noise.treatment_rate)):
        if rate:
            fallen = rng.random(arms.shape) < rate
            arms[fallen] = 0.1 + 0.01 * rng.standard_normal(int(fallen.sum()))
    return np.round(control * noise.images) / noise.images, np.round(treated * noise.images) / noise.images


def wrong_share(found: Decisions, effect: float, noise: Noise, claimed: Claimed) -> float:
    """The share of sweeps with a wrong verdict; one margin counts as just inside and as just outside."""
    verdicts, counted = found.verdicts, found.by_collapses
    more, less = noise.treatment_rate > noise.control_rate, noise.treatment_rate < noise.control_rate
    supported, refuted = verdicts == SUPPORTED, verdicts == REFUTED
    if claimed == "lower":
        by_counts = counted & ((supported & (not more)) | (refuted & (not less)))
        inside = supported & ~counted if effect <= 1.0 else np.zeros_like(counted)
        outside = verdicts == EQUIVALENT if abs(effect) >= 1.0 else np.zeros_like(counted)
        if effect >= 1.0:
            outside |= refuted & ~counted
    else:
        by_counts = counted & refuted & (not (more or less))
        inside = refuted & ~counted if abs(effect) <= 1.0 else np.zeros_like(counted)
        outside = supported if abs(effect) >= 1.0 else np.zeros_like(counted)
    return float(max((part | by_counts).any(axis=1).mean() for part in (inside, outside)))


def decide(control: Floats, treated: Floats, claimed: Claimed = "lower", share: float = 1.0) -> Decisions:
    """The rule for accuracies (sweeps, claims or 1, seeds), at a look with so large a `share` of the error rate."""
    alpha = ALPHA / treated.shape[1] * share
    fallen_control, fallen = np.broadcast_to(control < COLLAPSE_AT, treated.shape), treated < COLLAPSE_AT
    gone = fallen_control | fallen
    counts = fallen.sum(axis=2), fallen_control.sum(axis=2)
    shown = unlikely(treated.shape[2], round(alpha * COLLAPSE_SHARE, 15))[counts]
    toward = np.sign(counts[0] - counts[1])  # above zero: the treatment collapses more, which lowers accuracy
    seen = gone.any(axis=2)
    rates = np.where(seen, alpha * (1 - COLLAPSE_SHARE), alpha)
    low, high = intervals(np.where(gone, np.nan, control - treated), rates)  # lower, as claimed, is positive
    return by_rule(low, high, shown, toward, claimed)


def by_rule(low: Floats, high: Floats, shown: NDArray[np.bool_], toward: Floats, claimed: Claimed) -> Decisions:
    """The verdicts on intervals of control minus treatment, nan where there is none, and on collapses.

    `toward` is above zero where the treatment collapses more often; `shown` says that this is no chance.
    """
    unknown = np.isnan(low)
    if claimed == "same":
        within, beyond = (low > -MARGIN) & (high < MARGIN), (high < -MARGIN) | (low > MARGIN)
        by_counts = shown & (toward != 0)
        within &= toward == 0
        found = [REFUTED, INCONCLUSIVE, SUPPORTED, REFUTED]
        verdicts = np.select([by_counts, unknown, within, beyond], found, INCONCLUSIVE)
        return Decisions(verdicts, by_counts, verdicts != INCONCLUSIVE)
    supported, below, reversed_ = low > MARGIN, high < MARGIN, high < 0.0
    denied = below & ~unknown
    hurts, helps = shown & (toward > 0), shown & (toward < 0)
    mixed = (hurts & reversed_ & (low <= -MARGIN)) | (helps & supported)
    refuted_by_counts = helps & (unknown | denied)
    verdicts = np.select(
        [
            mixed,
            hurts,
            refuted_by_counts,
            unknown,
            supported,
            denied & (toward > 0),
            denied & (low > -MARGIN),
            denied,
        ],
        [INCONCLUSIVE, SUPPORTED, REFUTED, INCONCLUSIVE, SUPPORTED, INCONCLUSIVE, EQUIVALENT, REFUTED],
        INCONCLUSIVE,
    )
    return Decisions(verdicts, hurts | refuted_by_counts, (verdicts != INCONCLUSIVE) | mixed)


def intervals(differences: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Limits of differences (sweeps, claims, seeds), nan for pairs that do not count; nan from fewer than 3 pairs."""
    n = (~np.isnan(differences)).sum(axis=2)
    few = n < FEWEST_PAIRS
    d = np.where(few[:, :, None], np.arange(differences.shape[2]) * 1.0, differences)
    n = np.where(few, d.shape[2], n)
    mean, spread = np.nanmean(d, axis=2), np.nanstd(d, axis=2, ddof=1)
    half = _quantiles(alpha)[np.searchsorted(np.unique(alpha), alpha), n] * spread / np.sqrt(n)
    low, high = mean - half, mean + half
    equal = np.nanmax(d, axis=2) - np.nanmin(d, axis=2) <= ROUNDING
    shows_effect = (mean <= ROUNDING - MARGIN) | (mean > MARGIN + ROUNDING)
    least = np.where(shows_effect, np.minimum(mean, 0.0), -1.0)  # what those not seen can be
    most = np.where(shows_effect, np.maximum(mean, 0.0), 1.0)
    share = 1.0 - alpha ** (1.0 / n)
    low, high = (np.where(equal, mean + (end - mean) * share, usual) for end, usual in ((least, low), (most, high)))
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _quantiles(alpha: Floats) -> Floats:
    """Of t for each of the error rates and 0 to 30 values."""
    return np.array([[t_quantile(max(n, 2), rate) for n in range(MOST + 1)] for rate in np.unique(alpha)])


@cache
def unlikely(n: int, level: float) -> NDArray[np.bool_]:
    """For every pair of counts of n whether Barnard's test finds them unequal at the level."""
    table = np.zeros((n + 1, n + 1), dtype=bool)
    for less in range(n):
        more = range(less + 1, n + 1)
        first = less + 1 + bisect_left(more, x=True, key=lambda each: barnard_p_value(each, n, less, n) <= level)
        table[first:, less] = table[less, first:] = True
    return table


def by_judge(control: Floats, treated: Floats, claimed: Claimed = "lower") -> list[str]:
    """The verdicts of the real thing on one sweep: accuracies (seeds,) and (claims, seeds)."""
    rows = [Row({"arm": "control"}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(control)]
    for arm, values in enumerate(treated):
        rows += [Row({"arm": str(arm)}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(values)]
    return [verdict.verdict for verdict in judge(rows, claims(len(treated), claimed))]


def claims(n: int, direction: Direction = "lower") -> list[Claim]:
    """Of each treatment: worse than the control, the same, or as is asked."""
    return [
        Claim(
            name=f"claim-{arm}",
            statement="",
            treatment={"arm": str(arm)},
            control={"arm": "control"},
            direction=direction,
            margin=MARGIN,
        )
        for arm in range(n)
    ]


def main(sweeps: int) -> int:
    """Print the tables; 1 if a promise is broken."""
    print(f"Wrong sweeps in %, the worst over true effects of {EFFECTS[0]:g} to {EFFECTS[-1]:g} margins and over")
    print(f"{CLAIMS} claims, of which every one says lower, or every one same; {sweeps:,} sweeps per cell.\n")
    print(f"| noise | {' | '.join(f'{n} seeds' for n in SEEDS)} |")
    print("|" + "---|" * (len(SEEDS) + 1))
    most, broken, cells = ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / sweeps), [], 0
    for name in NOISES:
        worst = []
        for seeds in SEEDS:
            found = [
                simulate(name, (k, seeds), effect, sweeps, claimed).wrong
                for k in CLAIMS
                for effect in EFFECTS
                for claimed in ("lower", "same")
            ]
            worst.append(max(found))
            cells += len(found)
        broken += [name] * (max(worst) > most)
        print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in worst)} |", flush=True)
    print(f"\n{cells:,} cells. Claims decided in %, with five seeds and seven claims that say lower:\n")
    print(f"| noise | {' | '.join(f'{effect:+g}' if effect else '0' for effect in EFFECTS)} | promised at +3 |")
    print("|" + "---|" * (len(EFFECTS) + 2))
    for name, noise in NOISES.items():
        decided = {effect: simulate(name, (7, 5), effect, sweeps).decided for effect in EFFECTS}
        shares = " | ".join(f"{100 * share:.0f}" for share in decided.values())
        print(f"| {name} | {shares} | {f'{noise.promised:.0%}' if noise.promised else ''} |", flush=True)
        broken += [name] * (decided[3.0] < noise.promised)
    print(f"\nBroken promises: {', '.join(broken) or 'none'}.")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
