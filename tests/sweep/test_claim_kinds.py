"""A claim of any kind is read by its own keys, and what makes no sense in it is said before anything trains."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from sweep_texts import load, problems

from mnist_ablate.cli import sweeps as commands
from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import json_schema, sweep_file
from mnist_ablate.sweep.claim import SHIPPED, kind_named

HEAD = """\
question: q
design: factorial
scientific: {{optimizer: [sgd, adam], learning_rate: {rates}, activation: [relu, tanh]}}
seeds: 4
claims:
  - {{name: c, statement: s, {claim}}}
"""
RATES = "[0.0001, 0.001, 0.01, 0.1]"
SIDES = "treatment: {optimizer: adam}, control: {optimizer: sgd}, direction: higher"

GRID = f"kind: sensitivity, {SIDES}, grid: learning_rate"


def text(claim: str, rates: str = RATES) -> str:
    return HEAD.format(claim=claim, rates=rates)


@pytest.mark.parametrize("kind", SHIPPED)
def test_new_writes_a_file_of_the_kind_that_loads_and_validates(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands.new("mine", kind)
    assert sweep_file.load("mine.yaml").claims[0].kind == kind
    content = yaml.safe_load(Path("mine.yaml").read_text())
    jsonschema.Draft7Validator(json_schema.schema()).validate(content)
    if kind != "compare":
        content["claims"][0]["colour"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft7Validator(json_schema.schema()).validate(content)


def test_new_names_a_kind_that_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=r"--kind trends: no such kind; .*trend"):
        commands.new("mine", "trends")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", SHIPPED[1:])
def test_the_page_of_claims_shows_the_example_of_each_kind(kind: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "which-claim.md").read_text(encoding="utf-8")
    example = kind_named(kind).example
    assert example[example.index("claims:") :] in page


def test_a_record_brings_back_a_claim_of_its_kind(tmp_path: Path) -> None:
    sweep = load(tmp_path, text("kind: trend, factor: learning_rate, per: doubling, direction: higher, margin: 0.001"))
    again = type(sweep).model_validate_json(sweep.model_dump_json())
    assert again.claims == sweep.claims
    assert again.digest == sweep.digest
    assert load(tmp_path, sweep_file.as_yaml(sweep)).digest == sweep.digest


@pytest.mark.parametrize(
    ("claim", "rates", "said"),
    [
        ("kind: trand, factor: x, margin: 1", RATES, "no such kind: 'trand'; did you mean 'trend'?"),
        ("kind: trend, direction: higher, margin: 1", RATES, "claims.c.factor: is missing"),
        ("kind: trend, factor: optimizer, direction: higher, margin: 1", RATES, "a trend is over numbers"),
        ("kind: trend, factor: lr, direction: higher, margin: 1", RATES, "lr is no factor of this sweep"),
        ("kind: indifferent, factor: optimizer, direction: higher, margin: 1", RATES, "has no direction; remove it"),
        ("kind: best, treatment: {learning_rate: 0.1}, direction: higher, margin: 1", "[0.1]", "has no rival"),
        ("kind: best, treatment: {optimizer: adam}, direction: same, margin: 1", RATES, "not same"),
        (f"kind: best, {SIDES}, margin: 1", RATES, "kind: best has no control; remove it"),
        (f"{GRID}, margin: 1", "[0.0001, 0.001, 0.1, 10.0]", "not evenly spaced"),
        (f"{GRID}, margin: 1", "[0.0003, 0.003, 0.03]", "lacks 0.001, the default for"),
        (f"kind: sensitivity, {SIDES}, margin: 1", RATES, "claims.c.grid: is missing"),
        (f"kind: spread, {SIDES}, margin: 0.5", RATES, "is a factor with scale: ratio, 1 at least"),
        ("kind: spread, treatment: {optimizer: adam}, direction: higher, margin: 2", RATES, "control: is missing"),
        (f"kind: contribution, {SIDES}, component: dropout, margin: 1", RATES, "dropout is not in treatment"),
        (f"kind: sooner, {SIDES}, margin: 1", RATES, "or every_epoch: true must be there, and not both"),
        (f"kind: sooner, {SIDES}, level: 0.9, metric: test_accuracy, margin: 1", RATES, "test_accuracy has no curve"),
        (f"{SIDES}, scale: ratio, margin: 0.5", RATES, "is a factor with scale: ratio, 1 at least"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_with_its_place(claim: str, rates: str, said: str, tmp_path: Path) -> None:
    found = problems(tmp_path, text(claim, rates))
    assert any(said in line for line in found), found
    assert all(line.startswith("x.yaml:") for line in found)


def test_a_ratio_of_a_metric_that_may_be_negative_is_refused(tmp_path: Path) -> None:
    own = """\
question: q
train: [./x, '{lr}']
metrics: {gain: {low: -1}}
settings: {lr: {type: float}}
scientific: {lr: [0.1, 1.0]}
seeds: 3
claims:
  - {name: c, statement: s, treatment: {lr: 1.0}, control: {lr: 0.1}, metric: gain, scale: ratio, direction: higher,
     margin: 2}
"""
    assert any("needs a metric that is never negative, and gain may be" in line for line in problems(tmp_path, own))


def test_a_contribution_needs_the_subsets(tmp_path: Path) -> None:
    one_at_a_time = """\
question: q
design: one_factor
baseline: {dropout: 0.0, optimizer: sgd}
scientific: {dropout: [0.0, 0.5], optimizer: [sgd, adam]}
seeds: 4
claims:
  - {name: c, statement: s, kind: contribution, treatment: {dropout: 0.5, optimizer: adam},
     control: {dropout: 0.0, optimizer: sgd}, component: dropout, direction: higher, margin: 0.1}
"""
    assert any("write design: factorial, or leave_one_out" in line for line in problems(tmp_path, one_at_a_time))
    left_out = one_at_a_time.replace("one_factor", "leave_one_out").replace(
        "baseline: {dropout: 0.0, optimizer: sgd}\nscientific: {dropout: [0.0, 0.5], optimizer: [sgd, adam]}",
        "baseline: {dropout: 0.5, optimizer: adam}\nscientific: {dropout: [0.0], optimizer: [sgd]}",
    )
    assert problems(tmp_path, left_out) == []
    partly = left_out.replace("treatment: {dropout: 0.5,", "treatment: {dropout: 0.0,")
    partly = partly.replace("control: {dropout: 0.0,", "control: {dropout: 0.5,")
    (told,) = problems(tmp_path, partly)
    assert "claims.c.component: needs arms without some components, such as dropout=0.0, optimizer=sgd" in told
