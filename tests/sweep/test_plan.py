"""Plans: what each design trains, in which order, under which ids; sizes by multiplication."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_trials import keras_trial
from quiet_time import quiet_s

from mnist_ablate.errors import SweepError
from mnist_ablate.execution import preview
from mnist_ablate.statistics.bounded_mean import betting_interval
from mnist_ablate.sweep.plan import Plan, count, label, make_plan
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.trial import TUNING_SEED, Params
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS, default_learning_rate
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of

DATA = "d1" * 32
FACTORS: dict[str, Any] = {"normalizer": ["unit", "raw", "centered"], "activation": ["relu", "tanh"]}
SIDES: dict[str, Any] = {"treatment": {"activation": "tanh"}, "control": {"activation": "relu"}}
CLAIM: dict[str, Any] = {"name": "c", "statement": "s", "direction": "lower", "margin": 0.002, **SIDES}
BASELINE = {"normalizer": "unit", "activation": "relu"}
TUNED: dict[str, Any] = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "batch_size": [32, 128]}


def sweep(**content: Any) -> Sweep:
    return Sweep.model_validate({"name": "x", "question": "q", "scientific": FACTORS, "seeds": 3, **content})


def plan(**content: Any) -> Plan:
    return make_plan(sweep(**content), DATA)


def arms(of: Plan) -> list[str]:
    return [label(arm.params) for arm in of.arms]


def test_factorial_is_every_combination() -> None:
    assert arms(plan()) == ["unit relu", "unit tanh", "raw relu", "raw tanh", "centered relu", "centered tanh"]


@pytest.mark.parametrize("design", ["one_factor", "leave_one_out"])
def test_one_factor_is_the_baseline_and_each_single_change(design: str) -> None:
    expected = ["unit relu", "raw relu", "centered relu", "unit tanh"]
    assert arms(plan(design=design, baseline=BASELINE)) == expected


def test_configurations_are_arms_by_name_with_their_settings() -> None:
    configurations = {"plain": {}, "narrow": {"width": 8, "dropout": 0.0}}
    found = plan(design="configurations", scientific={}, configurations=configurations, fixed={"epochs": 2})
    assert arms(found) == ["plain", "narrow"]
    assert found.arms[0].settings == Recipe(epochs=2, learning_rate=0.001).model_dump()
    assert found.arms[1].settings == Recipe(epochs=2, learning_rate=0.001, width=8, dropout=0.0).model_dump()


def test_seeds_are_outermost_so_that_an_early_stop_leaves_balanced_arms() -> None:
    trials = plan().verdict_trials()
    assert [each.trial.seed for each in trials] == [0] * 6 + [1] * 6 + [2] * 6
    assert [label(each.arm.params) for each in trials[:6]] == arms(plan())


def test_equal_content_has_equal_ids_and_anything_else_another() -> None:
    ids = [each.trial.id for each in plan().verdict_trials()]
    assert ids == [each.trial.id for each in plan().verdict_trials()]
    assert len(set(ids)) == len(ids)
    other = make_plan(sweep(), "d2" * 32)
    assert set(ids).isdisjoint(each.trial.id for each in other.verdict_trials())


def test_an_id_never_changes() -> None:
    recipe = Recipe(learning_rate=0.001, normalizer="centered", epochs=5)
    assert keras_trial(recipe, 3, DATA).id == "700961cc98f61f4c"


def test_every_arm_is_tuned_at_the_same_points() -> None:
    found = plan(nuisance=TUNED, tuning_trials=5)
    by_arm: dict[str, list[tuple[float, int]]] = {}
    for each in found.tuning:
        recipe = recipe_of(each.trial)
        by_arm.setdefault(label(each.arm.params), []).append((recipe.learning_rate, recipe.batch_size))
    assert list(by_arm) == arms(found)
    points = [(point["learning_rate"], point["batch_size"]) for point in found.points]
    assert all(tried == points for tried in by_arm.values())
    assert len(set(points)) == 5
    assert all(1e-4 <= float(rate) <= 1e-1 and size in {32, 128} for rate, size in points)


def test_points_do_not_change_when_more_are_asked_for() -> None:
    few, many = (plan(nuisance=TUNED, tuning_trials=n).points for n in (5, 9))
    assert many[:5] == few


def test_a_logarithmic_range_is_covered_in_its_logarithm() -> None:
    points = plan(nuisance={"learning_rate": TUNED["learning_rate"]}, tuning_trials=30).points
    decades = [sum(10.0**-k <= float(point["learning_rate"]) < 10.0 ** (1 - k) for point in points) for k in (4, 3, 2)]
    assert decades == pytest.approx([10, 10, 10], abs=1)


def test_an_integer_range_gives_whole_numbers_within_it() -> None:
    points = plan(nuisance={"width": {"low": 8, "high": 12, "integer": True}}, tuning_trials=40).points
    assert {point["width"] for point in points} == {8, 9, 10, 11, 12}


def test_verdicts_use_no_seed_of_the_tuning_and_the_values_it_chose() -> None:
    found = plan(nuisance=TUNED, tuning_trials=2, seeds=1000)
    tuned: Mapping[str, Params] = {name: {"learning_rate": 0.05 + i / 100} for i, name in enumerate(arms(found))}
    trials = found.verdict_trials(tuned)
    assert {each.trial.seed for each in found.tuning} == {TUNING_SEED}
    assert TUNING_SEED not in {each.trial.seed for each in trials}
    rates = [each.trial.settings["learning_rate"] for each in trials[:6]]
    assert rates == pytest.approx([0.05 + i / 100 for i in range(6)])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_missing_learning_rate_is_the_optimizer_s_own(optimizer: str) -> None:
    found = plan(fixed={"optimizer": optimizer})
    given = plan(fixed={"optimizer": optimizer, "learning_rate": default_learning_rate(optimizer)})
    assert {arm.settings["learning_rate"] for arm in found.arms} == {default_learning_rate(optimizer)}
    assert [each.trial.id for each in found.verdict_trials()] == [each.trial.id for each in given.verdict_trials()]


def test_millions_are_refused_at_once_with_the_count_and_the_limit() -> None:
    values = [round(0.01 * k, 2) for k in range(64)]
    huge = {"dropout": values, "learning_rate": [v + 0.001 for v in values], "width": list(range(1, 65))}
    huge_sweep = sweep(scientific=huge, seeds=16)

    def refused() -> None:
        with pytest.raises(SweepError, match=r"^x: 4,194,304 trials; limit 10,000 \(--max-trials\)$"):
            make_plan(huge_sweep, DATA)

    assert quiet_s(refused) < 0.1


@pytest.mark.parametrize(
    ("changes", "first", "warning"),
    [
        (
            {"scientific": {"activation": ["relu", "tanh"]}, "seeds": 1},
            "x: 2 arms x 1 seed, 3 trials, 1 of them the negative control",
            "warning: 1 seed cannot decide a claim: 3 are the fewest (--seeds 3)",
        ),
        ({"scientific": {"activation": ["relu"]}, "seeds": 1, "claims": []}, "x: 1 arm x 1 seed, 1 trial", "no claims"),
        ({"seeds": {"min": 6, "max": 9}, "claims": []}, "x: 6 arms x 6 to 9 seeds, from 36 to 54 trials", "no claims"),
    ],
)
def test_a_plan_s_counts_are_told_in_singular_and_plural(
    changes: dict[str, Any], first: str, warning: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_time_s", lambda *_: 60.0)
    asked = sweep(**{"claims": [CLAIM], **changes})
    text = preview.preview(asked, images, 1000).text(asked)
    assert text.startswith(f"{first}\n")
    assert warning in text


def test_a_plan_says_what_seeds_can_show_of_a_mean_of_which_nothing_is_assumed(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "_time_s", lambda *_: 60.0)
    few, many = (sweep(claims=[{**CLAIM, "estimand": "mean"}], seeds=seeds) for seeds in (5, 100))
    made = preview.preview(few, images, 1000)
    assert made.claims[0].smallest_effect is None
    told = f"claims.{few.claims[0].name}: with estimand: mean 5 seeds cannot decide it, whatever they find"
    assert told in made.warnings
    made = preview.preview(many, images, 1000)
    found, text = made.claims[0].smallest_effect, made.text(many)
    assert found is not None
    assert not [line for line in made.warnings if "cannot decide" in line]
    assert "(estimand: mean, if seeds do not differ)" in text
    margin = many.claims[0].margin
    shown, hidden = (betting_interval([margin + found * part] * 100, 0.05, (-1.0, 1.0))[0] for part in (1.01, 0.99))
    assert hidden < margin < shown


@given(st.sampled_from(["factorial", "one_factor"]), st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_the_count_is_the_number_of_trials(design: str, seeds: int, points: int, tuned: bool) -> None:
    nuisance = TUNED if tuned else {}
    found = plan(design=design, baseline=BASELINE, seeds=seeds, nuisance=nuisance, tuning_trials=points)
    listed = len(found.tuning) + len(found.verdict_trials())
    assert count(found.sweep) == listed == found.size


def test_a_search_is_counted_without_being_made() -> None:
    found = plan(design="search", nuisance=TUNED, tuning_trials=40)
    assert found.tuning == ()
    assert found.size == 40 + 3 * len(found.arms)
