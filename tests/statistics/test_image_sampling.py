"""The interval takes in that test images are a sample: as wide as that needs, and nothing changes where it need not."""

import math
from typing import Any

import image_sampling_simulation as simulation
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_ablate.image_results import decoded, encoded
from mnist_ablate.statistics.image_sampling import image_variance
from mnist_ablate.statistics.verdict import ClaimVerdict, judge
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row

IMAGES = 2000
CLAIM: dict[str, Any] = {"name": "c", "statement": "s", "direction": "same", "margin": 0.01}
CLAIM |= {"treatment": {"arm": "new"}, "control": {"arm": "old"}}
Bits = NDArray[np.bool_]


def right(seeds: int = 5, differently: float = 0.05, noise: float = 0.01) -> dict[str, Bits]:
    """By arm (seeds, images): 90% right; some images are seen differently by every seed, others by chance."""
    rng = np.random.default_rng(0)
    old = np.repeat(rng.random((1, IMAGES)) < 0.9, seeds, axis=0)
    new = old ^ (rng.random((1, IMAGES)) < differently)
    return {arm: bits ^ (rng.random(bits.shape) < noise) for arm, bits in (("old", old), ("new", new))}


def verdict(arms: dict[str, Bits], vary: str = "init test", *, lacks: int = -1, **changes: Any) -> ClaimVerdict:
    rows = [
        Row(
            {"arm": arm},
            seed,
            {"test_accuracy": float(bits.mean())},
            "complete",
            encoded(bits) if seed != lacks else "",
        )
        for arm, seeds in arms.items()
        for seed, bits in enumerate(seeds)
    ]
    sweep = Sweep.model_validate(
        {"name": "s", "question": "q", "seeds": 3, "vary": vary.split(), "claims": [{**CLAIM, **changes}]}
    )
    return judge(rows, sweep.every_claim)[0]


def test_results_of_images_come_back_to_the_bit_and_damage_is_told() -> None:
    bits = np.random.default_rng(0).random(10_001) < 0.98
    np.testing.assert_array_equal(decoded(encoded(bits)), bits)
    assert len(encoded(bits)) < 1250
    for damaged in ("20000" + encoded(bits)[5:], encoded(bits)[:-8], "7:????", "nothing"):
        with pytest.raises(ValueError, match=r"damaged|fewer|base64|literal|digits|padding"):
            decoded(damaged)


def test_the_variance_is_that_of_what_all_seeds_share() -> None:
    """Of differences that are the sum of a seed's and an image's, it is that of the images alone."""
    rng = np.random.default_rng(1)
    of_seeds, of_images = rng.standard_normal((4, 1)), rng.standard_normal((1, 300))
    assert image_variance(of_seeds + of_images) == pytest.approx(of_images.var(ddof=1) / 300)
    assert image_variance(of_seeds + 0 * of_images) == 0.0


def test_it_is_the_variance_of_a_paired_bootstrap_without_what_seeds_add() -> None:
    arms = right()
    differences = arms["new"].astype(float) - arms["old"]
    rng, n = np.random.default_rng(2), len(differences)
    means = [differences[:, rng.integers(0, IMAGES, IMAGES)].mean() for _ in range(2000)]
    rest = differences - differences.mean(axis=0)
    shared = float((rest**2).sum()) / (n - 1) / n / IMAGES**2
    assert image_variance(differences) == pytest.approx(float(np.var(means)) - shared, rel=0.1)


def test_images_that_count_as_a_sample_widen_the_interval_as_much_as_they_differ() -> None:
    fixed, sampled = verdict(right(), "init"), verdict(right())
    assert (sampled.effect, sampled.p_value) == (fixed.effect, fixed.p_value)
    half = [(found.ci_high - found.ci_low) / 2 for found in (fixed, sampled)]
    differences = right()["new"].astype(float) - right()["old"]
    assert half[1] == pytest.approx(math.hypot(half[0], 1.96 * math.sqrt(image_variance(differences))), rel=1e-3)
    assert half[1] > 2 * half[0]
    between = {"margin": abs(fixed.effect) - 1.5 * half[0]}
    assert (verdict(right(), "init", **between).verdict, verdict(right(), **between).verdict) == (
        "refuted",
        "inconclusive",
    )
    same = right(differently=0.0, noise=0.2)
    assert verdict(same).ci_low == pytest.approx(verdict(same, "init").ci_low, abs=1e-3)


def test_no_number_of_seeds_replaces_test_images() -> None:
    few = {arm: bits[:, :200] for arm, bits in right().items()}
    found = verdict(few, margin=0.03)
    assert (found.verdict, found.seeds_needed) == ("inconclusive", None)


def test_equal_differences_have_an_interval_about_which_the_images_lie() -> None:
    arms = right(differently=0.002, noise=0.0)
    fixed, sampled = verdict(arms, "init", margin=0.9), verdict(arms, margin=0.9)
    assert sampled.ci_low < fixed.ci_low < fixed.effect < fixed.ci_high < sampled.ci_high


def test_a_trial_without_results_of_images_is_named() -> None:
    found = verdict(right(), lacks=3)
    assert found.verdict == "inconclusive"
    assert found.reason == "not judged: vary: test needs a result of each test image, which a trial of seed 3 lacks"
    assert verdict(right(), "init", lacks=3).is_judged


@pytest.mark.parametrize("name", ["as MNIST", "images alone", "200 images"])
def test_few_sweeps_miss(name: str) -> None:
    """The standard error is 1%; the true rates are in benchmarks/README.md."""
    found = simulation.missed(simulation.WORLDS[name], 3, 5, 400)
    assert found["rule"] <= 0.07
    assert name == "as MNIST" or found["seeds alone"] > 0.1
