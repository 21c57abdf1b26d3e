"""Protects what identifies a sweep (its name and its digest) and what `--quick` makes of it."""

from typing import Any

import pytest

from mnist_ablate.sweep.sweep import Claim, Range, Sweep, is_name

SWEEP = Sweep(name="x", question="q", scientific={"activation": ["relu", "tanh"]}, fixed={"epochs": 5}, seeds=8)
CLAIM = Claim(name="c", statement="s", treatment={"epochs": 50}, control={"epochs": 5}, direction="lower", margin=0.0)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "normalization",
        "名前",
        "9.lives_x-y",
        "данные",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "a" * 100,
        "caf\u00e9",
        "名" * 66,
    ],
)
def test_letters_of_any_script_are_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-x",
        ".x",
        "_x",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "a b",
        "a:b",
        "a\0",
        "a\n",
        "a\x1b[31m",
        "a\u202eb",
        "a\u2066b",
        "a\u200bb",
        "\u0301a",
        "cafe\u0301",
        "a" * 101,
        "名" * 67,
        "a\ud800",
        "½",
        "😀",
        "a" * 5000,
    ],
)
def test_anything_else_is_not_a_name(name: str) -> None:
    assert not is_name(name)


def test_digest_is_a_sha256() -> None:
    assert len(SWEEP.digest) == 64
    assert set(SWEEP.digest) <= set("0123456789abcdef")


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
    [
        {"source": "elsewhere"},
        {"design": "factorial"},
        {"fixed": {"epochs": 5.0}},
        {"baseline": {}},
    ],
)
def test_digest_stays_where_nothing_changes(change: dict[str, object]) -> None:
    assert SWEEP.model_copy(update=change).digest == SWEEP.digest


def test_digest_tells_true_from_one() -> None:
    one, true = (SWEEP.model_copy(update={"fixed": {"flag": value}}) for value in (1, True))
    assert one.digest != true.digest


def test_digest_of_a_given_sweep_is_the_same_for_ever() -> None:
    assert SWEEP.digest == "6297b146393d0efdc8e04954360265f680149d1656bb42bfe09ac760dadb3861"


def test_quick_is_small_and_has_its_own_name() -> None:
    quick = SWEEP.model_copy(update={"tuning_trials": 12}).quick()
    assert (quick.name, quick.seeds, quick.tuning_trials, quick.fixed) == ("x-quick", 2, 2, {"epochs": 1})
    assert quick.scientific == SWEEP.scientific
    assert quick.digest != SWEEP.digest


def test_quick_does_not_raise_what_is_smaller() -> None:
    quick = SWEEP.model_copy(update={"seeds": 1, "fixed": {}}).quick()
    assert (quick.seeds, quick.tuning_trials, quick.fixed) == (1, 0, {"epochs": 1})


def test_quick_keeps_arms_apart_where_epochs_are_the_question() -> None:
    sweep = Sweep(
        name="x",
        question="q",
        design="one_factor",
        baseline={"epochs": 5},
        scientific={"epochs": [50, 20]},
        seeds=8,
        claims=[CLAIM],
    )
    quick = sweep.quick()
    assert quick.scientific == {"epochs": [3, 2]}
    assert quick.baseline == {"epochs": 1}
    assert quick.fixed == {}
    assert (quick.claims[0].treatment, quick.claims[0].control) == ({"epochs": 3}, {"epochs": 1})


def test_quick_shortens_every_configuration() -> None:
    arms = {"long": {"epochs": 50}, "short": {"epochs": 10}, "default": {"model": "cnn"}}
    sweep = Sweep(name="x", question="q", design="configurations", configurations=arms, seeds=8)
    assert [arm["epochs"] for arm in sweep.quick().configurations.values()] == [2, 1, 1]


def quick(**content: Any) -> Sweep:
    return Sweep.model_validate({"name": "x", "question": "q", "seeds": 8, "tuning_trials": 9, **content}).quick()


def test_quick_shortens_what_a_search_tries_and_its_baseline() -> None:
    found = quick(design="search", scientific={"epochs": [5, 20]}, baseline={"epochs": 5})
    assert (found.scientific, found.baseline, found.fixed) == ({"epochs": [1, 2]}, {"epochs": 1}, {})
    assert quick(design="search", scientific={"epochs": [5, 20]}).fixed == {"epochs": 1}


def test_quick_shortens_what_is_tuned_and_what_is_written_for_it() -> None:
    scientific = {"dropout": [0.0, 0.5]}
    found = quick(scientific=scientific, nuisance={"epochs": {"low": 5, "high": 40, "integer": True, "log": True}})
    assert found.nuisance == {"epochs": Range(low=1, high=2, integer=True)}
    assert found.fixed == {"epochs": 1}
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
