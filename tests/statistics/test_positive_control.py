"""A claim known to hold: told first when it was not found, told after the verdicts when it was."""

import io
import json
from typing import Any

import pytest
from judged_sweep import judged
from pages import Reader
from rich.console import Console

from mnist_ablate.reports.html import html
from mnist_ablate.reports.terminal import markdown, tables
from mnist_ablate.statistics import positive_control
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep

FOUND, MISSED = "raw-worse-than-unit", "true-centering-hurts-relu"


def with_control(name: str) -> Sweep:
    sweep = sweep_file.load("normalization")
    claims = [claim.model_copy(update={"positive_control": claim.name == name}) for claim in sweep.claims]
    return sweep.model_copy(update={"claims": claims})


def reports(name: str) -> tuple[dict[str, Any], str, str, str]:
    """The document of a made-up sweep whose claim `name` is known to hold, and the three formats people read."""
    document, recorded = judged(with_control(name), trouble=False)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(tables(document))
    assert isinstance(console.file, io.StringIO)
    table = " ".join(console.file.getvalue().split())
    return json.loads(json.dumps(document)), table, markdown(document, "q"), Reader(html(document, recorded)).text


def test_a_claim_known_to_hold_that_is_not_found_is_told_before_any_number() -> None:
    document, table, note, text = reports(MISSED)
    verdict = next(claim["verdict"] for claim in document["claims"] if claim["name"] == MISSED)
    assert document["positive_control"] == {"claims": [MISSED], "missed": {MISSED: verdict}, "alarm": True}
    said = f"Positive control failed: what is known to hold was not found: {MISSED} came out {verdict}."
    assert table.startswith(said)
    assert note.splitlines()[2].startswith(f"**{said}")
    assert text.index(said) < text.index("Verdicts")


def test_one_that_is_found_is_told_after_the_verdicts_and_changes_no_number() -> None:
    document, *texts = reports(FOUND)
    assert document["positive_control"] == {"claims": [FOUND], "missed": {}, "alarm": False}
    for text in texts:
        assert f"Positive control: what is known to hold was found: {FOUND}." in text
        assert "Positive control failed" not in text
    plain, _ = judged(trouble=False)
    assert plain["positive_control"] is None
    assert json.loads(json.dumps(plain["claims"])) == document["claims"]


@pytest.mark.parametrize("missing", [0, 1])
def test_it_raises_no_alarm_before_every_trial_has_run(missing: int) -> None:
    claims = with_control(MISSED).claims
    verdicts = {verdict.name: verdict.verdict for verdict in judge([], claims)}
    found = positive_control.document(claims, verdicts, finished=not missing)
    assert found == {"claims": [MISSED], "missed": {MISSED: "inconclusive"}, "alarm": not missing}


def test_a_sweep_without_one_keeps_its_digest() -> None:
    sweep = sweep_file.load("normalization")
    assert with_control("none of them").digest == sweep.digest != with_control(FOUND).digest
