"""Protects `--set`: it reaches every value of a file, is checked like the file, and its errors name the flag."""

from pathlib import Path

import pytest
from sweep_texts import EXAMPLE, SMALL, changed, load, problems

from mnist_ablate.sweep.sweep import Range


@pytest.mark.parametrize(
    ("setting", "section", "value"),
    [
        ("seeds=4", "seeds", 4),
        ("question=What if?", "question", "What if?"),
        ("scientific.activation=[relu, tanh, elu]", "scientific", {"activation": ["relu", "tanh", "elu"]}),
        (
            "scientific={activation: [relu, tanh], width: [5]}",
            "scientific",
            {"activation": ["relu", "tanh"], "width": [5]},
        ),
        ("fixed.epochs=2", "fixed", {"epochs": 2}),
        ("fixed.dropout=.5", "fixed", {"dropout": 0.5}),
        ("fixed.normalizer='raw'", "fixed", {"normalizer": "raw"}),
        ("fixed={epochs: 3}", "fixed", {"epochs": 3}),
        ("baseline.activation=relu", "baseline", {"activation": "relu"}),
    ],
)
def test_values_are_set_before_the_check(tmp_path: Path, setting: str, section: str, value: object) -> None:
    assert getattr(load(tmp_path, SMALL, overrides=[setting]), section) == value


def test_values_deep_in_the_file_are_set(tmp_path: Path) -> None:
    settings = ["nuisance.learning_rate.low=1e-3", "claims.centered-hurts-relu.margin=0.01", "seeds=4", "seeds=5"]
    sweep = load(tmp_path, EXAMPLE, overrides=settings)
    assert sweep.nuisance["learning_rate"] == Range(low=1e-3, high=0.1, log=True)
    assert sweep.claims[0].margin == 0.01
    assert sweep.seeds == 5


def test_a_claim_with_dots_in_its_name_is_reached(tmp_path: Path) -> None:
    text = changed("name: centered-hurts-relu", "name: fig.2.b")
    assert load(tmp_path, text, overrides=["claims.fig.2.b.margin=0.5"]).claims[0].margin == 0.5


def test_a_set_value_repairs_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, changed("seeds: 8", "seeds: 0"), overrides=["seeds=3"]).seeds == 3


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("fixed.epochs=x", "fixed.epochs: must be a whole number, not 'x'"),
        ("fixed.epoch=2", "fixed.epoch: unknown key; did you mean 'epochs'? allowed: model,"),
        ("fixd.epochs=2", "no such key: fixd; did you mean 'fixed'? allowed: question, source,"),
        ("name=x", "no such key: name; allowed: question, source,"),
        ("claims.centered-hurts.margin=1", "no claim named centered-hurts; did you mean 'centered-hurts-relu'?"),
        ("claims.centered-hurts-relu.marg=1", "claims.centered-hurts-relu.marg: unknown key; did you mean 'margin'?"),
        ("scientific.activation.0=relu", "scientific.activation is a list; set it whole: scientific.activation=[a, b]"),
        ("seeds.x=1", "seeds is a single value: it has no x"),
        ("seeds", "write path=value, for example seeds=8"),
        ("seeds=", "write path=value, for example seeds=8"),
        ("=3", "write path=value, for example seeds=8"),
        ("", "write path=value, for example seeds=8"),
        ("seeds=~", "seeds: '~': no value; write one, or remove the line"),
        ("seeds=010", "seeds: '010': looks like a number, but numbers are written 8, 0.5 or 1e-3"),
        ("seeds=[1", "seeds: the bracket opened at line 1, column 1 is not closed here, or a comma is missing"),
        ("seeds=*x", "seeds: alias '*x' is not allowed; write the value again"),
        ("seeds=\udcff", "seeds: byte 0xed is not UTF-8"),
        ("nuisance.learning_rate.low=1", "nuisance.learning_rate.low: must be below high, but 1 is not below 0.1"),
    ],
)
def test_errors_name_the_flag(tmp_path: Path, setting: str, reason: str) -> None:
    (found,) = problems(tmp_path, EXAMPLE, overrides=[setting])
    shown = repr(setting) if not setting or not setting.isprintable() else setting
    assert found.startswith(f"--set {shown}: {reason}")


def test_errors_of_the_file_come_first(tmp_path: Path) -> None:
    found = problems(tmp_path, changed("seeds: 8", "seed: 8"), overrides=["fixed.epochs=0", "fixed.width=0"], seeds=0)
    assert found[0].startswith("x.yaml:12:1: seed: unknown key")
    assert {problem.split(": ")[0] for problem in found[1:]} == {
        "--set fixed.epochs=0",
        "--set fixed.width=0",
        "--seeds 0",
    }


def test_seeds_can_be_given_alone(tmp_path: Path) -> None:
    assert load(tmp_path, SMALL, seeds=5).seeds == 5
    assert problems(tmp_path, SMALL, seeds=0) == ["--seeds 0: seeds: must be at least 1, not 0"]


def test_claims_of_a_sweep_without_claims(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, SMALL, overrides=["claims.x.margin=1"])
    assert found == "--set claims.x.margin=1: no claim named x.margin; this sweep has none"
