"""How often intervals miss that take in the sampling of the test images; prints a Markdown table.

    python benchmarks/image_sampling_simulation.py [SWEEPS]      2,000 sweeps per cell by default: some minutes

Each simulated sweep draws its test images, then compares k treatments with one control over n seeds. Most images are
easy: every network has them right. Of the hard ones each has a probability to be right, from 0 to 1, which a seed moves
up or down. A treatment sees a share of the hard images differently: there its probability is drawn again. So all true
differences, over seeds and images, are zero, and those on the images that were drawn are not.

A sweep misses if any of its k simultaneous intervals does. "seeds alone" is the interval that takes the test images as
fixed. "summed" adds the variance of the image means, as a bootstrap has it, and takes Satterthwaite's degrees of
freedom; "shares" does so with what images add alone. The rule is written a second time here; the first sweeps of each
cell go through `judge` too, and must agree. Exits 1 if the rule misses more than 5% in a cell, beyond what 2.6 standard
errors of the simulation explain.
"""

import math
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mnist_ablate.image_results import encoded
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row

Floats = NDArray[np.float64]
SEEDS = (3, 4, 5, 6, 8, 10, 20)
CLAIMS = (1, 7)
CHECKED_BY_JUDGE = 2
METHODS = ("seeds alone", "summed", "shares", "rule")


class World(NamedTuple):
    """So many test images, the share of hard ones, of these the share seen differently, and how far seeds move."""

    images: int
    hard: float
    differently: float
    moved: float


WORLDS = {
    "as MNIST": World(10_000, 0.03, 0.3, 0.03),
    "images alone": World(10_000, 0.03, 1.0, 0.0),
    "seeds alone": World(10_000, 0.03, 0.0, 0.2),
    "neither": World(10_000, 0.03, 0.0, 0.0),
    "both": World(10_000, 0.03, 1.0, 0.1),
    "hard task": World(10_000, 0.1, 0.5, 0.03),
    "1,000 images": World(1000, 0.1, 0.5, 0.05),
    "200 images": World(200, 0.1, 1.0, 0.05),
}


def drawn(world: World, n_claims: int, n_seeds: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which hard images are right (arms, seeds, hard images); the first arm is the control."""
    hard = max(1, int(rng.binomial(world.images, world.hard)))
    chances = np.repeat(rng.random((1, 1, hard)), n_claims + 1, axis=0)
    own = rng.random((n_claims, 1, hard))
    chances[1:] = np.where(rng.random(own.shape) < world.differently, own, chances[1:])
    moved = world.moved * rng.standard_normal((n_claims + 1, n_seeds, 1))
    return rng.random((n_claims + 1, n_seeds, hard)) < chances + moved


def intervals(right: NDArray[np.bool_], images: int) -> dict[str, tuple[Floats, Floats]]:
    """Mean and half width for each claim, by method. Images that are not among the hard ones have no difference."""
    d = right[1:].astype(np.float64) - right[:1]
    k, n, _ = d.shape
    of_seeds, of_images = d.sum(axis=2) / images, d.mean(axis=1)
    mean = of_seeds.mean(axis=1)
    seed_variance = of_seeds.var(axis=1, ddof=1) / n
    image_squares = (of_images**2).sum(axis=1) - images * mean**2
    rest = (d**2).sum(axis=(1, 2)) - n * (of_images**2).sum(axis=1) - images * (of_seeds**2).sum(axis=1)
    rest = (rest + n * images * mean**2) / ((n - 1) * (images - 1))
    summed = image_squares / (images - 1) / images
    added = np.maximum(0.0, summed - rest / n / images)
    alpha, found = ALPHA / k / 2, {}
    for method, more in zip(METHODS, (0.0, summed, added), strict=False):
        whole = seed_variance + more
        freedom = np.minimum((n - 1) * (whole / np.maximum(seed_variance, 1e-12)) ** 2, 1e9)
        found[method] = mean, -special.stdtrit(freedom, alpha) * np.sqrt(whole)
    squares = special.stdtrit(n - 1, alpha) ** 2 * seed_variance + special.ndtri(alpha) ** 2 * added
    return {**found, "rule": (mean, np.sqrt(squares))}


def by_judge(right: NDArray[np.bool_], images: int) -> list[float]:
    """The half widths of the real thing."""
    easy = np.ones((*right.shape[:2], images - right.shape[2]), bool)
    every = np.concatenate((right, easy), axis=2)
    rows = [
        Row({"arm": str(arm)}, seed, {"test_accuracy": float(bits.mean())}, "complete", encoded(bits))
        for arm, seeds in enumerate(every)
        for seed, bits in enumerate(seeds)
    ]
    about = {"statement": "", "control": {"arm": "0"}, "direction": "same", "margin": 0.001, "collapse_at": 0.0}
    claims = [Claim(name=f"claim-{arm}", treatment={"arm": str(arm)}, **about) for arm in range(1, len(every))]
    sweep = Sweep(name="s", question="q", seeds=3, claims=claims, vary=["init", "order", "dropout", "test"])
    return [(found.ci_high - found.ci_low) / 2 for found in judge(rows, sweep.every_claim)]


def missed(world: World, n_claims: int, n_seeds: int, sweeps: int) -> dict[str, float]:
    """The share of sweeps with an interval that misses zero, by method."""
    rng = np.random.default_rng([world.images, n_claims, n_seeds, round(1000 * (world.hard + 10 * world.moved))])
    count = dict.fromkeys(METHODS, 0)
    for sweep in range(sweeps):
        right = drawn(world, n_claims, n_seeds, rng)
        found = intervals(right, world.images)
        differs = np.ptp(right[1:].sum(axis=2) - right[:1].sum(axis=2).astype(int), axis=1) > 0
        if sweep < CHECKED_BY_JUDGE and differs.all():
            np.testing.assert_allclose(by_judge(right, world.images), found["rule"][1], rtol=1e-9)
        for method, (mean, half) in found.items():
            count[method] += bool(np.any((np.abs(mean) > half + 1e-12) & differs))
    return {method: number / sweeps for method, number in count.items()}


def main(sweeps: int) -> int:
    """Print the table; 1 if the rule misses too often."""
    print(f"Sweeps in which an interval misses, in %, the worst of {CLAIMS} claims; {sweeps:,} sweeps per cell.\n")
    print(f"| test images | interval | {' | '.join(f'{n} seeds' for n in SEEDS)} |")
    print("|" + "---|" * (len(SEEDS) + 2))
    worst = 0.0
    for name, world in WORLDS.items():
        cells = [[missed(world, k, n, sweeps) for k in CLAIMS] for n in SEEDS]
        for method in METHODS:
            shares = [max(cell[method] for cell in each) for each in cells]
            print(f"| {name} | {method} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |", flush=True)
            worst = max(worst, *shares) if method == "rule" else worst
    most = ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / sweeps)
    print(f"\nThe rule misses in at most {100 * worst:.1f}%; {100 * most:.1f}% are allowed.")
    return int(worst > most)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
