"""Searches with TPE: what is suggested, learned and resumed, and whole searches with the fake trainer."""

import pytest
from sweep_runs import Watcher, small, starts

from mnist_ablate.errors import AblateError
from mnist_ablate.execution.driver import drive
from mnist_ablate.execution.search import Search
from mnist_ablate.ledger import progress
from mnist_ablate.ledger.importance import importances
from mnist_ablate.ledger.ledger import Ledger
from mnist_ablate.ledger.progress import rows, tuned
from mnist_ablate.reports import judging, sections
from mnist_ablate.reports.judging import About
from mnist_ablate.reports.report import ChosenValues, Tuning
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.trial import TUNING_SEED, Epoch, Outcome, RecordedTrial, Scalar
from mnist_ablate.verification import ledger_check, raw_stores
from mnist_ablate.workloads.keras_mnist.recipe import recipe_of

SPACE = {
    "design": "search",
    "scientific": {"activation": ["relu", "tanh"]},
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
    "baseline": {"activation": "tanh"},
    "tuning_trials": 20,
    "claims": [],
}


def plan(**changes) -> Plan:
    return make_plan(small(**{**SPACE, **changes}), "digest")


def searched(plan, score, entries=None):
    """All suggestions of one search, trained epoch by epoch until it gives them up, each told before the next.

    The entries, and the epochs that were trained.
    """
    entries, trained = dict(entries or {}), 0
    search = Search(plan, entries)
    for planned in search.trials():
        trial, accuracy = planned.trial, score(recipe_of(planned.trial))
        epochs = [] if accuracy is None else curve(accuracy, trial.settings["epochs"])
        told = []
        for each in epochs:
            told.append(each)
            if search.gives_up(trial, each):
                break
        trained += len(told)
        status = "failed" if accuracy is None else "pruned" if len(told) < len(epochs) else "complete"
        metrics = {"val_accuracy": accuracy} if status == "complete" else {}
        ended = Outcome(trial_id=trial.id, status=status, metrics=metrics, epochs=tuple(told))
        entries[trial.id] = RecordedTrial(trial, planned.arm.params, planned.stage, ended)
        search.learn(ended)
    return entries, trained


def curve(accuracy, epochs):
    return [
        Epoch(number=n, metrics={"val_accuracy": accuracy * n * (epochs + 1) / (n + 1) / epochs}, ended_ms=n)
        for n in range(1, epochs + 1)
    ]


def near_a_hundredth(recipe):
    return 0.9 - abs(recipe.learning_rate - 0.01) - (0.3 if recipe.activation == "relu" else 0.0)


def first(n, entries):
    return dict(list(entries.items())[:n])


def test_size_is_the_search_and_two_confirmed_arms():
    assert count(small(**SPACE)) == 20 + 2 * 3
    assert [arm.params for arm in plan().arms] == [{"configuration": "baseline"}, {"configuration": "winner"}]


def test_suggestions_stay_in_the_space_use_no_seed_of_a_verdict_and_learn_where_the_good_recipes_are():
    trials = [entry.trial for entry in searched(plan(tuning_trials=40), near_a_hundredth)[0].values()]
    assert len(trials) == 40
    assert {trial.seed for trial in trials} == {TUNING_SEED}
    assert all(1e-4 <= trial.settings["learning_rate"] <= 1e-1 for trial in trials)
    assert {trial.settings["activation"] for trial in trials} == {"relu", "tanh"}
    assert sum(trial.settings["activation"] == "tanh" for trial in trials[20:]) > 0.7 * 20


def test_winner_is_the_best_by_validation_and_is_confirmed_on_fresh_seeds():
    found, entries = plan(), searched(plan(), near_a_hundredth)[0]
    assert tuned(found, first(19, entries)) is None  # the search is not complete
    best = max((recipe_of(entry.trial) for entry in entries.values()), key=near_a_hundredth)
    settings = tuned(found, entries)
    assert settings == {"winner": {"activation": best.activation, "learning_rate": best.learning_rate}}
    trials = found.verdict_trials(settings)
    assert [each.trial.seed for each in trials] == [0, 0, 1, 1, 2, 2]
    assert [each.trial.settings["learning_rate"] for each in trials][:2] == [0.001, best.learning_rate]


def test_failed_trials_are_tried_once_and_never_win():
    entries, _ = searched(plan(), lambda recipe: None if recipe.activation == "relu" else 0.5)
    assert len(entries) == 20
    assert tuned(plan(), entries)["winner"]["activation"] == "tanh"


def test_small_space_ends_when_everything_was_tried():
    assert len(searched(plan(nuisance={}), near_a_hundredth)[0]) == 2


@pytest.mark.usefixtures("tracker", "fake")
@pytest.mark.slow
def test_a_search_without_enough_recipes_ends_with_a_line_each_time(settings: Settings) -> None:
    """A learning rate of 0 stands for the optimizer's own, which is there as well."""
    rates = {"scientific": {"learning_rate": [0, 0.001, 0.01]}, "nuisance": {}, "baseline": {}, "tuning_trials": 3}
    for _ in range(2):
        with pytest.raises(AblateError) as told:
            drive(small(**{**SPACE, **rates}), settings, Watcher())
        assert str(told.value) == (
            "small: the search found 2 recipes to try, tuning_trials asks for 3: "
            "write tuning_trials: 2 and begin anew with --fresh"
        )
    assert len(Ledger(settings.ledger_url).find("small").entries()) == 2


CONDITIONAL = {
    "scientific": {"model": ["mlp", "cnn"]},
    "nuisance": {"width": {"low": 16, "high": 64, "integer": True}},
    "conditions": {"width": {"model": ["mlp"]}},
    "baseline": {"model": "mlp"},
    "tuning_trials": 12,
}


def test_a_factor_without_a_meaning_keeps_its_usual_value_and_a_resume_knows() -> None:
    found = plan(**CONDITIONAL)
    entries, _ = searched(found, lambda recipe: 0.5 + 0.001 * recipe.width * (recipe.model == "mlp"))
    widths = {"mlp": set(), "cnn": set()}
    for entry in entries.values():
        widths[entry.trial.settings["model"]].add(entry.trial.settings["width"])
    assert widths["cnn"] == {500}
    assert all(16 <= width <= 64 for width in widths["mlp"])
    assert len(widths["mlp"]) > 3
    assert len(entries) == 12
    again, _ = searched(found, lambda _: 0.5, first(6, entries))
    assert list(again)[:6] == list(entries)[:6]
    assert len(again) == 12


@pytest.mark.parametrize("pruning", ["none", "median", "asha"])
def test_a_resumed_search_tries_what_is_missing_and_competes_with_what_it_knows(pruning: str) -> None:
    found = plan(pruning=pruning, tuning_trials=30, fixed={"epochs": 9})
    entries, trained = searched(found, near_a_hundredth)
    outcomes = [entry.outcome for entry in entries.values()]
    pruned = [outcome for outcome in outcomes if outcome.status == "pruned"]
    assert len(outcomes) == 30
    assert (trained == 30 * 9, len(pruned) >= 5, trained < 0.8 * 30 * 9) == (
        pruning == "none",
        *[pruning != "none"] * 2,
    )
    whole = [entry.trial.settings["learning_rate"] for entry in entries.values() if entry.outcome not in pruned]
    assert tuned(found, entries)["winner"]["learning_rate"] in whole
    resumed, more = searched(found, near_a_hundredth, first(22, entries))
    assert list(resumed)[:22] == list(entries)[:22]
    assert len(resumed) == 30
    assert (more < 8 * 9) == (pruning != "none")


def test_an_epoch_told_again_by_a_trial_that_was_lost_is_no_news() -> None:
    search = Search(plan(pruning="median", fixed={"epochs": 9}), {})
    trial = next(search.trials()).trial
    assert [search.gives_up(trial, curve(0.9, 9)[0]) for _ in range(2)] == [False, False]


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_a_search_is_driven_recorded_and_resumed_and_its_pruned_trials_end_on_their_worker(
    settings: Settings, fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EPOCH_S", "0.15")
    sweep = small(**{**SPACE, "tuning_trials": 16, "pruning": "asha", "fixed": {"epochs": 9}, "seeds": 2})
    with pytest.raises(RuntimeError, match="crash"):
        drive(sweep, settings, Watcher(stop_after=9))
    result = drive(sweep, settings, Watcher())
    entries = [entry for entry in result.record.entries().values() if entry.stage == "tuning"]
    pruned = [entry.outcome for entry in entries if entry.outcome.status == "pruned"]
    assert len(entries) == 16
    assert pruned
    assert all(0 < len(each.epochs) < 9 and not each.metrics and each.seconds > 0 for each in pruned)
    assert (result.plan.size, result.recorded, result.broken) == (20, 20, False)
    assert {(arm.params["configuration"], arm.n) for arm in result.report.arms} == {("baseline", 2), ("winner", 2)}
    assert ledger_check.CheckedLedger(raw_stores.read_ledger(settings.ledger_url, "small")).problems == []
    again = len(starts(fake))
    assert drive(sweep, settings, Watcher()).report == result.report
    assert len(starts(fake)) == again


def confirmed(plan, entries):
    """The search's entries and those of its verdicts: the winner is better by about 0.01."""
    entries = dict(entries)
    for each in plan.verdict_trials(tuned(plan, entries)):
        won = 0.01 * (each.arm.params["configuration"] == "winner")
        accuracy = 0.9 + won + 0.001 * ((each.trial.seed * 7 + won * 1e4) % 3)
        metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy - 0.002}
        outcome = Outcome(trial_id=each.trial.id, status="complete", metrics=metrics)
        entries[each.trial.id] = RecordedTrial(each.trial, each.arm.params, each.stage, outcome)
    return entries


def test_gain_is_stated_as_it_looked_and_as_it_was_confirmed() -> None:
    found = plan(seeds=6)
    before = select(found, {}).search
    assert before is not None
    assert before.gain is None
    entries = confirmed(found, searched(found, lambda recipe: 0.95 + near_a_hundredth(recipe) / 100)[0])
    made = select(found, entries)
    assert made.search is not None
    gain = made.search.gain
    assert gain is not None
    on_validation, on_test = gain.confirmed
    seen = [entry.outcome.metrics["val_accuracy"] for entry in entries.values() if entry.stage == "tuning"]
    usual = [row.metrics["val_accuracy"] for row in rows(found, entries) if row.params["configuration"] == "baseline"]
    assert gain.seen == pytest.approx(max(seen) - sum(usual) / 6)
    assert max(seen) > min(seen) + 0.001
    assert on_validation.effect < 0.02
    assert on_test.effect == pytest.approx(on_validation.effect)
    assert on_test.ci_low < on_test.effect < on_test.ci_high
    assert (on_test.metric, on_test.n_pairs) == ("test_accuracy", 6)
    values: dict[str, Scalar] = dict.fromkeys("abcd", 1)
    many = ChosenValues(params={"configuration": "winner"}, values=values, score=0.9, tried=20, edges={})
    tuning = Tuning(metric="val_accuracy", trials=20, outcomes={"complete": 20}, arms=(many,))
    shown = About(selection=made.model_copy(update={"tuning": tuning}))
    report = judging.of_rows(found.sweep, [], progress.count([]), shown)
    told = {each.name: each for each in sections.selection(report)}
    assert "the best of 20 trials had +5." in told["search"].intro
    assert told["tuning"].short == {"": ["winner: a 1, b 1, c 1, d 1; val accuracy 90.00%, 20 tried"]}


def test_importances_find_what_mattered_and_say_how_sure_that_is() -> None:
    found = plan(tuning_trials=60)
    entries, _ = searched(found, lambda recipe: 0.9 - abs(recipe.learning_rate - 0.01))
    search = select(found, entries).search
    assert search is not None
    one, two = search.importances.factors
    assert (one.factor, two.factor) == ("learning_rate", "activation")
    assert one.low <= one.share <= one.high
    assert one.share + two.share == pytest.approx(1.0)
    assert two.high < one.low
    assert importances(found.sweep, list(entries.values())[:19]) == []
