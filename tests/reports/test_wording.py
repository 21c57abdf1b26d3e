"""One sentence for each claim says where its interval lies, in the words of its verdict and the unit of its metric."""

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest

from mnist_ablate.ledger import progress
from mnist_ablate.reports import judging, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.reports.wording import effect, number
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row

HURTS = Claim(
    name="hurts",
    statement="Centered inputs hurt.",
    treatment={"normalizer": "centered"},
    control={"normalizer": "unit"},
    direction="lower",
    margin=0.002,
)


def found(differences: list[float], *, claims: int = 1, **changes: Any) -> Report:
    """The report on claims about one pair of arms with these differences."""
    claim = HURTS.model_copy(update=changes)
    sweep = Sweep(
        name="s",
        question="q",
        scientific={"normalizer": ["unit", "centered"]},
        seeds=len(differences),
        claims=[claim, *(claim.model_copy(update={"name": f"more-{i}"}) for i in range(1, claims))],
    )
    metric = claim.metric
    rows = [Row({"normalizer": "unit"}, seed, {metric: 0.9}) for seed in range(len(differences))]
    rows += [Row({"normalizer": "centered"}, seed, {metric: 0.9 + d}) for seed, d in enumerate(differences)]
    return judging.of_rows(sweep, rows, progress.count(rows))


def said(differences: list[float], **changes: Any) -> str:
    report = found(differences, **changes)
    return wording.sentence(report.claims[0], report)


def spread(mean: float, size: float = 0.0005, n: int = 10) -> list[float]:
    return [mean + (size if seed % 2 else -size) for seed in range(n)]


BELOW, ABOVE, REFUTED = "the margin of -0.20 pp", "the margin of +0.20 pp", ", so the claim is refuted"
HIGHER, NOT_LOWER = {"direction": "higher"}, {"direction": "not_lower"}
LOSS = {"metric": "test_loss", "direction": "higher", "margin": 0.1}
SENTENCES: dict[str, tuple[list[float], dict[str, Any], str]] = {
    "supported": (spread(-0.01), {}, f"lies wholly below {BELOW}; 10 pairs, p=0.00195."),
    "equivalent": (spread(0.0), {}, "lies wholly within the margin of ±0.20 pp, too small to matter; 10"),
    "reversed": (spread(0.0019, 0.0013), {}, f"lies wholly above 0: the effect goes the other way{REFUTED}; 10"),
    "ruled out": (spread(0.0008, 0.0025), {}, f"rules out a difference below {BELOW}{REFUTED}"),
    "ruled out below": (spread(-0.0008, 0.0025), HIGHER, f"rules out a difference above {ABOVE}{REFUTED}"),
    "too much": (spread(-0.01), NOT_LOWER, f"lies wholly below {BELOW}{REFUTED}"),
    "not less": (spread(0.0015, 0.002), NOT_LOWER, f"+0.00 to +0.30 pp, rules out a difference below {BELOW}; 10"),
    "outside": (spread(0.01), {"direction": "same"}, f"lies wholly outside the margin of ±0.20 pp{REFUTED}"),
    "open": (spread(-0.002), {}, f"includes {BELOW}; 10 pairs, p=0.00195. "),
    "open at both": (
        spread(0.0, 0.006),
        {},
        f"includes {BELOW}; 10 pairs, p=1. No training of 10 a side collapsed: at most 26% do. About",
    ),
    "no margin": (spread(0.0, 0.006), {"margin": 0.0}, "26% do. Not even 10,000 seeds"),
    "margin of zero": (spread(-0.01), {"margin": 0.0}, "lies wholly below 0; 10"),
    "few": (spread(-0.01, n=4), {}, f"wholly below {BELOW}; 4 pairs, p=0.125. No training of 4 a side"),
    "few reversed": (spread(0.0025, n=5), {}, f"lies wholly above 0: the effect goes the other way{REFUTED}; 5 pairs"),
    "few below": (
        spread(-0.0025, n=5),
        HIGHER,
        f"lies wholly below 0: the effect goes the other way{REFUTED}; 5 pairs",
    ),
    "few not less": (spread(0.0025, n=5), NOT_LOWER, f"rules out a difference below {BELOW}; 5 pairs"),
    "on the margin": ([0.902 - 0.9] * 10, HIGHER, "Not even 10,000 seeds"),
    "loss": (spread(0.5), LOSS, "above the margin of +0.1; 10"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence_says_where_the_interval_lies(case: str) -> None:
    differences, changes, expected = SENTENCES[case]
    assert expected in said(differences, **changes)


def test_the_numbers_of_a_sentence_are_those_of_the_claim_and_one_claim_is_not_told_as_many() -> None:
    assert wording.say("tally", found(spread(-0.01))) == "1 claim: 1 supported"
    assert wording.say("tally", found(spread(-0.01), claims=3)) == "3 claims: 3 supported"
    assert said(spread(-0.01)).startswith("Difference -1.00 pp; its 95% interval, -1.04 to -0.96 pp, lies")
    assert "its 97.5% interval" in said(spread(-0.01), claims=2)


def test_an_accuracy_is_never_a_fraction_in_a_sentence() -> None:
    for case, (differences, changes, _) in SENTENCES.items():
        if "metric" not in changes:
            numbers = re.findall(r"[-+±]\d+\.\d+(?![\d.]| pp| to)", said(differences, **changes))
            assert numbers == [], case


def test_a_limit_that_is_not_the_margin_does_not_look_like_it() -> None:
    report = found(spread(-0.00232, 0.0004))
    assert report.claims[0].ci_high < -0.002
    assert "to -0.202 pp, lies wholly below the margin of -0.200 pp" in wording.sentence(report.claims[0], report)


@pytest.mark.parametrize("direction", ["lower", "higher", "not_lower", "not_higher", "same"])
def test_every_sentence_agrees_with_its_verdict(direction: str) -> None:
    for mean, size, n in itertools.product((-0.01, -0.002, -0.0005, 0.0, 0.0015, 0.01), (0.0003, 0.003), (2, 7, 12)):
        report = found(spread(mean, size, n), direction=direction)
        (claim,) = report.claims
        text = wording.sentence(claim, report)
        assert ("so the claim is refuted" in text) == (claim.verdict == "refuted")
        assert ("too small to matter" in text) == (claim.verdict == "equivalent")
        assert ("would decide it" in text or "are needed" in text) == (claim.verdict == "inconclusive")
        if claim.verdict == "inconclusive" and n > 2:
            assert "includes" in text or "reaches across" in text


def test_without_an_interval_or_a_pair_the_sentence_says_why() -> None:
    assert said([-0.01]) == "Difference -1.00 pp, no interval. One pair has no spread; at least 3 seeds are needed."
    text = said(spread(0.0), control={"normalizer": "nothing"})
    assert text == "Not judged: no result has normalizer=nothing."


def test_numbers_and_effects_have_the_unit_of_their_metric() -> None:
    assert number(0.97512, "share") == "97.51%"
    assert number(0.123456, "") == "0.1235"
    assert number(None, "") == "-"
    assert effect(-0.00001, "share") == "+0.00 pp"
    assert effect(2.0, "epochs") == "+2"


def test_of_many_pairs_left_out_the_first_are_named() -> None:
    claim = replace(found(spread(0.0)).claims[0], excluded=tuple(f"seed {seed}: a=1 lost" for seed in range(9)))
    assert wording.left_out(claim) == "Left out: seed 0 (a=1 lost), seed 1 (a=1 lost), seed 2 (a=1 lost) and 6 more."
