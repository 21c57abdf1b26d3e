"""How often verdicts of adaptive sweeps are wrong, and what they save, on simulated sweeps; prints Markdown tables.

    python benchmarks/adaptive_simulation.py [SWEEPS]      2,000 sweeps per cell by default: some minutes on one core

As `verdict_simulation`, with `seeds: {min, max}` in place of a number: k treatments and one control, every treatment
with the same true effect, every claim "lower", noise of several kinds. The claims are judged at every look, and only
the arms of open claims get more seeds. Beside each sweep the same one is judged with max seeds for all.

The rule is written a second time there, for whole arrays; the first sweeps of each cell go through the rounds of the
program too (`progress.seeds_wanted`, then `judge`), and must agree in verdicts and in seeds. Exits 1 if more than 5% of
sweeps are wrong in any cell, or if less than 80% of the claims are decided at three margins with normal noise.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np
from verdict_simulation import (
    EFFECTS,
    INCONCLUSIVE,
    NAMES,
    NOISES,
    Decisions,
    Floats,
    Verdicts,
    claims,
    decide,
    drawn,
    wrong_share,
)

from mnist_ablate.ledger.progress import seeds_wanted
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.adaptive_schedule import Look, look_schedule
from mnist_ablate.trial import Row

DESIGNS = ((1, 4, 30), (7, 4, 30), (20, 4, 30), (7, 6, 20))  # claims, fewest seeds, most seeds
CHECKED = 2
POWER = 0.8


@dataclass(frozen=True)
class Cell:
    """Shares: of sweeps that are wrong, of claims that are decided, of trials used. And the mean seeds of a claim."""

    wrong: float
    decided: float
    trials: float
    seeds: float


def simulate(name: str, design: tuple[int, int, int], effect: float, sweeps: int) -> Cell:
    """One cell: noise, (claims, fewest seeds, most), effect in margins, number of sweeps."""
    n_claims, least, most = design
    control, treated = drawn(name, design, effect, sweeps)
    found, seeds = adaptive(control, treated, look_schedule(least, most))
    for sweep in range(min(CHECKED, sweeps)):
        judged = by_rounds(control[sweep, 0], treated[sweep], look_schedule(least, most))
        expected = [NAMES[verdict] for verdict in found.verdicts[sweep]], [int(seeds[sweep].max()), *seeds[sweep]]
        if judged != expected:
            raise AssertionError(f"the program says {judged}, the simulation {expected}")
    trials = (seeds.sum(axis=1) + seeds.max(axis=1)).mean() / ((n_claims + 1) * most)
    decided = float((found.verdicts != INCONCLUSIVE).mean())
    return Cell(wrong_share(found, effect, NOISES[name], "lower"), decided, float(trials), float(seeds.mean()))


def adaptive(control: Floats, treated: Floats, taken: tuple[Look, ...]) -> tuple[Decisions, Verdicts]:
    """Accuracies (sweeps, 1 or claims, seeds) -> what was decided, and the seeds of each claim, (sweeps, claims)."""
    verdicts = np.full(treated.shape[:2], INCONCLUSIVE)
    by_collapses = np.zeros(treated.shape[:2], dtype=bool)
    seeds, open_ = np.zeros_like(verdicts), np.ones_like(by_collapses)
    for look in taken:
        seeds[open_] = look.seeds
        found = decide(control[:, :, : look.seeds], treated[:, :, : look.seeds], share=look.share)
        verdicts[open_], by_collapses[open_] = found.verdicts[open_], found.by_collapses[open_]
        open_ &= ~found.is_over
    return Decisions(verdicts, by_collapses, ~open_), seeds


def by_rounds(control: Floats, treated: Floats, taken: tuple[Look, ...]) -> tuple[list[str], list[int]]:
    """Verdicts, and seeds of control and treatments, as the program comes to them, a round after the other."""
    values = {"control": control, **{str(arm): each for arm, each in enumerate(treated)}}
    arms = [{"arm": name} for name in values]
    asked = claims(len(treated))
    rows: list[Row] = []
    seeds = [0] * len(arms)
    while (wanted := seeds_wanted(arms, rows, asked, taken)) != seeds:
        seeds = wanted
        rows = [
            Row(arm, seed, {"test_accuracy": float(values[arm["arm"]][seed])})
            for arm, n in zip(arms, seeds, strict=True)
            for seed in range(n)
        ]
    return [verdict.verdict for verdict in judge(rows, asked, looks=taken)], seeds


def main(sweeps: int) -> int:
    """Print the tables; 1 if a promise is broken."""
    print(
        f"Wrong sweeps in %, the worst over true effects of {EFFECTS[0]:g} to {EFFECTS[-1]:g} margins, and seeds that"
    )
    print(f"a claim takes on average at some of them; {sweeps:,} sweeps per cell.\n")
    shown = (-3.0, 0.0, 0.5, 1.0, 3.0, 10.0)
    print(f"| claims | seeds | noise | wrong | {' | '.join(f'{e:+g}' if e else '0' for e in shown)} | decided at +3 |")
    print("|" + "---|" * (len(shown) + 5))
    most, broken = ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / sweeps), 0
    for design in DESIGNS:
        for name in NOISES:
            cells = {effect: simulate(name, design, effect, sweeps) for effect in EFFECTS}
            worst = max(cell.wrong for cell in cells.values())
            taken = " | ".join(f"{cells[effect].seeds:.1f}" for effect in shown)
            start = f"| {design[0]} | {design[1]} to {design[2]} | {name} | {100 * worst:.1f}"
            print(f"{start} | {taken} | {cells[3.0].decided:.0%} |", flush=True)
            broken += worst > most or (name == "normal" and cells[3.0].decided < POWER)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
