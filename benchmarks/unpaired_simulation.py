"""How often verdicts without common seeds are wrong, and how often they decide; prints a Markdown table.

    python benchmarks/unpaired_simulation.py [SWEEPS]      4,000 sweeps per cell by default: half a minute on one core

As `verdict_simulation`, but every arm has other seeds, and the numbers of results and the spreads may differ. Nothing
cancels, so the noise is that of an arm. Exits 1 if more than 5% of sweeps are wrong beyond what chance allows, where
that is promised: not for skewed noise where one arm spreads four times as much as the other, or has twice the results.
"""

import math
import sys
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import special
from verdict_simulation import (
    EQUIVALENT,
    INCONCLUSIVE,
    MARGIN,
    NAMES,
    NOISES,
    REFUTED,
    ROUNDING,
    SUPPORTED,
    Cell,
    Floats,
    claims,
)

from mnist_ablate.statistics.verdict import ALPHA, judge
from mnist_ablate.trial import Row

SD = 0.001
CHECKED_BY_JUDGE = 3
EFFECTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # in margins
KINDS = ("normal", "heavy", "skewed", "skewed, treatment only")
DESIGNS = ((1, 3, 3), (1, 5, 5), (1, 10, 10), (1, 4, 12), (1, 12, 4), (7, 5, 5), (7, 10, 10), (7, 5, 15))
"""Claims, results of the control, results of each treatment."""
RATIOS = ((1.0,), (4.0, 0.25))  # the spread of the treatments over that of the control; the worst of a group is shown


def simulate(name: str, design: tuple[int, int, int], ratio: float, effect: float, sweeps: int) -> Cell:
    """One cell: noise, design, ratio of the spreads, effect in margins, number of sweeps."""
    n_claims, n_control, n_treated = design
    rng = np.random.default_rng([*design, *name.encode(), int(100 * ratio), int(100 * effect) + 1000])
    noise = NOISES[name]
    control = np.round(0.97 + SD * noise.control(rng, (sweeps, 1, n_control)), 4)
    treated = np.round(0.97 + effect * MARGIN + ratio * SD * noise.treatment(rng, (sweeps, n_claims, n_treated)), 4)
    verdicts = decide(control, treated)
    for sweep in range(min(CHECKED_BY_JUDGE, sweeps)):
        judged = _by_judge(control[sweep, 0], treated[sweep])
        if judged != [NAMES[verdict] for verdict in verdicts[sweep]]:
            raise AssertionError(f"judge says {judged}, the simulation {verdicts[sweep]}")
    return Cell(wrong_share(verdicts, effect), float((verdicts != INCONCLUSIVE).mean()))


def wrong_share(verdicts: NDArray[np.int64], effect: float) -> float:
    """The share of sweeps with a wrong claim; one margin counts as just inside and as just outside."""
    inside = (verdicts == SUPPORTED).any(axis=1).mean() if effect <= 1.0 else 0.0
    denied = verdicts == EQUIVALENT if abs(effect) >= 1.0 else np.zeros_like(verdicts, dtype=bool)
    if effect >= 1.0:
        denied |= verdicts == REFUTED
    return float(max(inside, denied.any(axis=1).mean()))


def decide(control: Floats, treated: Floats) -> NDArray[np.int64]:
    """Welch's intervals at the simultaneous level: arms (sweeps, 1 or claims, results) -> verdicts."""
    parts = [x.var(axis=2, ddof=1) / x.shape[2] for x in (treated, control)]
    variance = parts[0] + parts[1]
    with np.errstate(invalid="ignore"):
        freedom = variance**2 / sum(
            part**2 / (x.shape[2] - 1) for part, x in zip(parts, (treated, control), strict=True)
        )
        half = -special.stdtrit(freedom, ALPHA / treated.shape[1] / 2) * np.sqrt(variance)
    mean = treated.mean(axis=2) - control.mean(axis=2)
    low, high, is_known = mean - half, mean + half, variance > ROUNDING**2
    supported, below = is_known & (low > MARGIN), is_known & (high < MARGIN)
    equivalent = below & (low > -MARGIN)
    return np.select([supported, equivalent, below], [SUPPORTED, EQUIVALENT, REFUTED], INCONCLUSIVE).astype(np.int64)


def _by_judge(control: Floats, treated: Floats) -> list[str]:
    rows = [Row({"arm": "control"}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(control)]
    for arm, values in enumerate(treated):
        first = 1000 * (arm + 1)
        rows += [Row({"arm": str(arm)}, first + n, {"test_accuracy": float(value)}) for n, value in enumerate(values)]
    return [verdict.verdict for verdict in judge(rows, claims(len(treated), "higher"))]


def main(sweeps: int) -> int:
    """Print the table; 1 if a promise is broken."""
    effects = " | ".join(f"{effect:+g}" if effect else "0" for effect in EFFECTS)
    print(f"Wrong sweeps in % at a true effect of so many margins; {sweeps:,} sweeps per cell.\n")
    print(f"| claims | control, treated | noise | spreads | {effects} | decided at +2 |")
    print("|" + "---|" * (len(EFFECTS) + 5))
    most = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / sweeps)
    broken = 0
    for design, name, ratios in product(DESIGNS, KINDS, RATIOS):
        cells = [[simulate(name, design, ratio, effect, sweeps) for ratio in ratios] for effect in EFFECTS]
        worst = [max(cell.wrong for cell in each) for each in cells]
        wrong = " | ".join(f"{100 * each:.1f}" for each in worst)
        spreads, decided = "alike" if len(ratios) == 1 else "4 to 1", min(cell.decided for cell in cells[-1])
        print(
            f"| {design[0]} | {design[1]}, {design[2]} | {name} | {spreads} | {wrong} | {100 * decided:.0f}% |",
            flush=True,
        )
        is_promised = not name.startswith("skewed") or (len(ratios) == 1 and design[1] == design[2])
        broken += is_promised and max(worst) > most
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
