"""Protects what identifies a sweep (its name and its digest) and what `--quick` makes of it."""

from typing import Any

import pytest

from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import Range, SeedRange, Sweep, is_name

SWEEP = Sweep(name="x", question="q", scientific={"activation": ["relu", "tanh"]}, fixed={"epochs": 5}, seeds=8)
CLAIM = Claim(name="c", statement="s", treatment={"epochs": 50}, control={"epochs": 5}, direction="lower", margin=0.0)


def test_letters_of_any_script_are_a_name() -> None:
    names = "a normalization 名前 9.lives_x-y данные \u0939\u093f\u0928\u094d\u0926\u0940 caf\u00e9"
    assert [name for name in (*names.split(), "a" * 100, "名" * 66) if not is_name(name)] == []


def test_anything_else_is_not_a_name() -> None:
    paths, signs = "-x .x _x .. ../x a/b a\\b a:b", "a\u202eb a\u2066b a\u200bb \u0301a cafe\u0301 a\ud800 ½ 😀"
    others = ("", "a b", "a\0", "a\n", "a\x1b[31m", "a" * 101, "名" * 67, "a" * 5000)
    assert [name for name in (*paths.split(), *signs.split(), *others) if is_name(name)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"question": "other"},
        {"name": "y"},
        {"seeds": 9},
        {"fixed": {"epochs": 6}},
        {"fixed": {}},
        {"scientific": {"activation": ["tanh", "relu"]}},
        {"scientific": {"activation": ["relu"]}},
        {"design": "search"},
        {"claims": [CLAIM]},
        {"nuisance": {"learning_rate": Range(low=1e-4, high=1.0)}},
    ],
)
def test_digest_changes_with_all_that_matters(change: dict[str, object]) -> None:
    assert SWEEP.model_copy(update=change).digest != SWEEP.digest


@pytest.mark.parametrize(
    "change",
    [{"source": "elsewhere"}, {"design": "factorial"}, {"fixed": {"epochs": 5.0}}, {"baseline": {}}],
)
def test_digest_stays_where_nothing_changes(change: dict[str, object]) -> None:
    assert SWEEP.model_copy(update=change).digest == SWEEP.digest


def test_digest_tells_true_from_one() -> None:
    one, true = (SWEEP.model_copy(update={"fixed": {"flag": value}}) for value in (1, True))
    assert one.digest != true.digest


def test_digest_of_a_given_sweep_is_the_same_for_ever() -> None:
    assert SWEEP.digest == "6297b146393d0efdc8e04954360265f680149d1656bb42bfe09ac760dadb3861"


def quick(**content: Any) -> Sweep:
    return Sweep.model_validate({"name": "x", "question": "q", "seeds": 8, "tuning_trials": 9, **content}).quick()


def test_quick_is_small_and_has_its_own_name() -> None:
    found = SWEEP.model_copy(update={"tuning_trials": 12, "claims": [CLAIM]}).quick()
    few = SeedRange(min=3, max=6)
    assert (found.name, found.seeds, found.tuning_trials, found.fixed) == ("x-quick", few, 2, {"epochs": 1})
    assert quick(seeds={"min": 4, "max": 5}, claims=[CLAIM], scientific={"epochs": [50, 20, 5]}).seeds == SeedRange(
        min=3, max=5
    )
    assert quick().seeds == 3, "without a claim there is nothing to wait for"
    assert found.scientific == SWEEP.scientific
    assert found.digest != SWEEP.digest


def test_quick_does_not_raise_what_is_smaller() -> None:
    found = quick(seeds=1, tuning_trials=0)
    assert (found.seeds, found.tuning_trials, found.fixed) == (1, 0, {"epochs": 1})


def test_quick_keeps_arms_apart_where_epochs_are_the_question() -> None:
    found = quick(design="one_factor", baseline={"epochs": 5}, scientific={"epochs": [50, 20]}, claims=[CLAIM])
    assert (found.scientific, found.baseline, found.fixed) == ({"epochs": [3, 2]}, {"epochs": 1}, {})
    assert (found.claims[0].treatment, found.claims[0].control) == ({"epochs": 3}, {"epochs": 1})


def test_quick_shortens_every_configuration() -> None:
    arms = {"long": {"epochs": 50}, "short": {"epochs": 10}, "default": {"model": "cnn"}}
    found = quick(design="configurations", configurations=arms)
    assert [arm["epochs"] for arm in found.configurations.values()] == [2, 1, 1]


def test_quick_shortens_what_a_search_tries_and_its_baseline() -> None:
    found = quick(design="search", scientific={"epochs": [5, 20]}, baseline={"epochs": 5})
    assert (found.scientific, found.baseline, found.fixed) == ({"epochs": [1, 2]}, {"epochs": 1}, {})
    assert quick(design="search", scientific={"epochs": [5, 20]}).fixed == {"epochs": 1}


def test_quick_shortens_what_is_tuned_and_what_is_written_for_it() -> None:
    scientific = {"dropout": [0.0, 0.5]}
    found = quick(scientific=scientific, nuisance={"epochs": {"low": 5, "high": 40, "integer": True, "log": True}})
    assert (found.nuisance, found.fixed) == ({"epochs": Range(low=1, high=2, integer=True)}, {"epochs": 1})
    found = quick(scientific=scientific, nuisance={"epochs": [10, 40]}, fixed={"epochs": 20, "width": 9})
    assert (found.nuisance, found.fixed) == ({"epochs": [1, 3]}, {"epochs": 2, "width": 9})


def test_quick_shortens_both_ends_of_a_path() -> None:
    ends = {"baseline": {"dropout": 0.0, "epochs": 5}, "target": {"dropout": 0.5, "epochs": 20}}
    found = quick(design="ablation_path", **ends)
    assert (found.baseline, found.target) == ({"dropout": 0.0, "epochs": 1}, {"dropout": 0.5, "epochs": 2})
    assert found.fixed == {}


def test_factors_are_what_a_claim_can_name() -> None:
    assert SWEEP.factors == {"activation": ["relu", "tanh"]}
    one_factor = SWEEP.model_copy(update={"design": "one_factor", "baseline": {"activation": "elu"}})
    assert one_factor.factors == {"activation": ["relu", "tanh", "elu"]}
    arms = Sweep(name="x", question="q", design="configurations", configurations={"a": {}, "b": {}}, seeds=1)
    assert arms.factors == {"configuration": ["a", "b"]}
