"""How often verdicts without common seeds are wrong, and how often they decide; prints a Markdown table.

    python benchmarks/unpaired_simulation.py [SWEEPS]      4,000 sweeps per cell by default: two minutes on one core

As `verdict_simulation`, but every arm has other seeds, and the numbers of results and the spreads may differ. Nothing
cancels, so the noise is that of an arm. Of some kinds trainings collapse; Welch's interval is of those that did not.
Exits 1 if more than 5% of sweeps are wrong beyond what chance allows, where that is promised: not for skewed noise
where one arm spreads four times as much as the other, or has three times the results.
"""

import math
import sys
from functools import cache
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy import special
from verdict_simulation import (
    COLLAPSE_AT,
    INCONCLUSIVE,
    MARGIN,
    NAMES,
    NOISES,
    ROUNDING,
    Cell,
    Claimed,
    Decisions,
    Floats,
    by_rule,
    claims,
    wrong_share,
)

from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.collapses import barnard_p_value
from mnist_ablate.statistics.decision_rule import COLLAPSE_SHARE
from mnist_ablate.statistics.unpaired import LEAST
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.trial import Row

SD = 0.001
CHECKED_BY_JUDGE = 3
EFFECTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # in margins, positive as claimed by "lower"
KINDS = ("normal", "heavy", "skewed", "skewed, treatment only", *(name for name in NOISES if "collapses" in name))
DESIGNS = ((1, 3, 3), (1, 5, 5), (1, 10, 10), (1, 4, 12), (1, 12, 4), (7, 5, 5), (7, 10, 10), (7, 5, 15))
"""Claims, results of the control, results of each treatment."""
RATIOS = ((1.0,), (4.0, 0.25))  # the spread of the treatments over that of the control; the worst of a group is shown


def simulate(  # noqa: PLR0913, PLR0917 - what makes a cell
    name: str, design: tuple[int, int, int], ratio: float, effect: float, sweeps: int, claimed: Claimed = "lower"
) -> Cell:
    """One cell: noise, design, ratio of the spreads, effect in margins, number of sweeps."""
    n_claims, n_control, n_treated = design
    rng = np.random.default_rng([*design, *name.encode(), int(100 * ratio), int(100 * effect) + 1000])
    noise = NOISES[name]
    control = 0.97 + SD * noise.control(rng, (sweeps, 1, n_control))
    treated = 0.97 - effect * MARGIN + ratio * SD * noise.treatment(rng, (sweeps, n_claims, n_treated))
    for arms, rate in ((control, noise.control_rate), (treated, noise.treatment_rate)):
        fallen = rng.random(arms.shape) < rate
        arms[fallen] = 0.1 + 0.01 * rng.standard_normal(int(fallen.sum()))
    control, treated = np.round(control, 4), np.round(treated, 4)
    found = decide(control, treated, claimed)
    for sweep in range(min(CHECKED_BY_JUDGE, sweeps)):
        judged = _by_judge(control[sweep, 0], treated[sweep], claimed)
        if judged != [NAMES[verdict] for verdict in found.verdicts[sweep]]:
            raise AssertionError(f"judge says {judged}, the simulation {found.verdicts[sweep]}")
    return Cell(wrong_share(found, effect, noise, claimed), float((found.verdicts != INCONCLUSIVE).mean()))


def decide(control: Floats, treated: Floats, claimed: Claimed = "lower") -> Decisions:
    """The rule with Welch's intervals of what trained: arms (sweeps, 1 or claims, results)."""
    alpha = ALPHA / treated.shape[1]
    arms = [np.where(x < COLLAPSE_AT, np.nan, x) for x in (treated, control)]
    fallen = np.broadcast_arrays(*(np.isnan(x).sum(axis=2) for x in arms))
    counts = [(~np.isnan(x)).sum(axis=2) for x in arms]
    rates = np.where(fallen[0] + fallen[1] > 0, alpha * (1 - COLLAPSE_SHARE), alpha)
    filled = [np.where((n < LEAST)[:, :, None], np.arange(x.shape[2]), x) for x, n in zip(arms, counts, strict=True)]
    sizes = [(~np.isnan(x)).sum(axis=2) for x in filled]
    parts = [np.nanvar(x, axis=2, ddof=1) / n for x, n in zip(filled, sizes, strict=True)]
    variance = parts[0] + parts[1]
    with np.errstate(invalid="ignore"):
        freedom = variance**2 / sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
        half = -special.stdtrit(freedom, rates / 2) * np.sqrt(variance)
    mean = np.nanmean(filled[1], axis=2) - np.nanmean(filled[0], axis=2)
    known = (counts[0] >= LEAST) & (counts[1] >= LEAST) & (variance > ROUNDING**2)
    low, high = (np.where(known, end, np.nan) for end in (mean - half, mean + half))
    n_treated, n_control = treated.shape[2], control.shape[2]
    shown = unlikely(n_treated, n_control, round(alpha * COLLAPSE_SHARE, 15))[fallen[0], fallen[1]]
    return by_rule(low, high, shown, np.sign(fallen[0] / n_treated - fallen[1] / n_control), claimed)


@cache
def unlikely(treated: int, control: int, level: float) -> NDArray[np.bool_]:
    """For every pair of counts whether Barnard's test finds the shares unequal at the level."""
    table = np.zeros((treated + 1, control + 1), dtype=bool)
    for more, less in product(range(treated + 1), range(control + 1)):
        difference = more * control - less * treated
        sides = (more, treated, less, control) if difference > 0 else (less, control, more, treated)
        table[more, less] = difference != 0 and barnard_p_value(*sides) <= level
    return table


def _by_judge(control: Floats, treated: Floats, claimed: Claimed) -> list[str]:
    rows = [Row({"arm": "control"}, seed, {"test_accuracy": float(value)}) for seed, value in enumerate(control)]
    for arm, values in enumerate(treated):
        first = 1000 * (arm + 1)
        rows += [Row({"arm": str(arm)}, first + n, {"test_accuracy": float(value)}) for n, value in enumerate(values)]
    return [verdict.verdict for verdict in judge(rows, claims(len(treated), claimed))]


def main(sweeps: int) -> int:
    """Print the table; 1 if a promise is broken."""
    effects = " | ".join(f"{effect:+g}" if effect else "0" for effect in EFFECTS)
    print(f"Wrong sweeps in % at a true effect of so many margins; {sweeps:,} sweeps per cell.\n")
    print(f"| claims | control, treated | noise | spreads | {effects} | decided at +2 |")
    print("|" + "---|" * (len(EFFECTS) + 5))
    most = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / sweeps)
    broken = 0
    for design, name, ratios in product(DESIGNS, KINDS, RATIOS):
        if "collapses" in name and len(ratios) > 1:
            continue
        asked = [*product(ratios, get_args(Claimed))]
        cells = [[simulate(name, design, ratio, at, sweeps, claimed) for ratio, claimed in asked] for at in EFFECTS]
        worst = [max(cell.wrong for cell in each) for each in cells]
        wrong = " | ".join(f"{100 * each:.1f}" for each in worst)
        spreads, decided = "alike" if len(ratios) == 1 else "4 to 1", min(cell.decided for cell in cells[-1][::2])
        print(
            f"| {design[0]} | {design[1]}, {design[2]} | {name} | {spreads} | {wrong} | {100 * decided:.0f}% |",
            flush=True,
        )
        is_promised = "skewed" not in name or (len(ratios) == 1 and design[1] == design[2])
        broken += is_promised and max(worst) > most
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
