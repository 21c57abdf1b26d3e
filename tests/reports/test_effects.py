"""Effect sizes and the factorial table in the report: their numbers, words, and what is not said."""

from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mnist_ablate.ledger import progress
from mnist_ablate.reports import effect_tables, effects_page, summary, terminal
from mnist_ablate.statistics.effect_sizes import improvement, standardized
from mnist_ablate.sweep.adaptive_schedule import look_schedule
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import Row, Scalar

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
    for activation in FACTORS["activation"]:
        for dropout in FACTORS["dropout"]:
            for seed in range(seeds):
                value = 0.95 - 0.004 * (activation == "tanh") + 0.002 * float(rng.standard_normal())
                metrics = {"test_accuracy": value, "test_loss": 1.0 - value}
                found.append(Row({"activation": activation, "dropout": dropout}, seed, metrics))
    return found


def document(found: Sweep, results: list[Row]) -> dict[str, Any]:
    return summary.document(found, results, progress.count(results))


def test_each_claim_has_its_sizes_at_the_level_of_its_interval() -> None:
    found = document(sweep(claims=[CLAIM, {**CLAIM, "name": "again"}]), rows())
    values = list(found["claims"][0]["differences"].values())
    sizes = found["effect_sizes"][0]
    assert sizes["name"] == "tanh-hurts"
    assert tuple(sizes["standardized"].values()) == standardized(values, 0.025)
    assert tuple(sizes["improvement"].values()) == improvement(values, 0.025)


def test_less_loss_is_better() -> None:
    found = document(sweep(claims=[CLAIM, {**CLAIM, "name": "loss", "metric": "test_loss"}]), rows())
    accuracy, loss = found["effect_sizes"]
    assert loss["improvement"] == accuracy["improvement"]
    assert loss["standardized"]["value"] == pytest.approx(-accuracy["standardized"]["value"])


def test_a_difference_of_two_differences_improves_nothing() -> None:
    found = document(sweep(claims=[{**CLAIM, "versus": {"dropout": 0.5}}]), rows())
    assert found["effect_sizes"][0]["improvement"] is None
    assert effect_tables.sizes(found)[0][2] == "of a difference of two: none"


def test_an_adaptive_claim_has_the_level_of_its_look() -> None:
    found = document(sweep(seeds={"min": 6, "max": 30}), rows(6))
    values = list(found["claims"][0]["differences"].values())
    level = 0.05 * look_schedule(6, 30)[0].share
    assert tuple(found["effect_sizes"][0]["standardized"].values()) == standardized(values, level)


def test_differences_that_only_rounding_tells_apart_have_no_standardized_size() -> None:
    """0.1 + 0.2 - 0.2 is not 0.1 in binary, and in losses of a million the noise is ten million times as large."""
    results = [
        Row({"activation": activation, "dropout": 0.0}, seed, {"test_accuracy": 1e6 * (1 + seed / 7) + shift})
        for seed in range(8)
        for activation, shift in (("relu", 0.0), ("tanh", 0.1))
    ]
    sizes = document(sweep(), results)["effect_sizes"][0]
    assert sizes["standardized"] == {"value": None, "ci_low": None, "ci_high": None}
    assert sizes["improvement"]["value"] == 1.0


def test_the_factorial_table_is_in_every_report_but_the_terminals() -> None:
    found = document(sweep(), rows())
    table = found["factorial_effects"]
    assert (table["seeds"], table["error"]["freedom"]) == (8, 21)
    assert [tuple(each["factors"]) for each in table["effects"]] == [
        ("activation",),
        ("dropout",),
        ("activation", "dropout"),
    ]
    markdown = terminal.markdown(found, "?")
    assert "**Main effects and interactions on test accuracy**" in markdown
    assert "| activation x dropout | 1 |" in markdown
    assert "| tanh-hurts |" in markdown
    ((ident, _, page),) = effects_page.sections(found)
    assert ident == "effects"
    assert "activation x dropout" in page
    console = Console(width=100)
    with console.capture() as capture:
        console.print(terminal.tables(found))
    assert "omega" not in capture.get()


def test_other_designs_and_single_seeds_have_no_table() -> None:
    usual = {"activation": "relu", "dropout": 0.0}
    one_factor = sweep(design="one_factor", baseline=usual)
    assert document(one_factor, rows())["factorial_effects"] is None
    found = document(sweep(), rows(1))
    assert found["factorial_effects"] is None
    assert list(effects_page.sections(found)) == []
    assert "Main effects" not in terminal.markdown(found, "?")


def test_many_effects_are_cut_to_the_largest_and_that_is_said() -> None:
    factors: dict[str, list[Scalar]] = {name: [0, 1] for name in "abcde"}
    rng = np.random.default_rng(1)
    cells = np.ndindex(2, 2, 2, 2, 2)
    results = [
        Row(dict(zip(factors, map(int, cell), strict=True)), seed, {"test_accuracy": float(rng.random())})
        for cell in cells
        for seed in range(2)
    ]
    found = document(sweep(scientific=factors, claims=[]), results)
    shown = effect_tables.effects(found)
    assert len(shown) == effect_tables.MOST_EFFECTS + 1
    assert "16 smaller effects are in the JSON." in effect_tables.effects_note(found)


def test_equal_results_are_no_table_and_no_error() -> None:
    same = [Row(row.params, row.seed, {"test_accuracy": 0.9}) for row in rows()]
    found = document(sweep(), same)
    assert effect_tables.effects(found) == []
    assert effect_tables.sizes(found) == []
    assert found["effect_sizes"][0]["improvement"]["value"] == 0.5
