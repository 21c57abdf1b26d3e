"""The JSON of a report is the contract's; effect sizes and the factorial table: their numbers, and what is not said."""

import itertools
import json
from pathlib import Path
from typing import Any

import judged_sweep
import numpy as np
import pytest
from judged_sweep import as_json
from pages import Reader, shown

from mnist_ablate.ledger import progress
from mnist_ablate.ledger.results_table import Reading
from mnist_ablate.reports import judging, sections
from mnist_ablate.reports.html import html
from mnist_ablate.reports.markdown import markdown
from mnist_ablate.reports.report import Report
from mnist_ablate.statistics.effect_sizes import improvement, standardized
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.adaptive_schedule import look_schedule
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row, Scalar
from mnist_ablate.verification import bundle_check
from mnist_ablate.workloads.workload import Table

CLAIM = {
    "name": "tanh-hurts",
    "statement": "Tanh hurts.",
    "treatment": {"activation": "tanh"},
    "control": {"activation": "relu"},
    "where": {"dropout": 0.0},
    "direction": "lower",
    "margin": 0.002,
}
FACTORS: dict[str, list[Scalar]] = {"activation": ["relu", "tanh"], "dropout": [0.0, 0.5]}


def sweep(**changes: Any) -> Sweep:
    content = {"name": "x", "question": "?", "scientific": FACTORS, "seeds": 8, "claims": [CLAIM]}
    return Sweep.model_validate({**content, **changes})


def rows(seeds: int = 8) -> list[Row]:
    rng = np.random.default_rng(0)
    found = []
    for activation, dropout, seed in itertools.product(*FACTORS.values(), range(seeds)):
        value = 0.95 - 0.004 * (activation == "tanh") + 0.002 * float(rng.standard_normal())
        metrics = {"test_accuracy": value, "test_loss": 1.0 - value}
        found.append(Row({"activation": activation, "dropout": dropout}, seed, metrics))
    return found


def report(found: Sweep, results: list[Row]) -> Report:
    return judging.of_rows(found, results, progress.count(results))


def tables(found: Report) -> dict[str, Table]:
    return {table.caption.split(" on ")[0]: table for section in sections.effects(found) for table in section.tables}


def test_the_json_has_the_keys_of_the_contract_and_says_what_was_found() -> None:
    results = rows()
    results[3] = Row(results[3].params, 3, {}, "lost")
    content = as_json(report(sweep(), results))
    assert (content["sweep"], content["digest"], content["metric"]) == ("x", sweep().digest, "test_accuracy")
    assert content["trials"] == {"planned": 32, "complete": 31, "diverged": 0, "failed": 0, "lost": 1}
    assert {"params", "n", "mean", "ci_low", "ci_high", "outcomes"} <= content["arms"][0].keys()
    assert [arm["n"] for arm in content["arms"]] == [7, 8, 8, 8]
    assert content["arms"][0]["outcomes"] == {"complete": 7, "lost": 1}
    (found,) = content["claims"]
    keys = {"name", "statement", "verdict", "effect", "ci_low", "ci_high", "p_value", "n_pairs", "margin"}
    assert keys <= found.keys()
    assert (found["verdict"], found["n_pairs"]) == ("supported", 7)
    assert found["excluded"] == ["seed 3: activation=relu, dropout=0.0 lost"]
    assert sorted(found["differences"]) == ["0", "1", "2", "4", "5", "6", "7"]


def test_what_is_not_known_is_null() -> None:
    content = as_json(report(sweep(), rows(1)))
    assert content["claims"][0]["ci_low"] is content["arms"][0]["ci_high"] is None
    assert content["claims"][0]["effect"] == pytest.approx(-0.004, abs=0.01)
    content = as_json(report(sweep(), []))
    assert (content["claims"][0]["effect"], content["claims"][0]["verdict"]) == (None, "inconclusive")


@pytest.mark.parametrize("name", ["normalization", "dropout", "adaptive"])
def test_the_json_is_that_of_version_0_1(name: str) -> None:
    """Keys and their order in `golden` are those of the program before it had a typed report, and later ones."""
    content = sweep_file.load("normalization" if name == "adaptive" else name).model_dump()
    seeds = {"seeds": {"adaptive": {"min": 6, "max": 14}, "dropout": 8}.get(name, 10)}
    made, _ = judged_sweep.judged(Sweep.model_validate({**content, **seeds}))
    golden = json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    assert [*bundle_check.differences(golden, as_json(made))] == []
    assert list(golden) == list(as_json(made))


@pytest.mark.parametrize(
    ("changes", "seeds", "level"),
    [
        ({"claims": [CLAIM, {**CLAIM, "name": "again"}]}, 8, 0.025),
        ({"seeds": {"min": 6, "max": 30}}, 6, 0.05 * look_schedule(6, 30)[0].share),
    ],
)
def test_each_claim_has_its_sizes_at_the_level_of_its_interval(
    changes: dict[str, Any], seeds: int, level: float
) -> None:
    found = report(sweep(**changes), rows(seeds))
    values, sizes = list(found.claims[0].differences.values()), found.effect_sizes[0]
    assert sizes.name == "tanh-hurts"
    assert (sizes.standardized, sizes.improvement) == (standardized(values, level), improvement(values, level))


def test_less_loss_is_better() -> None:
    found = report(sweep(claims=[CLAIM, {**CLAIM, "name": "loss", "metric": "test_loss"}]), rows())
    accuracy, loss = found.effect_sizes
    assert loss.improvement == accuracy.improvement
    assert loss.standardized.value == pytest.approx(-accuracy.standardized.value)


def test_a_difference_of_two_differences_improves_nothing() -> None:
    found = report(sweep(claims=[{**CLAIM, "versus": {"dropout": 0.5}}]), rows())
    assert found.effect_sizes[0].improvement is None
    assert tables(found)["Size of the differences"].rows[0][2] == "of a difference of two: none"


def test_differences_that_only_rounding_tells_apart_have_no_standardized_size() -> None:
    """0.1 + 0.2 - 0.2 is not 0.1 in binary, and in losses of a million the noise is ten million times as large."""
    results = [
        Row({"activation": activation, "dropout": 0.0}, seed, {"test_accuracy": 1e6 * (1 + seed / 7) + shift})
        for seed in range(8)
        for activation, shift in (("relu", 0.0), ("tanh", 0.1))
    ]
    (sizes,) = as_json(report(sweep(), results))["effect_sizes"]
    assert sizes["standardized"] == {"value": None, "ci_low": None, "ci_high": None}
    assert sizes["improvement"]["value"] == 1.0


def test_the_factorial_table_is_in_every_report_but_the_terminals() -> None:
    found = report(sweep(), rows())
    table = found.factorial_effects
    assert (table.seeds, table.error.freedom) == (8, 21)
    assert [each.factors for each in table.effects] == [("activation",), ("dropout",), ("activation", "dropout")]
    text = markdown(found, "?")
    assert "**Main effects and interactions on test accuracy**" in text
    assert "| activation x dropout | 1 |" in text
    assert "| tanh-hurts |" in text
    assert "omega" not in shown(found)


def test_other_designs_and_single_seeds_have_no_table() -> None:
    one_factor = sweep(design="one_factor", baseline={"activation": "relu", "dropout": 0.0})
    assert report(one_factor, rows()).factorial_effects is None
    found = report(sweep(), rows(1))
    assert found.factorial_effects is None
    assert list(sections.effects(found)) == []
    assert "Main effects" not in markdown(found, "?")


def test_many_effects_are_cut_to_the_largest_and_that_is_said() -> None:
    factors: dict[str, list[Scalar]] = {name: [0, 1] for name in "abcde"}
    rng = np.random.default_rng(1)
    results = [
        Row(dict(zip(factors, cell, strict=True)), seed, {"test_accuracy": float(rng.random())})
        for *cell, seed in itertools.product([0, 1], repeat=6)
    ]
    found = report(sweep(scientific=factors, claims=[]), results)
    table = tables(found)["Main effects and interactions"]
    assert len(table.rows) == sections.MOST_EFFECTS + 1
    assert "16 smaller effects are in the JSON." in table.note


def test_equal_results_are_no_table_and_no_error() -> None:
    same = [Row(row.params, row.seed, {"test_accuracy": 0.9}) for row in rows()]
    found = report(sweep(), same)
    assert tables(found) == {}
    assert found.effect_sizes[0].improvement.value == 0.5


@pytest.mark.slow
def test_every_format_says_what_the_verdicts_generalize_over() -> None:
    made, record = judged_sweep.judged()
    sentence = (
        "The verdicts generalize over initial weights, image orders and dropout masks; the split and the test images"
    )
    texts = (shown(made), markdown(made, "q"), Reader(html(made, record)).text, as_json(made)["generalizes_over"])
    for text in texts:
        assert " ".join(text.split()).count(sentence) == 1
    split = report(sweep(vary=["order", "split"]), rows())
    assert "image orders and training/validation splits; the initial" in " ".join(shown(split).split())


def test_a_table_does_not_say_what_its_seeds_vary_unless_its_sweep_file_does() -> None:
    table = judging.About(reading=Reading())
    counts = progress.count(rows())
    assert judging.of_rows(sweep(), rows(), counts, table).generalizes_over.endswith("the table does not say what.")
    told = judging.of_rows(sweep(vary=["init", "split"]), rows(), counts, table).generalizes_over
    assert "initial weights and training/validation splits;" in told


def test_nothing_is_judged_where_no_seed_differs() -> None:
    same = [Row(row.params, row.seed, {"test_accuracy": 0.9}) for row in rows()]
    made = report(sweep(vary=["dropout"]), same)
    why = "nothing in them depends on what vary names"
    assert made.claims[0].reason == f"not judged: every arm has the same test_accuracy for every seed, so {why}"
    assert report(sweep(), same).claims[0].is_judged
