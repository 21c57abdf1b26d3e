"""Protects that a plan makes sense before anything is trained: factors, values, ranges and the rules of each design."""

from pathlib import Path

import pytest
from sweep_texts import ONE_FACTOR, SMALL, changed, load, problems

from mnist_ablate.sweep.plan import expand
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import default_workload

CONFIGURATIONS = "question: q\ndesign: configurations\nconfigurations: {a: {model: mlp}, b: {model: cnn}}\nseeds: 2\n"
SEARCH = """\
question: q
design: search
nuisance: {width: {low: 16, high: 512, log: true, integer: true}}
tuning_trials: 5
seeds: 2
"""
CONDITIONAL = """\
question: q
design: search
scientific: {activation: [relu, tanh], width: [50, 100]}
conditions: {width: {activation: [relu]}}
tuning_trials: 4
seeds: 2
"""
LEAVE_ONE_OUT = """\
question: q
design: leave_one_out
baseline: {normalizer: unit, norm_layer: batch_norm}
scientific: {normalizer: [raw], norm_layer: [none]}
seeds: 2
"""


@pytest.mark.parametrize("text", [SMALL, ONE_FACTOR, CONFIGURATIONS, SEARCH, LEAVE_ONE_OUT])
def test_each_design_loads(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).seeds == 2


@pytest.mark.parametrize(
    "text",
    [
        "question: q\ndesign: search\nscientific: {activation: [relu, tanh]}\ntuning_trials: 2\nseeds: 2\n",
        changed("tuning_trials: 4", "tuning_trials: 3", CONDITIONAL),
        changed("100]", "100], dropout: [0, 0.5]", CONDITIONAL),
        changed("tuning_trials: 5", "conditions: {width: {}}\ntuning_trials: 5", SEARCH),
        changed("seeds: 2", "nuisance: {learning_rate: [0.1, 0.01]}\ntuning_trials: 2\nseeds: 2", SMALL),
        changed("seeds: 2", "nuisance: {learning_rate: [0.1, 0.01]}\ntuning_trials: 2\nseeds: 2", CONFIGURATIONS),
        changed("[unit, centered]", "[centered]", ONE_FACTOR),
        changed("seeds: 2", "baseline: {activation: tanh}\nseeds: 2", SMALL),
        changed("seeds: 2", "fixed: {epochs: 5, dropout: 0}\nseeds: 2", CONFIGURATIONS),
        changed("a: {model: mlp}", "a: {}", CONFIGURATIONS),
    ],
)
def test_what_a_design_allows_loads(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_a_tuned_factor_may_be_fixed_too_as_first_written(tmp_path: Path) -> None:
    tuned = "nuisance: {learning_rate: [0.1, 0.01]}\nfixed: {learning_rate: 0.1}\ntuning_trials: 2\nseeds: 2"
    assert load(tmp_path, changed("seeds: 2", tuned, SMALL)).fixed == {"learning_rate": 0.1}


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
        assert problems(tmp_path, f"{text}fixed: {{{field}: {value}}}\n") == []


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        ("learning_rate: {low: 1, high: 0.1}", "learning_rate.low: must be below high, but 1 is not below 0.1"),
        ("learning_rate: {low: 1, high: 1}", "learning_rate.low: must be below high, but 1 is not below 1"),
        ("learning_rate: {low: 0, high: 1, log: true}", "learning_rate.low: must be above 0 with log: true, not 0"),
        ("learning_rate: {low: 1, high: 1e6}", "learning_rate.high: must be at most 1000, not 1000000.0"),
        ("dropout: {low: 0, high: 1}", "dropout.high: must be below 1, not 1"),
        ("width: {low: 16, high: 64}", "width: takes whole numbers; add integer: true"),
        (
            "width: {low: 16.5, high: 64, integer: true}",
            "width.low: must be a whole number with integer: true, not 16.5",
        ),
        ("width: {low: 0, high: 64, integer: true}", "width.low: must be at least 1, not 0"),
        ("optimizer: {low: 0, high: 1}", "optimizer: is chosen by name; give a list: [a, b]"),
        ("optimizer: [adam, adm]", "optimizer[1]: no such optimizer: 'adm'; did you mean 'adam'?"),
        ("optimizer: []", "optimizer: an empty list; give at least one value, or remove the line"),
        ("optimizer: [adam, adam]", "optimizer[1]: 'adam' is there twice; keep one"),
    ],
)
def test_what_cannot_be_tuned_is_refused(tmp_path: Path, interval: str, reason: str) -> None:
    found = problems(tmp_path, f"{SMALL}nuisance: {{{interval}}}\ntuning_trials: 1\n")
    assert any(f": nuisance.{reason}" in problem for problem in found), found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (changed("[relu, tanh]", "[]", SMALL), "2:26: scientific.activation: an empty list; give at least one value"),
        (
            changed("[relu, tanh]", "[relu, relu]", SMALL),
            "2:33: scientific.activation[1]: 'relu' is there twice; keep one",
        ),
        (
            changed("activation: [relu, tanh]", "dropout: [0, 0.0]", SMALL),
            "2:27: scientific.dropout[1]: 0.0 is there twice",
        ),
        (
            f"{SMALL}fixed: {{activation: relu}}",
            "4:9: fixed.activation: is in scientific too; remove it from one of them",
        ),
        (
            f"{SMALL}nuisance: {{activation: [relu]}}\ntuning_trials: 1",
            "4:12: nuisance.activation: is in scientific too",
        ),
        (
            f"{SMALL}baseline: {{activation: elu}}",
            "4:24: baseline.activation: 'elu' is not in scientific: relu, tanh",
        ),
        (
            f"{SMALL}baseline: {{width: 5}}",
            "4:12: baseline.width: not a scientific factor (activation); move it to fixed",
        ),
        (
            f"{SMALL}configurations: {{a: {{}}}}",
            "4:1: configurations: design: factorial has none; write design: configur",
        ),
        (
            f"{SMALL}nuisance: {{width: [5, 6]}}",
            "1:1: tuning_trials: nuisance factors need at least 1, the trials to tune",
        ),
        (
            f"{SMALL}nuisance: {{width: [5, 6]}}\ntuning_trials: 3",
            "5:16: tuning_trials: more than the 2 there are to try; write at most 2",
        ),
        (
            "question: q\ndesign: search\nscientific: {activation: [relu, tanh]}\ntuning_trials: 3\nseeds: 1",
            "4:16: tuning_trials: more than the 2 there are to try; write at most 2",
        ),
        (f"{SMALL}as_written: true", "4:1: as_written: trains the fixed values of what is tuned, and nothing is"),
        (CONDITIONAL, "5:16: tuning_trials: more than the 3 there are to try; write at most 3"),
        (
            f"{SMALL}nuisance: {{width: [5, 6]}}\ntuning_trials: 2\nas_written: true",
            "6:13: as_written: needs the written value of width; add it to fixed",
        ),
        (f"{SMALL}tuning_trials: 3", "4:1: tuning_trials: there is nothing to tune; add nuisance factors or remove it"),
        (
            "question: q\nseeds: 1",
            "1:1: scientific: design: factorial needs what varies: {normalizer: [unit, centered]}",
        ),
        ("question: ' '\nseeds: 1", "1:11: question: is empty; say in a sentence what the sweep asks"),
        (
            changed("baseline: {normalizer: unit, ", "baseline: {", ONE_FACTOR),
            "3:11: baseline.normalizer: design: one_factor needs",
        ),
        (
            changed("baseline: {normalizer: unit, activation: relu}\n", "", ONE_FACTOR),
            "1:1: baseline.normalizer: design: one_f",
        ),
        (
            changed("[raw]", "[raw, scaled]", LEAVE_ONE_OUT),
            "4:26: scientific.normalizer: design: leave_one_out takes one value",
        ),
        (
            changed("[raw]", "[unit]", LEAVE_ONE_OUT),
            "4:27: scientific.normalizer[0]: 'unit' is the baseline's own; give what",
        ),
        (
            changed("tuning_trials: 5\n", "", SEARCH),
            "1:1: tuning_trials: design: search needs at least 1, the trials to search",
        ),
        (
            "question: q\ndesign: search\ntuning_trials: 2\nseeds: 1",
            "1:1: scientific: design: search needs scientific lists or",
        ),
        (
            "question: q\ndesign: configurations\nseeds: 1",
            "1:1: configurations: design: configurations needs them: {name:",
        ),
        (
            f"{CONFIGURATIONS}scientific: {{width: [1]}}",
            "5:1: scientific: design: configurations has no scientific; remove it",
        ),
        (f"{CONFIGURATIONS}baseline: {{width: 1}}", "5:1: baseline: design: configurations has no baseline; remove it"),
        (
            f"{CONFIGURATIONS}fixed: {{model: mlp}}",
            "3:22: configurations.a.model: is in fixed too; remove it from one of them",
        ),
        (changed("cnn", "mlp", CONFIGURATIONS), "3:35: configurations.b: is the same as 'a'; remove one"),
        (
            changed("a: {model", "-a: {model", CONFIGURATIONS),
            "3:18: configurations.-a: a name has 1 to 100 letters, digits",
        ),
        (
            changed("cnn", "cn", CONFIGURATIONS),
            "3:46: configurations.b.model: no such model: 'cn'; did you mean 'cnn'?",
        ),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, text: str, line: str) -> None:
    found = problems(tmp_path, text)
    assert any(problem.startswith(f"x.yaml:{line}") for problem in found), found


PATH = """\
question: q
design: ablation_path
baseline: {learning_rate: 0, dropout: 0.0}
target: {learning_rate: 0.01, dropout: 0.5}
seeds: 2
"""


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (changed("activation: [relu, tanh]", "learning_rate: [0.1, 0]", SMALL), ["scientific.learning_rate[1]"]),
        (f"{SMALL}nuisance: {{learning_rate: [0.0, 0.1]}}\ntuning_trials: 2\n", ["nuisance.learning_rate[0]"]),
        (
            changed(
                "width: {low: 16, high: 512, log: true, integer: true}", "learning_rate: [0, 0.1, 0.2, 1, 2]", SEARCH
            ),
            ["nuisance.learning_rate[0]"],
        ),
        (
            changed("activation: [relu, tanh]", "learning_rate: [0.1]", ONE_FACTOR).replace(
                "activation: relu", "learning_rate: 0"
            ),
            ["baseline.learning_rate"],
        ),
        (
            changed("norm_layer: [none]", "learning_rate: [0]", LEAVE_ONE_OUT).replace(
                "norm_layer: batch_norm", "learning_rate: 0.1"
            ),
            ["scientific.learning_rate[0]"],
        ),
    ],
)
def test_an_arm_s_learning_rate_is_the_one_it_is_trained_with(tmp_path: Path, text: str, places: list[str]) -> None:
    found = [problem.split(": ", 1)[1] for problem in problems(tmp_path, text)]
    assert found == [f"{place}: 0 stands for the optimizer's default: write the number" for place in places]


@pytest.mark.parametrize(
    "text",
    [
        f"{SMALL}fixed: {{learning_rate: 0}}\n",
        changed("{model: cnn}", "{learning_rate: 0, width: 9}", CONFIGURATIONS),
        PATH,
    ],
)
def test_where_no_arm_is_named_by_it_0_is_the_optimizer_s_default_rate(tmp_path: Path, text: str) -> None:
    plan = expand(load(tmp_path, text), "digest")
    assert {each.trial.settings["learning_rate"] for each in plan.verdict_trials()} <= {0.001, 0.01}
    assert all("learning_rate" not in arm.params for arm in plan.arms)


OPTIMIZERS = """\
question: q
design: search
scientific: {optimizer: [adam, sgd], dropout: [0.0, 0.5]}
tuning_trials: 2
seeds: 2
"""
TUNED_OPTIMIZER = f"{SMALL}nuisance: {{optimizer: [adam, sgd]}}\ntuning_trials: 2\n"
TUNED_ARMS = f"{CONFIGURATIONS}nuisance: {{optimizer: [adam, sgd]}}\ntuning_trials: 2\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (OPTIMIZERS, "3:14: scientific.optimizer"),
        (f"{OPTIMIZERS}fixed: {{learning_rate: 0}}\n", "3:14: scientific.optimizer"),
        (
            f"{OPTIMIZERS}nuisance: {{learning_rate: [1, 2]}}\nconditions: {{learning_rate: {{optimizer: [sgd]}}}}\n",
            "3:14: scientific.optimizer",
        ),
        (changed("scientific", "nuisance", OPTIMIZERS), "3:12: nuisance.optimizer"),
        (TUNED_OPTIMIZER, "4:12: nuisance.optimizer"),
        (TUNED_ARMS, "5:12: nuisance.optimizer"),
        (changed("{model: cnn}", "{learning_rate: 0.1}", TUNED_ARMS), "5:12: nuisance.optimizer"),
    ],
)
def test_optimizers_are_not_tried_at_the_default_rate_of_another(tmp_path: Path, text: str, place: str) -> None:
    reason = "all would be tried at one optimizer's default learning rate; give learning_rate too"
    assert problems(tmp_path, text) == [f"x.yaml:{place}: {reason}"]
    assert problems(tmp_path, text, any_factors=True) == []


@pytest.mark.parametrize(
    "text",
    [
        f"{OPTIMIZERS}fixed: {{learning_rate: 0.01}}\n",
        f"{OPTIMIZERS}nuisance: {{learning_rate: [0.1, 0.2]}}\n",
        changed("dropout: [0.0, 0.5]", "learning_rate: [0.1, 0.2]", OPTIMIZERS),
        f"{TUNED_OPTIMIZER}fixed: {{learning_rate: 0.01}}\n",
        changed("[relu, tanh]", "[relu, tanh], learning_rate: [0.1, 0.2]", TUNED_OPTIMIZER),
        changed("[adam, sgd]", "[adam, sgd], learning_rate: [0.1, 0.2]", TUNED_OPTIMIZER),
        TUNED_ARMS.replace("}, b", ", learning_rate: 0.1}, b").replace("cnn", "cnn, learning_rate: 0.2"),
    ],
)
def test_optimizers_are_tried_at_a_rate_that_is_written_or_tried_too(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


def test_each_arm_s_optimizer_has_its_own_default_rate(tmp_path: Path) -> None:
    plan = expand(load(tmp_path, changed("activation: [relu, tanh]", "optimizer: [adam, sgd]", SMALL)), "digest")
    assert [arm.settings["learning_rate"] for arm in plan.arms] == [0.001, 0.01]


@pytest.mark.parametrize(
    ("one", "other", "fixed"),
    [
        ("width: 500", "dropout: 0.5", ""),
        ("", "model: mlp", "width: 9"),
        ("learning_rate: 0", "learning_rate: 0.001", ""),
        ("learning_rate: 0.01", "", "optimizer: sgd"),
        ("optimizer: sgd", "optimizer: sgd, learning_rate: 0.01", ""),
    ],
)
def test_configurations_that_are_trained_alike_are_the_same(tmp_path: Path, one: str, other: str, fixed: str) -> None:
    arms = f"configurations: {{a: {{{one}}}, b: {{{other}}}, c: {{activation: tanh}}}}"
    text = f"question: q\ndesign: configurations\n{arms}\nfixed: {{{fixed}}}\nseeds: 2\n"
    assert [line.split(": ", 1)[1] for line in problems(tmp_path, text)] == [
        "configurations.b: is the same as 'a'; remove one"
    ]
    assert problems(tmp_path, text, any_factors=True) == []


def test_configurations_with_other_optimizers_have_other_default_rates(tmp_path: Path) -> None:
    arms = "{a: {optimizer: sgd}, b: {optimizer: sgd, learning_rate: 0.001}, c: {optimizer: adam}}"
    assert problems(tmp_path, changed("{a: {model: mlp}, b: {model: cnn}}", arms, CONFIGURATIONS)) == []


def test_a_table_may_have_any_learning_rate(tmp_path: Path) -> None:
    text = changed("activation: [relu, tanh]", "learning_rate: [0, 0.1]", SMALL)
    assert problems(tmp_path, text, any_factors=True) == []


def test_a_table_may_have_any_factor(tmp_path: Path) -> None:
    text = "question: q\nscientific: {momentum: [0.9, 1.5], model: [resnet]}\nfixed: {anything: 5}\nseeds: 1\n"
    assert load(tmp_path, text, any_factors=True).scientific["model"] == ["resnet"]
    assert len(problems(tmp_path, text)) == 3


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("seed", "is a column of its own, not a factor; use another name"),
        ("outcome", "is a column of its own, not a factor; use another name"),
        ("test_accuracy", "is a column of its own, not a factor; use another name"),
        ("learning rate", "a factor is named by letters, digits and '_' and does not start with a digit"),
    ],
)
def test_a_table_keeps_its_own_columns(tmp_path: Path, key: str, reason: str) -> None:
    found = problems(tmp_path, f"question: q\nscientific: {{{key}: [1, 2]}}\nseeds: 1\n", any_factors=True)
    assert found == [f"x.yaml:2:14: scientific.{key}: {reason}"]
