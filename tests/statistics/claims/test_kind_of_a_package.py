"""A kind that an installed package adds by an entry point is read, judged and shown like those that ship."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from sweep_texts import load

from mnist_ablate.reports import charts, drawing, judging, markdown, wording
from mnist_ablate.statistics.claims.kind import ClaimKind, two_sides
from mnist_ablate.statistics.pairing import ArmRows, Contrast
from mnist_ablate.sweep import claim, json_schema
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.trial import Row


class SumClaim(Claim):
    """Treatment and control, added up."""

    times: float = Field(description="What the sum is multiplied by.")


class Sum(ClaimKind):
    """Results of two arms, added."""

    meaning, keys, glossary = "X and Y together reach so much.", SumClaim, "Sum: of both arms."

    def contrast(self, arms: Sequence[ArmRows], claim: Claim) -> Contrast:
        times: Any = claim.model_dump()["times"]
        found = two_sides(arms, claim, claim.treatment, claim.control or {})
        return replace(found, number=lambda values: times * sum(values))

    def measure(self, claim: Claim) -> str:  # noqa: ARG002 - the same for all
        return "sum"


KIND = Sum()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "sums-1.0.dist-info").mkdir()
    (tmp_path / "sums-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sums\nVersion: 1.0\n")
    entry = f"[{claim.GROUP}]\nsum = {__name__}:KIND\n"
    (tmp_path / "sums-1.0.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (claim.kind_names, claim.kind_named):
        cached.cache_clear()
    yield
    for cached in (claim.kind_names, claim.kind_named):
        cached.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_kind_from_a_package_goes_through_every_output(tmp_path: Path) -> None:
    text = """\
question: q
scientific: {activation: [relu, tanh]}
seeds: 5
claims:
  - {name: c, statement: s, kind: sum, treatment: {activation: relu}, control: {activation: tanh},
     times: 0.5, direction: higher, margin: 0.5}
"""
    sweep = load(tmp_path, text)
    rows = [Row({"activation": a}, n, {"test_accuracy": 0.9 + n / 1000}) for a in ("relu", "tanh") for n in range(5)]
    report = judging.of_rows(sweep, rows, {"planned": 10, "complete": 10})
    (found,) = report.claims
    assert (found.verdict, found.kind, round(found.effect, 4)) == ("supported", "sum", 0.902)
    assert wording.sentence(found, report).startswith("Sum +90.20 pp")
    assert "Sum: of both arms." in markdown.markdown(report, "q")
    assert "sum in test accuracy" in drawing.to_svg(charts.claims([found], sweep.claims[0].about))
    assert json.loads(report.model_dump_json())["claims"][0]["measure"] == "sum"
    assert "Claim-sum" in json_schema.schema()["definitions"]
