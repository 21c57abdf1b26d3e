"""Two sweeps side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import Command
from sweep_runs import small, sweep_file

from mnist_ablate.reports.comparison import Side, compare
from mnist_ablate.trial import Row


def side(tanh: float = 0.8, *, seeds: int = 3, status: str = "complete", **changes: Any) -> Side:
    sweep = small(**changes)
    rows = [
        Row({"activation": arm}, seed, {"test_accuracy": mean + seed / 1000}, status if seed == 0 else "complete")
        for arm, mean in (("relu", 0.9), ("tanh", tanh))
        for seed in range(seeds)
    ]
    return Side(sweep=sweep.name, digest=sweep.digest, registered="2026-11-24", asked=sweep, rows=rows)


def with_rows(found: Side, rows: list[Row]) -> Side:
    return found.model_copy(update={"rows": rows})


def test_the_same_numbers_are_identical_and_leave_no_doubt() -> None:
    for arm in compare(side(), side()).arms:
        assert (arm.pairs, arm.identical) == (3, 3)
        assert (arm.difference, arm.ci_low, arm.ci_high) == (0, 0, 0)


def test_differences_are_second_minus_first_at_the_same_seed() -> None:
    relu, tanh = compare(side(), side(0.85, seeds=2)).arms
    assert (relu.identical, relu.pairs, tanh.identical, tanh.pairs) == (2, 2, 0, 2)
    assert (tanh.difference, tanh.first, tanh.second) == pytest.approx((0.05, 0.8005, 0.8505))


def test_intervals_are_simultaneous_over_the_arms() -> None:
    first = side()
    moved = [Row(row.params, row.seed, {"test_accuracy": 0.9 + row.seed**2 / 100}) for row in first.rows]
    both, alone = (compare(first, with_rows(first, rows)).arms for rows in (moved, moved[:3]))
    assert both[0].difference == alone[0].difference
    assert both[0].ci_high - both[0].ci_low > 1.3 * (alone[0].ci_high - alone[0].ci_low)


def test_arms_of_one_side_and_rows_without_a_number_are_told_not_counted() -> None:
    second = side(status="failed", scientific={"activation": ["relu", "tanh", "elu"]})
    elu = Row({"activation": "elu"}, 0, {"test_accuracy": 0.7})
    found = compare(side(), with_rows(second, [*second.rows, elu]))
    assert (found.only_first, found.only_second) == ((), ({"activation": "elu"},))
    assert [arm.pairs for arm in found.arms] == [2, 2]
    lines = found.text().splitlines()
    assert lines[0] == "small (2026-11-24) -> small (2026-11-24), test_accuracy"
    assert lines[2:4] == [
        "  activation=relu: 90.15% -> 90.15%, +0.00 pp",
        "  activation=tanh: 80.15% -> 80.15%, +0.00 pp",
    ]
    assert lines[4] == "only in small: activation=elu"
    assert lines[-1] == "intervals: 97.5%, of the mean difference over the seeds that both have"


def test_a_claim_that_was_changed_is_marked() -> None:
    claim = small().claims[0].model_dump() | {"margin": 0.5}
    before, after = side(), side(claims=[claim])
    assert not compare(before, before).claims[0].changed
    [found] = compare(before, after).claims
    assert found.changed
    assert found.first.effect == found.second.effect == pytest.approx(-0.1)
    assert (found.first.verdict, found.second.verdict) == ("supported", "inconclusive")
    assert "Tanh hurts. (the claim itself was changed)" in compare(before, after).text()


@pytest.mark.slow
def test_two_records_of_one_sweep_from_the_command_line(command: Command, images: Path) -> None:
    sweep_file(command.folder)
    run = ("sweep", "small.yaml", "--jobs", "1", "--data", str(images))
    command(*run)
    command(*run, "--fresh")
    done = command("compare", "small/1", "small", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["first"]["sweep"], found["second"]["sweep"]) == ("small/1", "small/2")
    assert all(arm["identical"] == arm["pairs"] == 3 for arm in found["arms"])
    text = command("compare", "small/1", "small").out
    assert command("report", "--compare", "small/1", "small").out == text
    assert command("report", "--compare", "small/1", "small", "--format", "json").document == found
    assert (
        "--compare writes table or json, not html" in command("report", "--compare", "a", "b", "--format", "html").err
    )
    assert command("report", "small", "--compare", "small/1", "small").code == 2
    assert "6 of 6 trials with the same factors and seed have the same number to the last bit" in text
    assert "still supported: Tanh hurts." in text
    assert command("compare", "small/9", "small").err.startswith("small/9: no such record of small")
    assert command("compare", "nothing", "small").code == 2
