"""How often verdicts of each kind of claim are wrong at the margin, and how often they decide; prints a Markdown table.

    python benchmarks/claim_kinds_simulation.py [SWEEPS] [KIND...]      1,500 sweeps per cell by default

Every simulated sweep goes through `judge`. The true effect lies exactly at the margin, where an error is easiest: it
counts as just inside and as just outside, whichever is worse. Where a claim needs several comparisons, the cases are
one comparison at the margin with the others far beyond (easiest to support wrongly), and all at the margin (easiest to
refute wrongly). With one claim of 5%, and with four independent claims that share it. Exits 1 if a cell is wrong in
more than 5%, beyond what 2.6 standard errors of the simulation explain.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ablate.statistics import evidence
from mnist_ablate.statistics.claim_verdict import ALPHA
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.claim import Claim, keys_of
from mnist_ablate.trial import Row, Scalar

Floats = NDArray[np.float64]
Arm = Mapping[str, Scalar]
Draw = Callable[[np.random.Generator, int], Floats]
MARGIN, SD = 0.002, 0.00085  # of accuracy, and of one arm's noise
FACTOR, LOG_SD = 1.5, 0.12  # of a ratio, and of the logarithm of one arm's loss
SEEDS, SEVERAL = (3, 5, 8, 15, 30), (5, 15)  # of one claim, and of four
CLAIMS, POWER_SEEDS = 4, (5, 10, 20)


def normal(rng: np.random.Generator, n: int) -> Floats:
    """What the t interval assumes."""
    return rng.standard_normal(n)


def heavy(rng: np.random.Generator, n: int) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, n) / math.sqrt(3.0)


def skewed(rng: np.random.Generator, n: int) -> Floats:
    """An exponential tail to the left: now and then a bad run."""
    return 1.0 - rng.standard_exponential(n)


NOISES: dict[str, tuple[Draw, int, float]] = {
    "normal": (normal, 10_000, 0.0),
    "t3": (heavy, 10_000, 0.0),
    "skewed": (skewed, 10_000, 0.0),
    "discrete": (normal, 1000, 0.0),
    "collapsing": (normal, 10_000, 0.1),
}
"""The noise of an arm, on how many images it is counted, and how often trainings collapse."""
LETTERS: list[Scalar] = ["a", "b", "c", "d"]


@dataclass(frozen=True)
class Kind:
    """A claim, its factors, and the mean of each arm at so many margins in each of the `cases`."""

    claim: Claim
    factors: Mapping[str, list[Scalar]]
    mean: Callable[[Arm, float, str], float]
    cases: tuple[str, ...] = ("",)
    spread: Callable[[Arm, float], float] = field(default=lambda _arm, _effect: 1.0)
    curve: Callable[[np.random.Generator, Draw, Arm, float, int], list[Any]] | None = None
    powers: tuple[float, ...] = (2.0, 3.0)
    seeds: tuple[int, ...] = POWER_SEEDS


def _claim(kind: str, **about: Any) -> Claim:
    keys = keys_of({"kind": kind})
    given = {"name": kind, "kind": kind, "statement": "s", "direction": "higher", "margin": MARGIN, **about}
    return keys(**{key: value for key, value in given.items() if key not in keys.never})


TWO: dict[str, Any] = {"treatment": {"arm": "a"}, "control": {"arm": "b"}}
PAIR: Mapping[str, list[Scalar]] = {"arm": ["a", "b"]}
ON: dict[str, Any] = {"x": 1, "y": 1, "z": 1}
OFF: dict[str, Any] = {"x": 0, "y": 0, "z": 0}


def _lead(arm: Arm, effect: float, case: str) -> float:
    """The treatment leads one rival, or all of them, by so much; the others by ten margins."""
    if arm["arm"] == "a":
        return 0.95
    return 0.95 - MARGIN * (effect if case != "one" or arm["arm"] == "b" else 10.0)


def _apart(arm: Arm, effect: float, case: str) -> float:
    """One value, or half of them, differs by so much from the others."""
    return 0.95 + MARGIN * effect * (arm["arm"] == "d" if case == "one" else arm["arm"] in ("c", "d"))


def _slope(arm: Arm, effect: float, case: str) -> float:
    steps = math.log2(float(arm["width"]) / 25)
    if case != "step":
        return 0.94 + MARGIN * effect * steps
    # Steep, but the last step goes nowhere if the effect is 1, and on if it is more.
    return 0.94 + 4 * MARGIN * min(steps, 2.0) + MARGIN * 2 * (effect - 1.0) * max(steps - 2.0, 0.0)


def _worst(arm: Arm, effect: float, _case: str) -> float:
    """At the largest rate both are worst, by far."""
    return 0.96 - (0.03 + MARGIN * effect * (arm["arm"] == "b")) * (arm["rate"] == 1.0)


def _sum(arm: Arm, effect: float, case: str) -> float:
    rest = 0.002 if case == "each" else 0.004
    others = rest * (float(arm["y"]) + (float(arm["z"]) if case != "each" else -5.0 * float(arm["z"])))
    return 0.93 + others + float(arm["x"]) * (MARGIN * effect + (rest if case == "each" else 0.0))


def _times(rng: np.random.Generator, draw: Draw, arm: Arm, effect: float, seeds: int) -> list[Any]:
    """Curves of ten epochs that reach the level after about eight, the treatment `effect` sooner; some never do."""
    at = np.clip(8 + np.round(1.2 * draw(rng, seeds)), 4, 60) - (effect if arm["arm"] == "a" else 0.0)
    return [
        [SimpleNamespace(number=n, metrics={"val_accuracy": 0.97 if n >= t else 0.9}) for n in range(1, 11)] for t in at
    ]


def _curves(rng: np.random.Generator, draw: Draw, arm: Arm, effect: float, seeds: int) -> list[Any]:
    """Six epochs, of which the first leads by the effect and the others by ten margins."""
    lead = [MARGIN * (effect if n == 0 else 10.0) * (arm["arm"] == "a") for n in range(6)]
    noise = SD * draw(rng, 6 * seeds).reshape(seeds, 6)
    return [
        [SimpleNamespace(number=n + 1, metrics={"val_accuracy": 0.9 + lead[n] + x}) for n, x in enumerate(each)]
        for each in noise
    ]


def _ratio(arm: Arm, effect: float, _case: str) -> float:
    return 0.10 * (FACTOR**-effect if arm["arm"] == "a" else 1.0)


KINDS: dict[str, Kind] = {
    "compare": Kind(_claim("compare", **TWO), PAIR, _lead),
    "compare, scale: ratio": Kind(
        _claim("compare", scale="ratio", metric="test_loss", **{**TWO, "direction": "lower", "margin": FACTOR}),
        PAIR, _ratio,
    ),
    "best of four": Kind(_claim("best", treatment={"arm": "a"}), {"arm": LETTERS}, _lead, ("one", "all")),
    "indifferent, four values": Kind(
        _claim("indifferent", factor="arm"), {"arm": LETTERS}, _apart, ("one", "half"), powers=(0.0, 2.0, 3.0)
    ),
    "trend": Kind(_claim("trend", factor="width", per="doubling"), {"width": [25, 50, 100, 200]}, _slope),
    "trend, monotone": Kind(
        _claim("trend", factor="width", per="doubling", monotone=True), {"width": [25, 50, 100, 200]}, _slope,
        ("step",),
    ),
    "spread": Kind(
        _claim("spread", **{**TWO, "margin": FACTOR}), PAIR, lambda _arm, _effect, _case: 0.95,
        spread=lambda arm, effect: 3.0 * FACTOR**effect if arm["arm"] == "a" else 3.0, seeds=(8, 15, 30),
    ),
    "sensitivity, worst": Kind(
        _claim("sensitivity", grid="rate", **TWO), {"arm": ["a", "b"], "rate": [0.001, 0.01, 0.1, 1.0]}, _worst
    ),
    "contribution": Kind(
        _claim("contribution", treatment=ON, control=OFF, component="x"), {key: [0, 1] for key in ON}, _sum
    ),
    "contribution, than each": Kind(
        _claim("contribution", treatment=ON, control=OFF, component="x", than="each"), {key: [0, 1] for key in ON},
        _sum, ("each",),
    ),
    "sooner": Kind(
        _claim("sooner", level=0.95, **{**TWO, "direction": "lower", "margin": 1.0}), PAIR, _lead, curve=_times
    ),
    "sooner, every epoch": Kind(_claim("sooner", every_epoch=True, **TWO), PAIR, _lead, curve=_curves),
}  # fmt: skip


def drawn(  # noqa: PLR0913, PLR0917 - a cell
    kind: Kind, rng: np.random.Generator, noise: str, seeds: int, effect: float, case: str
) -> Iterator[Row]:
    """The rows of one sweep."""
    draw, images, rate = NOISES[noise]
    shared = 0.001 * rng.standard_normal(seeds)
    for values in product(*kind.factors.values()):
        arm = dict(zip(kind.factors, values, strict=True))
        mean, fallen = kind.mean(arm, effect, case), rng.random(seeds) < rate
        if kind.claim.is_ratio and kind.claim.kind == "compare":
            low = mean * np.exp(LOG_SD * draw(rng, seeds) + 30.0 * shared)
            loss = np.round(low * 30) / 30 if images == 1000 else low  # noqa: PLR2004 - coarse: some are 0
            values_of = {"test_loss": np.where(fallen, 2.3, loss)}
        else:
            x = mean + shared + SD * kind.spread(arm, effect) * draw(rng, seeds)
            x = np.round(x * images) / images
            values_of = {"test_accuracy": np.where(fallen, 0.1, x), "val_accuracy": np.where(fallen, 0.1, x)}
        curves = kind.curve(rng, draw, arm, effect, seeds) if kind.curve else [()] * seeds
        for seed in range(seeds):
            metrics = {name: float(found[seed]) for name, found in values_of.items()}
            yield Row(arm, seed, metrics, "diverged" if fallen[seed] else "complete", epochs=curves[seed])


def verdicts(  # noqa: PLR0913, PLR0917 - a cell
    name: str, noise: str, seeds: int, effect: float, case: str, sweeps: int, claims: int = 1
) -> list[list[str]]:
    """The verdicts of so many sweeps with so many claims, each on rows of its own."""
    kind, rng = (
        KINDS[name],
        np.random.default_rng([*name.encode(), *noise.encode(), seeds, int(10 * effect), *case.encode(), claims]),
    )
    return [
        [
            judge([*drawn(kind, rng, noise, seeds, effect, case)], [kind.claim], ALPHA / claims)[0].verdict
            for _ in range(claims)
        ]
        for _ in range(sweeps)
    ]


def wrong(found: list[list[str]]) -> float:
    """The share of sweeps with a wrong verdict, if the effect lies just inside the margin, or just outside."""
    inside = sum("supported" in each for each in found)
    outside = sum("refuted" in each or "equivalent" in each for each in found)
    return max(inside, outside) / len(found)


def main(sweeps: int, names: list[str]) -> int:
    """Print the table; 1 if a kind is wrong too often."""
    vars(evidence)["sign_flip_p_value"] = lambda *_: 1.0  # no verdict rests on it, and it takes most of the time
    several = sweeps // 3
    print(f"| kind | {' | '.join(NOISES)} | decided with normal noise, by seeds and margins |")
    print("|" + "---|" * (len(NOISES) + 2))
    broken = []
    for name in names or KINDS:
        worst = []
        for noise in NOISES:
            cells = [
                (wrong(verdicts(name, noise, n, 1.0, case, count, k)), count, n, k, case)
                for case in KINDS[name].cases
                for k, count, sizes in ((1, sweeps, SEEDS), (CLAIMS, several, SEVERAL))
                for n in sizes
            ]
            for share, count, *cell in cells:
                if share > ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / count):
                    broken.append(f"{name}, {noise}, {cell}: {share:.1%}")
            worst.append(max(share for share, *_ in cells))
        decided = []
        for n in KINDS[name].seeds:
            shares = [
                np.mean(
                    [
                        each != ["inconclusive"]
                        for each in verdicts(name, "normal", n, effect, KINDS[name].cases[0], several)
                    ]
                )
                for effect in KINDS[name].powers
            ]
            told = ", ".join(f"{100 * share:.0f}" for share in shares)
            decided.append(f"{n}: {told}")
        print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in worst)} | {'; '.join(decided)} |", flush=True)
    print("\n".join(["", "Wrong too often:", *broken] if broken else ["", "No cell is wrong too often."]), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500, sys.argv[2:]))
