"""Verdicts of comparisons, references and interactions stay as they were recorded, number by number."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mnist_ablate.statistics.verdict import ClaimVerdict, judge
from mnist_ablate.sweep.adaptive_schedule import look_schedule
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row

RECORD = Path(__file__).parent / "golden" / "verdicts.json"
DIRECTIONS = ("lower", "higher", "not_lower", "not_higher", "same")
SIDES: dict[str, dict[str, Any]] = {
    "compare": {"treatment": {"a": "y"}, "control": {"a": "x"}},
    "where": {"treatment": {"a": "y"}, "control": {"a": "x"}, "where": {"b": "q"}},
    "reference": {"treatment": {"a": "z"}, "reference": 0.95},
    "versus": {"treatment": {"a": "z"}, "control": {"a": "x"}, "where": {"b": "p"}, "versus": {"b": "q"}},
    "mean": {"treatment": {"a": "z"}, "control": {"a": "x"}, "estimand": "mean"},
    "loss": {"treatment": {"a": "z"}, "control": {"a": "y"}, "metric": "test_loss"},
}


def rows(seeds: int, collapses: int, shift: int = 0) -> list[Row]:
    """Numbers without any random generator, some of them collapsed; `shift` gives the arms of `z` other seeds."""
    found = []
    for (i, a), (j, b), seed in product(enumerate("xyz"), enumerate("pq"), range(seeds)):
        noise = ((37 * seed + 11 * i + 5 * j) % 17 - 8) / 4000
        accuracy = 0.95 + 0.002 * i + 0.001 * j * i + noise
        accuracy = 0.1 if collapses and i == 2 and seed % collapses == 0 else accuracy
        metrics = {"test_accuracy": accuracy, "test_loss": 2.5 * (1 - accuracy)}
        found.append(
            Row({"a": a, "b": b}, seed + shift * (i == 2), metrics, "failed" if (i, seed) == (1, 4) else "complete")
        )
    return found


def judged() -> dict[str, Any]:
    """Every claim on every table, as JSON."""
    claims = [
        Claim(name=f"{name}-{direction}", statement="s", direction=direction, margin=0.002, **sides)
        for name, sides in SIDES.items()
        for direction in DIRECTIONS
    ]
    tables = {
        "one seed": (rows(1, 0), ()),
        "clean": (rows(8, 0), ()),
        "collapses": (rows(9, 3), ()),
        "no pairs": (rows(7, 0, 100), ()),
        "looks": (rows(9, 0), look_schedule(4, 9)),
    }
    made = TypeAdapter(tuple[ClaimVerdict, ...])
    return {
        name: json.loads(made.dump_json(judge(found, claims, looks=looks))) for name, (found, looks) in tables.items()
    }


def test_recorded_verdicts_are_what_is_judged_today() -> None:
    now, then = judged(), json.loads(RECORD.read_text())
    assert now.keys() == then.keys()
    for table, verdicts in then.items():
        for old, new in zip(verdicts, now[table], strict=True):
            assert new.keys() == old.keys()
            for key, value in old.items():
                is_number = isinstance(value, float)
                # The bits of a sum or of a quantile may differ between processors, its digits do not.
                assert new[key] == (pytest.approx(value, rel=1e-9) if is_number else value), (table, old["name"], key)
