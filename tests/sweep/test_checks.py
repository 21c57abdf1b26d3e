"""Protects that a wrong key, type, range, setting or claim is named with its place and what was allowed."""

import json
from pathlib import Path

import pytest
from sweep_texts import EXAMPLE, ONE_FACTOR, SMALL, changed, load, problems

from mnist_ablate.sweep.sweep import SECTIONS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import default_workload

ALLOWED = f"allowed: {', '.join(SECTIONS)}"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seeds: 8", "seed: 8", f"12:1: seed: unknown key; did you mean 'seeds'? {ALLOWED}"),
        ("seeds: 8", "seeds: 8\nname: x", "13:1: name: a sweep has the name of its file; remove this line"),
        ("seeds: 8", "seeds: '8'", "12:8: seeds: must be a whole number, not '8'"),
        ("seeds: 8", "seeds: 8.0", "12:8: seeds: must be a whole number, not 8.0"),
        ("seeds: 8", "seeds: true", "12:8: seeds: must be a whole number, not true"),
        ("seeds: 8", "seeds: 0", "12:8: seeds: must be at least 1, not 0"),
        ("seeds: 8", "seeds: 1001", "12:8: seeds: must be at most 1000, not 1001"),
        ("seeds: 8", "seeds: [8]", "12:8: seeds: must be a whole number, not a list"),
        ("Do centered inputs hurt relu on MNIST?", "5", "1:11: question: must be text; put it in quotes, not 5"),
        ("factorial ", "factoral ", "3:9: design: no such design: 'factoral'; did you mean 'factorial'? allowed:"),
        ("[relu, tanh]", "relu", "7:15: scientific.activation: must be a list: [a, b], not 'relu'"),
        ("tanh]", "[a]]", "7:22: scientific.activation[1]: must be a single value: text, a number, true or false, not"),
        ("mlp", "{a: b}", "11:16: fixed.model: must be a single value: text, a number, true or false, not a mapping"),
        ("tuning_trials: 12", "tuning_trials: 5.5", "10:16: tuning_trials: must be a whole number, not 5.5"),
        ("log: true", "log: yes", "9:47: nuisance.learning_rate.log: must be true or false, not 'yes'"),
        ("log: true", "lg: true", "9:42: nuisance.learning_rate.lg: unknown key; did you mean 'log'? allowed: low,"),
        ("low: 1e-4, ", "", "9:18: nuisance.learning_rate.low: is missing"),
        ("{low: 1e-4, high: 1e-1, log: true}", "0.1", "9:18: nuisance.learning_rate: must be a list [a, b] or a"),
        ("margin: 0.002", "margin: -1", "22:13: claims.centered-hurts-relu.margin: must be at least 0, not -1"),
        ("margin: 0.002", "margin: small", "22:13: claims.centered-hurts-relu.margin: must be a number, not 'small'"),
        ("    margin: 0.002\n", "", "14:5: claims.centered-hurts-relu.margin: is missing"),
        (
            "lower",
            "lowr",
            "21:16: claims.centered-hurts-relu.direction: no such direction: 'lowr'; did you mean 'lower'",
        ),
        ("metric:", "metrics:", "20:5: claims.centered-hurts-relu.metrics: unknown key; did you mean 'metric'?"),
        (
            "{normalizer: unit}",
            "[a]",
            "17:14: claims.centered-hurts-relu.control: must be a mapping: {key: value}, not a",
        ),
    ],
)
def test_each_wrong_shape_is_one_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    found = problems(tmp_path, changed(old, new))
    assert any(problem.startswith(f"x.yaml:{line}") for problem in found), found
    assert len(found) == (2 if new == "seed: 8" else 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a", "x.yaml:1:1: a sweep file is a mapping of question, source,"),
        ("just text", "x.yaml:1:1: a sweep file is a mapping of question, source,"),
        ("~", "x.yaml:1:1: '~': no value; write one, or remove the line"),
        ("claims: {a: b}", "x.yaml:1:9: claims: must be a list of claims, not a mapping"),
        ("claims: [5]", "x.yaml:1:10: claims[0]: must be a mapping: {key: value}, not 5"),
    ],
)
def test_files_of_another_shape_are_explained(tmp_path: Path, text: str, line: str) -> None:
    assert any(problem.startswith(line) for problem in problems(tmp_path, text))


def test_required_keys_are_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "claims: [{}]")
    keys = {problem.split(": ")[1] for problem in found if problem.endswith("is missing")}
    of_claim = ("name", "statement", "treatment", "direction", "margin")
    assert keys == {"question", "seeds", *(f"claims[0].{key}" for key in of_claim)}


def test_a_misspelled_section_is_one_problem_and_not_ten(tmp_path: Path) -> None:
    found = problems(tmp_path, changed("scientific:", "scientifc:"))
    assert found == [f"x.yaml:5:1: scientifc: unknown key; did you mean 'scientific'? {ALLOWED}"]


def test_a_refused_value_is_reported_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, changed("seeds: 8", "seeds: 010"))) == 1
    assert len(problems(tmp_path, changed("[relu, tanh]", "[relu, .inf]"))) == 1
    assert len(problems(tmp_path, changed("margin: 0.002", "margin: ~"))) == 1


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    text = EXAMPLE
    wrong = {
        "question": ("hurt relu on MNIST?", "hurt relu?\nquestion: again"),
        "scientific.normalizer[1]": ("[unit, centered,", "[unit, centred,"),
        "nuisance.learning_rate.high": ("high: 1e-1", "high: 1_0"),
        "fixed.dropout": ("dropout: 0.5", "dropout: 1.5"),
        "fixed.epoch": ("epochs: 5", "epoch: 5"),
        "seeds": ("seeds: 8", "seeds: 0"),
        "claims.centered-hurts-relu.metric": ("metric: test_accuracy", "metric: test_acuracy"),
        "claims.centered-hurts-relu.direction": ("direction: lower", "direction: down"),
    }
    for old, new in wrong.values():
        text = changed(old, new, text)
    assert [problem.split(": ")[1] for problem in problems(tmp_path, text)] == list(wrong)


def test_whole_numbers_serve_where_a_fraction_is_asked(tmp_path: Path) -> None:
    assert load(tmp_path, changed("margin: 0.002", "margin: 0")).claims[0].margin == 0.0


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("epoch: 3", "fixed.epoch: unknown key; did you mean 'epochs'? allowed: model, activation, normalizer,"),
        ("optimiser: adam", "fixed.optimiser: unknown key; did you mean 'optimizer'? allowed: model,"),
        ("seed: 3", "fixed.seed: unknown key; allowed: model,"),
        ("<<: x", "fixed.<<: unknown key; allowed: model,"),
        ("epochs: 5.5", "fixed.epochs: must be a whole number, not 5.5"),
        ("epochs: true", "fixed.epochs: must be a whole number, not true"),
        ("epochs: '5'", "fixed.epochs: must be a whole number, not '5'"),
        ("epochs: 0", "fixed.epochs: must be at least 1, not 0"),
        ("batch_size: 1000000", "fixed.batch_size: must be at most 42000, not 1000000"),
        ("dropout: 1", "fixed.dropout: must be below 1, not 1"),
        ("dropout: no", "fixed.dropout: must be a number, not 'no'"),
        ("dropout: false", "fixed.dropout: must be a number, not false"),
        ("learning_rate: -1e-3", "fixed.learning_rate: must be at least 0, not -0.001"),
        ("model: mlpp", "fixed.model: no such model: 'mlpp'; did you mean 'mlp'? allowed: mlp,"),
        ("optimizer: Adam", "fixed.optimizer: no such optimizer: 'Adam'; did you mean 'adam'? allowed:"),
        ("normalizer: true", "fixed.normalizer: no such normalizer: true; allowed: raw, unit,"),
        ("optimizer: 3", "fixed.optimizer: no such optimizer: 3; allowed:"),
    ],
)
def test_each_setting_is_checked_as_its_recipe_field(tmp_path: Path, entry: str, reason: str) -> None:
    (found,) = problems(tmp_path, f"{SMALL}fixed: {{{entry}}}\n")
    column = 9 if "unknown key" in reason else 11 + entry.index(":")
    assert found.startswith(f"x.yaml:4:{column}: {reason}")


@pytest.mark.parametrize("field", sorted(default_workload().choices))
def test_every_choice_can_be_fixed(tmp_path: Path, field: str) -> None:
    text = "question: q\nscientific: {width: [16, 32]}\nseeds: 1\n"
    for name in default_workload().choices[field]:
        assert load(tmp_path, f"{text}fixed: {{{field}: {name}}}\n").fixed == {field: name}


def test_every_default_of_a_recipe_is_legal(tmp_path: Path) -> None:
    for field, value in Recipe().model_dump().items():
        text = f"question: q\nscientific: {{{'width' if field != 'width' else 'epochs'}: [1, 2]}}\nseeds: 1\n"
        assert problems(tmp_path, f"{text}fixed: {{{field}: {json.dumps(value)}}}\n") == []


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        ("learning_rate: {low: 1, high: 0.1}", "learning_rate.low: must be below high, but 1 is not below 0.1"),
        ("learning_rate: {low: 1, high: 1}", "learning_rate.low: must be below high, but 1 is not below 1"),
        ("learning_rate: {low: 0, high: 1, log: true}", "learning_rate.low: must be above 0 with log: true, not 0"),
        ("learning_rate: {low: 1, high: 1e6}", "learning_rate.high: must be at most 1000, not 1000000.0"),
        ("dropout: {low: 0, high: 1}", "dropout.high: must be below 1, not 1"),
        ("width: {low: 16, high: 64}", "width: takes whole numbers; add integer: true"),
        ("width: {low: 16.5, high: 64, integer: true}", "width.low: must be a whole number with integer: true, not"),
        ("width: {low: 0, high: 64, integer: true}", "width.low: must be at least 1, not 0"),
        ("optimizer: {low: 0, high: 1}", "optimizer: is not a number, so it has no range; give a list: [a, b]"),
        ("optimizer: [adam, adm]", "optimizer[1]: no such optimizer: 'adm'; did you mean 'adam'?"),
        ("optimizer: []", "optimizer: an empty list; give at least one value, or remove the line"),
        ("optimizer: [adam, adam]", "optimizer[1]: 'adam' is there twice; keep one"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tmp_path: Path, interval: str, reason: str) -> None:
    found = problems(tmp_path, f"{SMALL}nuisance: {{{interval}}}\ntuning_trials: 1\n")
    assert any(f": nuisance.{reason}" in problem for problem in found), found


def test_a_table_may_have_any_factor(tmp_path: Path) -> None:
    text = "question: q\nscientific: {momentum: [0.9, 1.5], model: [resnet]}\nfixed: {anything: 5}\nseeds: 1\n"
    assert load(tmp_path, text, any_factors=True).scientific["model"] == ["resnet"]
    assert len(problems(tmp_path, text)) == 3


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("seed", "is a column with a meaning of its own, not a factor; use another name"),
        ("outcome", "is a column with a meaning of its own, not a factor; use another name"),
        ("test_accuracy", "is a column with a meaning of its own, not a factor; use another name"),
        ("learning rate", "a factor is named by letters, digits and '_' and does not start with a digit"),
    ],
)
def test_a_table_keeps_its_own_columns(tmp_path: Path, key: str, reason: str) -> None:
    found = problems(tmp_path, f"question: q\nscientific: {{{key}: [1, 2]}}\nseeds: 1\n", any_factors=True)
    assert found == [f"x.yaml:2:14: scientific.{key}: {reason}"]


CLAIM = """\
claims:
  - {name: c, statement: s, treatment: {normalizer: centered}, control: {normalizer: unit}, direction: lower,
     margin: 0}
"""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: centered-hurts-relu", "name: -c", "name: '-c': a name has 1 to 100 letters, digits or marks of any"),
        ("Centered inputs hurt relu.", "''", "statement: is empty; say in a sentence what is claimed"),
        ("test_accuracy", "accuracy", "metric: no such metric: 'accuracy'; did you mean 'val_accuracy'? allowed: t"),
        (
            "treatment: {normalizer: centered}",
            "treatment: {}",
            "treatment: is empty; name the arm that the claim",
        ),
        ("    control: {normalizer: unit}\n", "", "control: is missing; give the arm to compare with, or reference:"),
        ("control: {normalizer: unit}", "reference: 0.97", "versus: compares two differences, so it needs control"),
        (
            "metric: test_accuracy",
            "metric: test_loss\n    estimand: mean",
            "estimand: mean needs a metric with bounds, and test_loss has none; use typical",
        ),
        ("direction:", "reference: 1\n    direction:", "reference: goes in place of control; remove one of them"),
        ("{normalizer: unit}", "{width: 5}", "control: must have the factors of treatment: normalizer; not: width"),
        ("{normalizer: unit}", "{normalizer: centered}", "control: is the same as treatment; change one of them"),
        (
            "{activation: relu}",
            "{normalizer: raw}",
            "where: normalizer is in treatment too; remove it from one of them",
        ),
        ("    where: {activation: relu}\n", "", "versus: takes the place of where in the second difference; add where"),
        ("versus: {activation: tanh}", "versus: {}", "versus: must have the factors of where: activation; not: none"),
        ("{activation: tanh}", "{activation: relu}", "versus: is the same as where; change one of them"),
        ("{normalizer: unit}", "{normalizer: unti}", "control.normalizer: no arm has 'unti'; did you mean 'unit'?"),
        ("{activation: tanh}", "{activation: elu}", "versus.activation: no arm has 'elu'; did you mean 'relu'? values"),
        ("{activation: relu}", "{dropout: 0.5}", "where.dropout: not a factor of this sweep; factors: normalizer, act"),
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
