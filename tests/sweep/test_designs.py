"""Protects that each design trains its arms, and that a file which makes no sense for its design is refused."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from sweep_texts import ONE_FACTOR, SMALL, changed, load, problems

from mnist_ablate.sweep import json_schema
from mnist_ablate.sweep.designs import DESIGNS, SECTIONS, DesignName
from mnist_ablate.sweep.plan import count, make_plan

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


PATH = """\
question: q
design: ablation_path
baseline: {learning_rate: 0, dropout: 0.0}
target: {learning_rate: 0.01, dropout: 0.5}
seeds: 2
"""
TUNED = "nuisance: {width: [5, 6]}\ntuning_trials: 2\n"
TEXTS: dict[DesignName, str] = {
    "factorial": SMALL,
    "one_factor": ONE_FACTOR,
    "leave_one_out": LEAVE_ONE_OUT,
    "configurations": CONFIGURATIONS,
    "search": SEARCH,
    "ablation_path": PATH,
}
"""A small sweep of each design; the tests below hold for every one."""
ENTRIES = {
    "baseline": "{epochs: 3}",
    "scientific": "{epochs: [3, 4]}",
    "configurations": "{c: {epochs: 3}}",
    "target": "{epochs: 3}",
    "nuisance": "{epochs: [3, 4]}",
    "as_written": "true",
    "conditions": "{epochs: {activation: [relu]}}",
    "pruning": "median",
}
SCHEMA = jsonschema.Draft7Validator(json_schema.schema())


def is_valid(text: str) -> bool:
    """Whether the schema for editors takes it."""
    return bool(SCHEMA.is_valid(yaml.safe_load(text)))


def edited(base: str, old: str, new: str) -> str:
    """The text with one part replaced, or with lines added."""
    return changed(old, new, base) if old else base + new


def without(section: str, text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{section}:"))


def test_every_design_has_an_example_here() -> None:
    assert set(TEXTS) == set(DESIGNS)
    assert set(ENTRIES) == set(SECTIONS)


@pytest.mark.parametrize("name", TEXTS)
def test_each_design_loads_and_counts_the_arms_that_it_lists(name: DesignName, tmp_path: Path) -> None:
    sweep = load(tmp_path, TEXTS[name])
    design = DESIGNS[sweep.design]
    assert design.name == name
    assert is_valid(TEXTS[name])
    arms = list(design.arms(sweep))
    assert len(arms) == design.arm_count(sweep) == len(make_plan(sweep, "digest").arms)
    assert all(set(params) == set(sweep.factors) for params, _ in arms)
    assert all(params[key] in sweep.factors[key] for params, _ in arms for key in params)
    assert count(sweep) == design.tuning_count(sweep) + 2 * len(arms)


@pytest.mark.parametrize(
    ("name", "section"),
    [(name, section) for name in TEXTS for section in SECTIONS if section not in DESIGNS[name].sections],
)
def test_a_section_that_a_design_does_not_read_is_refused(name: DesignName, section: str, tmp_path: Path) -> None:
    text = f"{TEXTS[name]}{section}: {ENTRIES[section]}\n"
    found = problems(tmp_path, text)
    assert any(f"{section}: design: {name} has no {section}; remove it" in line for line in found), found
    assert not is_valid(text)


@pytest.mark.parametrize(("name", "section"), [(name, section) for name in TEXTS for section in DESIGNS[name].needs])
def test_a_section_that_a_design_needs_is_asked_for(name: DesignName, section: str, tmp_path: Path) -> None:
    text = without(section, TEXTS[name])
    assert f"x.yaml:1:1: {section}: design: {name} needs {DESIGNS[name].needs[section]}" in problems(tmp_path, text)
    assert not is_valid(text)


@pytest.mark.parametrize(
    ("base", "old", "new"),
    [
        (SEARCH, "{low: 16, high: 512, log: true, integer: true}", "[1, 2, 3, 4, 5]"),
        (SEARCH, "seeds: 2", "conditions: {width: {}}\nseeds: 2"),
        (CONDITIONAL, "tuning_trials: 4", "tuning_trials: 3"),
        (CONDITIONAL, "100]", "100], dropout: [0, 0.5]"),
        (SMALL, "", TUNED),
        (SMALL, "", "baseline: {activation: tanh}"),
        (CONFIGURATIONS, "", "nuisance: {learning_rate: [0.1, 0.01]}\ntuning_trials: 2"),
        (CONFIGURATIONS, "", "fixed: {epochs: 5, dropout: 0}"),
        (CONFIGURATIONS, "a: {model: mlp}", "a: {}"),
        (ONE_FACTOR, "[unit, centered]", "[centered]"),
    ],
)
def test_what_a_design_allows_loads(tmp_path: Path, base: str, old: str, new: str) -> None:
    assert problems(tmp_path, edited(base, old, new)) == []


def test_a_tuned_factor_may_be_fixed_too_as_first_written(tmp_path: Path) -> None:
    assert load(tmp_path, f"{SMALL}{TUNED}fixed: {{width: 5}}").fixed == {"width": 5}


RATES = "learning_rate: [0, 0.1, 0.2, 1, 2]"
ONE_RATE = LEAVE_ONE_OUT.replace("normalizer: unit", "learning_rate: 0.1").replace(
    "normalizer: [raw]", "learning_rate: [0.2]"
)
TWICE = "is in scientific too; remove it from one of them"
AT_MOST = "tuning_trials: more than the 2 there are to try; write at most 2"
AT_LEAST = "1:1: tuning_trials: must be at least 1: the number of trials that tune each arm, or that a search tries"


@pytest.mark.parametrize(
    ("base", "old", "new", "line"),
    [
        (SMALL, "[relu, tanh]", "[]", "2:26: scientific.activation: an empty list; give at least one value, or remove"),
        (SMALL, "[relu, tanh]", "[relu, relu]", "2:33: scientific.activation[1]: 'relu' is there twice; keep one"),
        (SMALL, "activation: [relu, tanh]", "dropout: [0, 0.0]", "2:27: scientific.dropout[1]: 0.0 is there twice"),
        (SMALL, "", "fixed: {activation: relu}", f"4:9: fixed.activation: {TWICE}"),
        (SMALL, "", "nuisance: {activation: [relu]}\ntuning_trials: 1", f"4:12: nuisance.activation: {TWICE}"),
        (SMALL, "", "baseline: {activation: elu}", "4:24: baseline.activation: 'elu' is not in scientific: relu, tanh"),
        (SMALL, "", "baseline: {width: 5}", "4:12: baseline.width: not a scientific factor (activation); move it to"),
        (SMALL, "", "configurations: {a: {}}", "4:1: configurations: design: factorial has no configurations; remove"),
        (SMALL, "", "nuisance: {width: [5, 6]}", AT_LEAST),
        (SMALL, "", "nuisance: {width: [5, 6]}\ntuning_trials: 3", f"5:16: {AT_MOST}"),
        (SEARCH, "{low: 16, high: 512, log: true, integer: true}", "[5, 6]", f"4:16: {AT_MOST}"),
        (SEARCH, "tuning_trials: 5\n", "", AT_LEAST),
        (SEARCH, "nuisance", "# nuisance", "1:1: scientific: design: search needs scientific or nuisance"),
        (CONDITIONAL, "", "", "5:16: tuning_trials: more than the 3 there are to try; write at most 3"),
        (SMALL, "", "as_written: true", "4:1: as_written: trains the fixed values of what is tuned, and nothing is"),
        (SMALL, "", f"{TUNED}as_written: true", "6:13: as_written: needs the written value of width; add it to fixed"),
        (SMALL, "", "tuning_trials: 3", "4:1: tuning_trials: there is nothing to tune; add nuisance factors, or"),
        (SMALL, "question: q", "question: ' '", "1:11: question: is empty; say in a sentence what the sweep asks"),
        (ONE_FACTOR, "baseline: {normalizer: unit, ", "baseline: {", "3:11: baseline.normalizer: design: one_factor"),
        (LEAVE_ONE_OUT, "[raw]", "[raw, scaled]", "4:26: scientific.normalizer: design: leave_one_out takes one value"),
        (LEAVE_ONE_OUT, "[raw]", "[unit]", "4:27: scientific.normalizer[0]: 'unit' is the baseline's own value; give"),
        (CONFIGURATIONS, "", "baseline: {width: 1}", "5:1: baseline: design: configurations has no baseline; remove"),
        (CONFIGURATIONS, "", "fixed: {model: mlp}", "3:22: configurations.a.model: is in fixed too; remove it from"),
        (CONFIGURATIONS, "cnn", "mlp", "3:35: configurations.b: is the same as 'a'; remove one"),
        (CONFIGURATIONS, "a: {model", "-a: {model", "3:18: configurations.-a: a name has 1 to 100 letters, digits or"),
        (CONFIGURATIONS, "cnn", "cn", "3:46: configurations.b.model: no such model: 'cn'; did you mean 'cnn'?"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, base: str, old: str, new: str, line: str) -> None:
    found = problems(tmp_path, edited(base, old, new))
    assert any(problem.startswith(f"x.yaml:{line}") for problem in found), found


@pytest.mark.parametrize(
    ("base", "old", "new", "place"),
    [
        (SMALL, "activation: [relu, tanh]", "learning_rate: [0.1, 0]", "scientific.learning_rate[1]"),
        (SMALL, "", TUNED.replace("width: [5, 6]", "learning_rate: [0.0, 0.1]"), "nuisance.learning_rate[0]"),
        (SEARCH, "width: {low: 16, high: 512, log: true, integer: true}", RATES, "nuisance.learning_rate[0]"),
        (ONE_RATE, "baseline: {learning_rate: 0.1", "baseline: {learning_rate: 0", "baseline.learning_rate"),
        (ONE_RATE, "[0.2]", "[0]", "scientific.learning_rate[0]"),
    ],
)
def test_an_arm_s_learning_rate_is_the_one_it_is_trained_with(
    tmp_path: Path, base: str, old: str, new: str, place: str
) -> None:
    found = [problem.split(": ", 1)[1] for problem in problems(tmp_path, edited(base, old, new))]
    assert found == [f"{place}: 0 stands for the optimizer's default; write the number"]


@pytest.mark.parametrize(
    "text",
    [
        f"{SMALL}fixed: {{learning_rate: 0}}\n",
        changed("{model: cnn}", "{learning_rate: 0, width: 9}", CONFIGURATIONS),
        PATH,
    ],
)
def test_where_no_arm_is_named_by_it_0_is_the_optimizer_s_default_rate(tmp_path: Path, text: str) -> None:
    plan = make_plan(load(tmp_path, text), "digest")
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
    reason = "all would be tried with the default learning_rate of one optimizer; give learning_rate too"
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
    plan = make_plan(load(tmp_path, changed("activation: [relu, tanh]", "optimizer: [adam, sgd]", SMALL)), "digest")
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
