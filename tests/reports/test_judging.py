"""The JSON of a report is the contract's."""

import json
from pathlib import Path
from typing import Any

import judged_sweep
import pytest
from judged_sweep import as_json

from mnist_ablate.ledger.progress import count
from mnist_ablate.reports.judging import of_rows
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.trial import Row
from mnist_ablate.verification import bundle_check

HURTS = Claim(
    name="centered-hurts",
    statement="Centered inputs hurt.",
    treatment={"normalizer": "centered"},
    control={"normalizer": "unit"},
    direction="lower",
    margin=0.002,
)
SWEEP = Sweep(name="n", question="q", scientific={"normalizer": ["unit", "centered"]}, seeds=8, claims=[HURTS])


def judged(seeds: int, lost: int = -1) -> Any:
    """The JSON; with `lost` the first arm lacks that seed."""
    rows = []
    for seed in range(seeds):
        for normalizer, mean in (("unit", 0.97), ("centered", 0.95 + 0.0001 * seed)):
            is_lost = seed == lost and normalizer == "unit"
            metrics = {} if is_lost else {"test_accuracy": mean + 0.001 * (seed % 3)}
            rows.append(Row({"normalizer": normalizer}, seed, metrics, "lost" if is_lost else "complete"))
    return as_json(of_rows(SWEEP, rows, count(rows, planned=2 * seeds)))


def test_the_json_has_the_keys_of_the_contract() -> None:
    content = judged(8)
    assert {"sweep", "digest", "metric", "trials", "arms", "claims"} <= content.keys()
    assert {"params", "n", "mean", "ci_low", "ci_high", "outcomes"} <= content["arms"][0].keys()
    keys = {"name", "statement", "verdict", "effect", "ci_low", "ci_high", "p_value", "n_pairs", "margin"}
    assert keys <= content["claims"][0].keys()


def test_the_json_says_what_was_found() -> None:
    content = judged(8, lost=3)
    assert (content["sweep"], content["digest"], content["metric"]) == ("n", SWEEP.digest, "test_accuracy")
    assert content["trials"] == {"planned": 16, "complete": 15, "diverged": 0, "failed": 0, "lost": 1}
    assert [arm["n"] for arm in content["arms"]] == [7, 8]
    assert content["arms"][0]["outcomes"] == {"complete": 7, "lost": 1}
    (found,) = content["claims"]
    assert found["verdict"] == "supported"
    assert found["excluded"] == ["seed 3: normalizer=unit lost"]
    assert sorted(found["differences"]) == ["0", "1", "2", "4", "5", "6", "7"]


def test_what_is_not_known_is_null() -> None:
    content = judged(1)
    assert content["claims"][0]["ci_low"] is None
    assert content["claims"][0]["effect"] == pytest.approx(-0.02)
    assert content["arms"][0]["ci_high"] is None
    content = judged(0)
    assert (content["claims"][0]["effect"], content["claims"][0]["verdict"]) == (None, "inconclusive")


@pytest.mark.parametrize("name", ["normalization", "dropout", "adaptive"])
def test_the_json_is_that_of_version_0_1(name: str) -> None:
    """Files in `golden` were written by the program before it had a typed report."""
    content = sweep_file.load("normalization" if name == "adaptive" else name).model_dump()
    adaptive = {"seeds": {"min": 6, "max": 14}} if name == "adaptive" else {}
    report, _ = judged_sweep.judged(Sweep.model_validate({**content, **adaptive}))
    golden = json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    assert [*bundle_check.differences(golden, as_json(report))] == []
    assert list(golden) == list(as_json(report))
