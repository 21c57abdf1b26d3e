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
from mnist_ablate.reports.report import ChosenValues, Report, Selection, Tuning
from mnist_ablate.reports.selection import select
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import Plan, count, make_plan
from mnist_ablate.trial import TUNING_SEED, Epoch, Outcome, RecordedTrial, Scalar
from mnist_ablate.verification import ledger_check, raw_ledger
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


def outcome(trial, accuracy):
    metrics = {} if accuracy is None else {"val_accuracy": accuracy}
    return Outcome(trial_id=trial.id, status="failed" if accuracy is None else "complete", metrics=metrics)


def searched(plan, score, entries=None):
    """All suggestions of one search, each told its score before the next is asked for."""
    entries = dict(entries or {})
    search = Search(plan, entries)
    for planned in search.trials():
        ended = outcome(planned.trial, score(recipe_of(planned.trial)))
        entries[planned.trial.id] = RecordedTrial(planned.trial, planned.arm.params, planned.stage, ended)
        search.learn(ended)
    return entries


def near_a_hundredth(recipe):
    return 0.9 - abs(recipe.learning_rate - 0.01) - (0.3 if recipe.activation == "relu" else 0.0)


def test_size_is_the_search_and_two_confirmed_arms():
    assert count(small(**SPACE)) == 20 + 2 * 3
    assert [arm.params for arm in plan().arms] == [{"configuration": "baseline"}, {"configuration": "winner"}]


def test_suggestions_stay_in_the_space_and_use_no_seed_of_a_verdict():
    trials = [entry.trial for entry in searched(plan(), near_a_hundredth).values()]
    assert len(trials) == 20
    assert {trial.seed for trial in trials} == {TUNING_SEED}
    assert all(1e-4 <= trial.settings["learning_rate"] <= 1e-1 for trial in trials)
    assert {trial.settings["activation"] for trial in trials} == {"relu", "tanh"}


def test_search_learns_where_the_good_recipes_are():
    trials = [entry.trial for entry in searched(plan(tuning_trials=40), near_a_hundredth).values()]
    late = trials[20:]
    assert sum(trial.settings["activation"] == "tanh" for trial in late) > 0.7 * len(late)


def test_winner_is_the_best_by_validation_and_is_confirmed_on_fresh_seeds():
    found, entries = plan(), searched(plan(), near_a_hundredth)
    best = max((recipe_of(entry.trial) for entry in entries.values()), key=near_a_hundredth)
    settings = tuned(found, entries)
    assert settings == {"winner": {"activation": best.activation, "learning_rate": best.learning_rate}}
    trials = found.verdict_trials(settings)
    assert [each.trial.seed for each in trials] == [0, 0, 1, 1, 2, 2]
    assert [each.trial.settings["learning_rate"] for each in trials][:2] == [0.001, best.learning_rate]


def test_no_winner_before_the_search_is_complete():
    entries = dict(list(searched(plan(), near_a_hundredth).items())[:19])
    assert tuned(plan(), entries) is None


def test_resumed_search_tries_only_what_is_missing_and_learned_from_the_rest():
    whole = searched(plan(), near_a_hundredth)
    first = dict(list(whole.items())[:12])
    resumed = searched(plan(), near_a_hundredth, first)
    assert list(resumed)[:12] == list(first)
    assert len(resumed) == 20


def test_failed_trials_are_tried_once_and_never_win():
    entries = searched(plan(), lambda recipe: None if recipe.activation == "relu" else 0.5)
    assert len(entries) == 20
    assert tuned(plan(), entries)["winner"]["activation"] == "tanh"


def test_small_space_ends_when_everything_was_tried():
    found = plan(nuisance={}, scientific={"activation": ["relu", "tanh"]})
    assert len(searched(found, near_a_hundredth)) == 2


@pytest.mark.usefixtures("tracker", "fake")
@pytest.mark.slow
def test_a_search_without_enough_recipes_ends_with_a_line_each_time(settings: Settings) -> None:
    """A learning rate of 0 stands for the optimizer's own, which is there as well."""
    rates = {"scientific": {"learning_rate": [0, 0.001, 0.01]}, "nuisance": {}, "baseline": {}, "tuning_trials": 3}
    sweep = small(**{**SPACE, **rates})
    for _ in range(2):
        with pytest.raises(AblateError) as told:
            drive(sweep, settings, Watcher())
        assert str(told.value) == (
            "small: the search found 2 recipes to try, tuning_trials asks for 3: "
            "write tuning_trials: 2 and begin anew with --fresh"
        )
    assert len(Ledger(settings.ledger_url).find("small").entries()) == 2


@pytest.mark.usefixtures("tracker")
@pytest.mark.slow
def test_whole_search_is_driven_recorded_and_resumed(settings: Settings, fake) -> None:
    sweep = small(**{**SPACE, "tuning_trials": 4})
    with pytest.raises(RuntimeError, match="crash"):
        drive(sweep, settings, Watcher(stop_after=2))
    result = drive(sweep, settings, Watcher())
    assert (result.planned, result.recorded) == (10, 10)
    assert sorted({(row.params["configuration"], row.seed) for row in result.rows}) == [
        (name, seed) for name in ("baseline", "winner") for seed in range(3)
    ]
    again = len(starts(fake))
    assert drive(sweep, settings, Watcher()).rows == result.rows
    assert len(starts(fake)) == again


CONDITIONAL = {
    "scientific": {"model": ["mlp", "cnn"]},
    "nuisance": {"width": {"low": 16, "high": 64, "integer": True}},
    "conditions": {"width": {"model": ["mlp"]}},
    "baseline": {"model": "mlp"},
    "tuning_trials": 12,
}


def test_a_factor_without_a_meaning_keeps_its_usual_value_and_a_resume_knows() -> None:
    found = plan(**CONDITIONAL)
    entries = searched(found, lambda recipe: 0.5 + 0.001 * recipe.width * (recipe.model == "mlp"))
    widths = {
        model: {e.trial.settings["width"] for e in entries.values() if e.trial.settings["model"] == model}
        for model in ("mlp", "cnn")
    }
    assert widths["cnn"] == {500}
    assert all(16 <= width <= 64 for width in widths["mlp"])
    assert len(widths["mlp"]) > 3
    assert len(entries) == 12
    again = searched(found, lambda _: 0.5, dict(list(entries.items())[:6]))
    assert list(again)[:6] == list(entries)[:6]
    assert len(again) == 12


def curve(recipe, epochs):
    return [
        Epoch(
            number=n,
            train_loss=1,
            train_accuracy=0.5,
            val_loss=1,
            val_accuracy=near_a_hundredth(recipe) * n / (n + 1),
            ended_ms=n,
        )
        for n in range(1, epochs + 1)
    ]


def pruned_search(plan, entries=None):
    """Trials that are asked, epoch by epoch, whether to go on; the entries, and the epochs that were trained."""
    entries, trained = dict(entries or {}), 0
    search = Search(plan, entries)
    for planned in search.trials():
        told, trial = [], planned.trial
        for each in curve(recipe_of(trial), trial.settings["epochs"]):
            told.append(each)
            if search.gives_up(trial, each):
                break
        trained += len(told)
        whole = len(told) == trial.settings["epochs"]
        ended = Outcome(
            trial_id=trial.id,
            status="complete" if whole else "pruned",
            epochs=tuple(told),
            metrics={"val_accuracy": told[-1].metrics["val_accuracy"]} if whole else {},
        )
        entries[trial.id] = RecordedTrial(trial, planned.arm.params, planned.stage, ended)
        search.learn(ended)
    return entries, trained


@pytest.mark.parametrize("pruning", ["median", "asha"])
def test_pruning_trains_less_and_keeps_the_winner_whole(pruning: str) -> None:
    found = plan(pruning=pruning, tuning_trials=30, fixed={"epochs": 9})
    entries, trained = pruned_search(found)
    statuses = [entry.outcome.status for entry in entries.values()]
    assert len(statuses) == 30
    assert statuses.count("pruned") >= 5
    assert trained < 0.8 * 30 * 9
    best = tuned(found, entries)["winner"]
    whole = [e for e in entries.values() if e.outcome.status == "complete"]
    assert best["learning_rate"] in {e.trial.settings["learning_rate"] for e in whole}
    assert pruned_search(plan(tuning_trials=30, fixed={"epochs": 9}))[1] == 30 * 9


@pytest.mark.parametrize("pruning", ["median", "asha"])
def test_a_resumed_search_competes_with_what_was_pruned_before(pruning: str) -> None:
    found = plan(pruning=pruning, tuning_trials=24, fixed={"epochs": 9})
    first = dict(list(pruned_search(found)[0].items())[:16])
    entries, trained = pruned_search(found, first)
    assert list(entries)[:16] == list(first)
    assert len(entries) == 24
    assert trained < 8 * 9


def test_an_epoch_told_again_by_a_trial_that_was_lost_is_no_news() -> None:
    search = Search(plan(pruning="median", fixed={"epochs": 9}), {})
    trial = next(search.trials()).trial
    first = curve(recipe_of(trial), 1)[0]
    assert [search.gives_up(trial, first) for _ in range(2)] == [False, False]


@pytest.mark.slow
@pytest.mark.usefixtures("tracker")
def test_pruned_trials_end_on_their_worker_are_recorded_and_not_tried_again(
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
    assert (result.planned, result.recorded, result.broken) == (20, 20, False)
    assert result.counts == {"planned": 4, "complete": 4, "diverged": 0, "failed": 0, "lost": 0}
    ledger = ledger_check.CheckedLedger(raw_ledger.read(settings.ledger_url, "small"))
    assert ledger.problems == []
    again = len(starts(fake))
    drive(sweep, settings, Watcher())
    assert len(starts(fake)) == again


def confirmed(plan, entries, gain=0.01):
    """The search's entries and those of its verdicts: the winner is better by `gain`, more or less."""
    entries = dict(entries)
    for each in plan.verdict_trials(tuned(plan, entries)):
        won = gain * (each.arm.params["configuration"] == "winner")
        accuracy = 0.9 + won + 0.001 * ((each.trial.seed * 7 + won * 1e4) % 3)
        metrics = {"val_accuracy": accuracy, "test_accuracy": accuracy - 0.002}
        outcome = Outcome(trial_id=each.trial.id, status="complete", metrics=metrics)
        entries[each.trial.id] = RecordedTrial(each.trial, each.arm.params, each.stage, outcome)
    return entries


def test_gain_is_stated_as_it_looked_and_as_it_was_confirmed() -> None:
    found = plan(seeds=6)
    entries = confirmed(found, searched(found, lambda recipe: 0.95 + near_a_hundredth(recipe) / 100))
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
    told = {each.name: each for each in sections.selection(report(found, made.model_copy(update={"tuning": tuning})))}
    assert "the best of 20 trials had +5." in told["search"].intro
    assert told["tuning"].short == {"": ["winner: a 1, b 1, c 1, d 1; val accuracy 90.00%, 20 tried"]}


def report(found: Plan, made: Selection) -> Report:
    return judging.of_rows(found.sweep, [], progress.count([]), About(selection=made))


def test_importances_find_what_mattered_and_say_how_sure_that_is() -> None:
    found = plan(tuning_trials=60)
    entries = searched(found, lambda recipe: 0.9 - abs(recipe.learning_rate - 0.01))
    search = select(found, entries).search
    assert search is not None
    first, second = search.importances.factors
    assert (first.factor, second.factor) == ("learning_rate", "activation")
    assert first.low <= first.share <= first.high
    assert first.share + second.share == pytest.approx(1.0)
    assert second.high < first.low
    assert importances(found.sweep, list(entries.values())[:19]) == []


def test_before_a_winner_is_confirmed_nothing_is_gained() -> None:
    search = select(plan(), {}).search
    assert search is not None
    assert search.gain is None
