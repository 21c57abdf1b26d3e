"""Protects that a wrong key, type or range is named with its place and what was allowed, and hides nothing else."""

from pathlib import Path

import pytest
from sweep_texts import EXAMPLE, changed, load, problems

ALLOWED = (
    "allowed: question, source, design, baseline, scientific, configurations, target, nuisance, tuning_trials,"
    " as_written, conditions, pruning, fixed, seeds, negative_control, claims"
)


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
    assert keys == {
        "question",
        "seeds",
        *(f"claims[0].{key}" for key in ("name", "statement", "treatment", "direction", "margin")),
    }


def test_a_misspelled_section_is_one_problem_and_not_ten(tmp_path: Path) -> None:
    found = problems(tmp_path, changed("scientific:", "scientifc:"))
    assert found == [f"x.yaml:5:1: scientifc: unknown key; did you mean 'scientific'? {ALLOWED}"]


def test_a_refused_value_is_reported_once(tmp_path: Path) -> None:
    assert len(problems(tmp_path, changed("seeds: 8", "seeds: 010"))) == 1
    assert len(problems(tmp_path, changed("[relu, tanh]", "[relu, .inf]"))) == 1
    assert len(problems(tmp_path, changed("margin: 0.002", "margin: ~"))) == 1


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    text = EXAMPLE
    for old, new in (
        ("hurt relu on MNIST?", "hurt relu?\nquestion: again"),
        ("[unit, centered,", "[unit, centred,"),
        ("high: 1e-1", "high: 1_0"),
        ("dropout: 0.5", "dropout: 1.5"),
        ("epochs: 5", "epoch: 5"),
        ("seeds: 8", "seeds: 0"),
        ("metric: test_accuracy", "metric: test_acuracy"),
        ("direction: lower", "direction: down"),
    ):
        text = changed(old, new, text)
    found = [problem.split(": ")[1] for problem in problems(tmp_path, text)]
    assert found == [
        "question",
        "scientific.normalizer[1]",
        "nuisance.learning_rate.high",
        "fixed.dropout",
        "fixed.epoch",
        "seeds",
        "claims.centered-hurts-relu.metric",
        "claims.centered-hurts-relu.direction",
    ]


def test_whole_numbers_serve_where_a_fraction_is_asked(tmp_path: Path) -> None:
    assert load(tmp_path, changed("margin: 0.002", "margin: 0")).claims[0].margin == 0.0
