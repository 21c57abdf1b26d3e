"""How often verdicts of adaptive sweeps are wrong, and what they save, on simulated sweeps; prints a Markdown table.

    python benchmarks/adaptive_simulation.py [SWEEPS]      2,000 sweeps per cell by default: some minutes on one core

As `verdict_simulation`, with `seeds: {min, max}` in place of a number: k treatments and one control, every treatment
with the same true effect, every claim "higher", noise of several kinds. The claims are judged at every look, and only
the arms of open claims get more seeds. Beside each sweep the same one is judged with max seeds for all.

The rule is written a second time here, for whole arrays; the first sweeps of each cell go through the rounds of the
program too (`adaptive.seeds_wanted`, then `judge`), and must agree in verdicts and in seeds. Exits 1 if more than 5% of
sweeps are wrong in any cell, or if less than 80% of the claims are decided at twice the margin with normal noise.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from verdict_simulation import (
    EFFECTS,
    INCONCLUSIVE,
    NAMES,
    NOISES,
    POWER,
    Floats,
    by_interval,
    claims,
    drawn,
    sign_flip_p_values,
    wrong_share,
)

from mnist_ablate.ledger.progress import seeds_wanted
from mnist_ablate.statistics.paired_tests import holm, sign_flip_p_value
from mnist_ablate.statistics.verdict import ALPHA, judge
from mnist_ablate.sweep.adaptive_schedule import Look, look_schedule
from mnist_ablate.trial import Row

DESIGNS = ((1, 6, 30), (7, 6, 30), (7, 10, 20), (25, 10, 24))  # claims, fewest seeds, most seeds
CHECKED = 3
MOST_PATTERNS = 10
"""Pairs up to which the sign flips of all sweeps are counted at once; beyond, only where a verdict hangs on them."""

Verdicts = NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """One design, noise and effect: the share of sweeps that are wrong, of claims that are decided, of trials used."""

    wrong: float
    decided: float
    trials: float


@dataclass
class _Flips:
    """Sign-flip p-values of one sweep's claims, corrected for the looks so far; counted when they are asked for."""

    differences: Floats  # (claims, seeds)
    known: Mapping[int, Floats]  # by pairs: (claims,)
    counted: dict[tuple[int, int], float] = field(default_factory=dict)  # by claim and pairs

    def p_value(self, claim: int, taken: list[Look]) -> float:
        """The least over the looks that the claim has taken, each divided by its share."""
        return min(1.0, *(self._at(claim, look.seeds or 0) / look.share for look in taken))

    def _at(self, claim: int, n: int) -> float:
        found = self.known.get(n)
        if found is not None:
            return float(found[claim])
        if (claim, n) not in self.counted:
            self.counted[claim, n] = sign_flip_p_value(self.differences[claim, :n])
        return self.counted[claim, n]


def simulate(name: str, design: tuple[int, int, int], effect: float, sweeps: int) -> Cell:
    """One cell: noise, (claims, fewest seeds, most), effect in margins, number of sweeps."""
    n_claims, least, most = design
    control, treated = drawn(name, design, effect, sweeps)
    verdicts, seeds = adaptive(treated - control, look_schedule(least, most))
    for sweep in range(min(CHECKED, sweeps)):
        judged = by_rounds(control[sweep, 0], treated[sweep], look_schedule(least, most))
        if judged != ([NAMES[verdict] for verdict in verdicts[sweep]], [int(seeds[sweep].max()), *seeds[sweep]]):
            raise AssertionError(f"the program says {judged}, the simulation {verdicts[sweep]} {seeds[sweep]}")
    trials = (seeds.sum(axis=1) + seeds.max(axis=1)).mean() / ((n_claims + 1) * most)
    return Cell(wrong_share(verdicts, effect), float((verdicts != INCONCLUSIVE).mean()), float(trials))


def adaptive(differences: Floats, taken: tuple[Look, ...]) -> tuple[Verdicts, Verdicts]:
    """The rule for "higher": differences (sweeps, claims, seeds) -> verdicts and seeds, both (sweeps, claims)."""
    sweeps, n_claims, _ = differences.shape
    known = {n: sign_flip_p_values(differences[:, :, :n]) for look in taken if (n := look.seeds or 0) <= MOST_PATTERNS}
    flips = [_Flips(d, {n: p[i] for n, p in known.items()}) for i, d in enumerate(differences)]
    verdicts = np.full((sweeps, n_claims), INCONCLUSIVE)
    last = np.zeros((sweeps, n_claims), dtype=np.int64)  # the number of looks taken
    for look in taken:
        open_ = verdicts == INCONCLUSIVE
        last[open_] = look.number
        found, shows_effect = by_interval(differences[:, :, : look.seeds], ALPHA / n_claims * look.share)
        for sweep in np.flatnonzero((open_ & shows_effect).any(axis=1)):
            stopped = [taken[:number] for number in last[sweep]]
            p_values = holm([flips[sweep].p_value(claim, list(stopped[claim])) for claim in range(n_claims)])
            found[sweep][shows_effect[sweep] & (np.array(p_values) > ALPHA)] = INCONCLUSIVE
        verdicts[open_] = found[open_]
    seeds = np.array([0, *(look.seeds or 0 for look in taken)])[last]
    return verdicts, seeds


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
    """Print the table; 1 if a promise is broken."""
    effects = " | ".join(f"{effect:+g}" if effect else "0" for effect in EFFECTS)
    print(f"Wrong sweeps in %, claims decided in %, and trials in % of max seeds for all; {sweeps:,} sweeps per cell.")
    print("True effects in margins; one margin counts as just inside and as just outside.\n")
    print(f"| claims | seeds | noise | what | {effects} |")
    print("|" + "---|" * (len(EFFECTS) + 4))
    broken = 0
    for design in DESIGNS:
        for name in NOISES:
            cells = [simulate(name, design, effect, sweeps) for effect in EFFECTS]
            for what, shares in (
                ("wrong", [f"{100 * cell.wrong:.1f}" for cell in cells]),
                ("decided", [f"{100 * cell.decided:.0f}" for cell in cells]),
                ("trials", [f"{100 * cell.trials:.0f}" for cell in cells]),
            ):
                print(
                    f"| {design[0]} | {design[1]} to {design[2]} | {name} | {what} | {' | '.join(shares)} |", flush=True
                )
            broken += any(cell.wrong > ALPHA for cell in cells)
            broken += name == "normal" and min(cells[0].decided, cells[-1].decided) < POWER
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
