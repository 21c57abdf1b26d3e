"""Every kind of claim gives the right verdict, survives what is missing, and is in every output."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from claim_examples import EXAMPLES, Example, rows

from mnist_ablate.ledger.preregistration import digests
from mnist_ablate.reports import charts, drawing, judging, markdown, terminal, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep.adaptive_schedule import look_schedule
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row

KINDS = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def report(example: Example, found: list[Row]) -> Report:
    asked = Sweep(name="q", question="q", scientific=dict(example.factors), seeds=30, claims=[example.claim])
    return judging.of_rows(asked, found, {"planned": len(found), "complete": len(found)})


@KINDS
def test_a_true_claim_is_supported_and_a_false_one_is_not(example: Example) -> None:
    true, false = (judge(rows(example, value, 20), [example.claim])[0] for value in (example.true, example.false))
    if example.claim.kind == "sooner" and not example.claim.model_dump()["every_epoch"]:
        assert true.verdict in ("supported", "inconclusive")  # epochs are whole: 20 equal differences show no spread
    else:
        assert true.verdict == "supported", true.reason
    assert false.verdict != "supported", false.reason
    assert true.kind == example.claim.kind


@KINDS
def test_missing_seeds_one_seed_and_no_rows_are_said_and_decide_nothing(example: Example) -> None:
    every = rows(example, example.true, 6)
    lost = [replace(row, status="lost", metrics={}) if row.seed == 2 else row for row in every]
    (found,) = judge(lost, [example.claim])
    assert any("seed 2" in each and "lost" in each for each in found.excluded)
    for few in ([row for row in every if not row.seed], []):
        (found,) = judge(few, [example.claim])
        assert found.verdict == "inconclusive"
        assert found.reason


@KINDS
def test_seeds_that_agree_in_everything_decide_nothing_from_three(example: Example) -> None:
    first = rows(example, example.true, 1)
    (found,) = judge([replace(row, seed=seed) for row in first for seed in range(3)], [example.claim])
    assert found.verdict in ("inconclusive", "supported")
    if example.claim.kind == "spread":
        assert found.verdict == "inconclusive"


@KINDS
def test_looks_stop_where_a_claim_is_decided(example: Example) -> None:
    (found,) = judge(rows(example, example.true, 30), [example.claim], looks=look_schedule(4, 30))
    assert found.look is not None
    assert found.look <= len(look_schedule(4, 30))


def _texts(example: Example, found: Report) -> Iterator[str]:
    yield markdown.markdown(found, "q")
    yield wording.sentence(found.claims[0], found)
    yield drawing.to_svg(charts.claims(found.claims, example.claim.about))


@KINDS
def test_every_output_tells_the_effect_of_the_claim(example: Example) -> None:
    found = report(example, rows(example, example.true, 12))
    (claim,) = found.claims
    for text in _texts(example, found):
        assert wording.effect(claim.effect, claim.unit).lstrip("+\N{MINUS SIGN}-") in text.replace(
            "\N{MINUS SIGN}", "-"
        )
    assert terminal.tables(found)
    (told,) = json.loads(found.model_dump_json())["claims"]
    assert told.get("kind", "compare") == example.claim.kind
    assert told["effect"] == pytest.approx(claim.effect)
    assert wording.found_in_words(example.claim, claim).endswith(".")


def test_zeros_of_a_ratio_are_handled_and_said() -> None:
    example = EXAMPLES["ratio"]
    found = [
        replace(row, metrics={**row.metrics, "test_loss": 0.0})
        if row.seed == 1 and row.params["optimizer"] == "adam"
        else row
        for row in rows(example, example.true, 12)
    ]
    (verdict,) = judge(found, [example.claim])
    assert "of the ratio of means (some results are 0)" in verdict.reason
    assert verdict.n_pairs == 12
    below = [replace(row, metrics={"test_loss": -0.1}) for row in found]
    assert "test_loss is -0.1 somewhere" in judge(below, [example.claim])[0].reason


def test_a_level_that_one_side_never_reaches_can_be_judged() -> None:
    """The control never reaches it, so its times are known to be later than the last epoch, and no more."""
    example = EXAMPLES["sooner"]
    claim = example.claim.model_copy(update={"level": 0.94})
    found = judge(rows(example, example.true, 30), [claim])[0]
    assert not np.isfinite(found.ci_low)
    assert np.isfinite(found.ci_high)
    assert found.verdict == "supported", found.reason


@KINDS
def test_a_claim_is_asked_again_across_settings_and_a_plan_knows_its_power(example: Example) -> None:
    factors = dict(example.factors)
    sweep = Sweep(
        name="q", question="q", scientific=factors, across={"batch_size": [64, 128]}, seeds=30, claims=[example.claim]
    )
    every = [
        replace(row, params={**row.params, "batch_size": size})
        for size, value in ((64, example.true), (128, example.false))
        for row in rows(example, value, 20)
    ]
    usual, other = judge(every, sweep.every_claim)
    assert [usual.kind, other.kind] == [example.claim.kind] * 2
    assert usual.name != other.name
    assert (usual.effect, other.effect) != (usual.effect, usual.effect)
    size = kind_of(example.claim).smallest_effect(example.claim, sweep, 30, 2, 0.05)
    assert size > 0.0
    found = judging.of_rows(sweep, every, {"planned": len(every), "complete": len(every)})
    assert found.reach[0].settings[1].verdict == other.verdict
    assert digests(make_plan(sweep, "d" * 8, 10**6))["claims"]


@KINDS
def test_the_note_on_mlflow_s_page_says_what_each_number_is(example: Example) -> None:
    found = report(example, rows(example, example.true))
    text = markdown.headline(found, "q", "")
    (claim,) = found.claims
    assert f"{claim.verdict}**: {claim.statement} " in text
    assert claim.measure == "difference" or f"{claim.measure[1:]}: {wording.effect(claim.effect, claim.unit)} (" in text
    assert wording.meanings(found) in text
