"""Protects that a claim compares arms the sweep really runs, on a metric it really has."""

from pathlib import Path

import pytest
from sweep_texts import EXAMPLE, ONE_FACTOR, changed, load, problems

CLAIM = """\
claims:
  - {name: c, statement: s, treatment: {normalizer: centered}, control: {normalizer: unit}, direction: lower,
     margin: 0}
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "name: centered-hurts-relu",
            "name: -c",
            "name: '-c': a name has 1 to 100 letters, digits or marks of any script",
        ),
        (
            "statement: Centered inputs hurt relu.",
            "statement: ''",
            "statement: is empty; say in a sentence what is claimed",
        ),
        (
            "metric: test_accuracy",
            "metric: accuracy",
            "metric: no such metric: 'accuracy'; did you mean 'val_accuracy'? allowed: t",
        ),
        (
            "treatment: {normalizer: centered}",
            "treatment: {}",
            "treatment: is empty; name the arm that the claim",
        ),
        (
            "    control: {normalizer: unit}\n",
            "",
            "control: is missing; give the arm to compare with, or reference: a number",
        ),
        ("control: {normalizer: unit}", "reference: 0.97", "versus: compares two differences, so it needs control"),
        (
            "direction: lower",
            "reference: 1\n    direction: lower",
            "reference: goes in place of control; remove one of them",
        ),
        (
            "control: {normalizer: unit}",
            "control: {activation: relu}",
            "control: must have the factors of treatment: normalizer; no",
        ),
        (
            "control: {normalizer: unit}",
            "control: {normalizer: centered}",
            "control: is the same as treatment; change one of",
        ),
        (
            "where: {activation: relu}",
            "where: {normalizer: raw}",
            "where: normalizer is in treatment too; remove it from one",
        ),
        ("    where: {activation: relu}\n", "", "versus: takes the place of where in the second difference; add where"),
        ("versus: {activation: tanh}", "versus: {}", "versus: must have the factors of where: activation; not: none"),
        (
            "versus: {activation: tanh}",
            "versus: {activation: relu}",
            "versus: is the same as where; change one of them",
        ),
        (
            "control: {normalizer: unit}",
            "control: {normalizer: unti}",
            "control.normalizer: no arm has 'unti'; did you mean 'unit'?",
        ),
        (
            "versus: {activation: tanh}",
            "versus: {activation: elu}",
            "versus.activation: no arm has 'elu'; did you mean 'relu'? val",
        ),
        (
            "where: {activation: relu}",
            "where: {dropout: 0.5}",
            "where.dropout: not a factor of this sweep; factors: normalizer, act",
        ),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    found = problems(tmp_path, changed(old, new))
    assert any(f": claims.{'-c' if '-c' in new else 'centered-hurts-relu'}.{reason}" in problem for problem in found), (
        found
    )


def test_names_of_claims_are_unique(tmp_path: Path) -> None:
    claim = EXAMPLE[EXAMPLE.index("  - name") :]
    (found,) = problems(tmp_path, EXAMPLE + claim)
    reason = "'centered-hurts-relu' is there twice; give each claim its own name"
    assert found == f"x.yaml:23:11: claims.centered-hurts-relu.name: {reason}"


def test_a_claim_about_a_number_needs_no_control(tmp_path: Path) -> None:
    text = changed("    versus: {activation: tanh}   # optional: claim the interaction instead\n", "")
    assert load(tmp_path, changed("control: {normalizer: unit}", "reference: 0.97", text)).claims[0].reference == 0.97


def test_one_factor_runs_the_arms_around_its_baseline(tmp_path: Path) -> None:
    assert load(tmp_path, ONE_FACTOR + CLAIM).claims[0].name == "c"
    at_baseline = changed("control:", "where: {activation: relu}, control:", CLAIM)
    assert problems(tmp_path, ONE_FACTOR + at_baseline) == []


def test_a_claim_over_arms_never_run_is_refused(tmp_path: Path) -> None:
    elsewhere = changed("control:", "where: {activation: tanh}, control:", CLAIM)
    (found,) = problems(tmp_path, ONE_FACTOR + elsewhere)
    assert found == (
        "x.yaml:7:40: claims.c.treatment: no arm has activation=tanh, normalizer=centered: one_factor changes one"
        " factor of the baseline (normalizer=unit, activation=relu) at a time; use design: factorial"
    )
    interaction = changed("control:", "where: {activation: relu}, versus: {activation: tanh}, control:", CLAIM)
    (found,) = problems(tmp_path, ONE_FACTOR + interaction)
    assert "claims.c.versus: no arm has activation=tanh, normalizer=centered: one_factor changes one" in found


def test_the_baseline_of_one_factor_is_an_arm_though_not_listed(tmp_path: Path) -> None:
    assert problems(tmp_path, changed("[unit, centered]", "[centered]", ONE_FACTOR) + CLAIM) == []


def test_configurations_are_claimed_by_name(tmp_path: Path) -> None:
    text = "question: q\ndesign: configurations\nconfigurations: {a: {model: mlp}, b: {model: cnn}}\nseeds: 2\n"
    claim = CLAIM.replace("{normalizer: centered}", "{configuration: b}").replace(
        "{normalizer: unit}", "{configuration: a}"
    )
    assert load(tmp_path, text + claim).claims[0].treatment == {"configuration": "b"}
    (found,) = problems(tmp_path, text + claim.replace("configuration: b", "configuration: bb"))
    assert found.endswith("claims.c.treatment.configuration: no arm has 'bb'; did you mean 'b'? values: a, b")


def test_a_wrong_claim_hides_no_other(tmp_path: Path) -> None:
    claims = CLAIM + CLAIM.split("\n", 1)[1].replace("name: c", "name: d").replace("centered", "centred")
    (first, second) = problems(tmp_path, ONE_FACTOR + claims.replace("lower", "down", 1))
    assert "claims.c.direction: no such direction: 'down'" in first
    assert "claims.d.treatment.normalizer: no arm has 'centred'; did you mean 'centered'?" in second


def test_a_wrong_claim_hides_nothing_of_itself(tmp_path: Path) -> None:
    text = changed(
        "test_accuracy",
        "accuracy",
        changed("direction: lower", "direction: down", changed("normalizer: centered}", "normalizer: centred}")),
    )
    assert [problem.split(": ")[1].split(".", 2)[2] for problem in problems(tmp_path, text)] == [
        "treatment.normalizer",
        "metric",
        "direction",
    ]


def test_a_table_has_metrics_of_its_own(tmp_path: Path) -> None:
    assert load(tmp_path, changed("test_accuracy", "f1"), any_factors=True).claims[0].metric == "f1"
