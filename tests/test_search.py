"""Searches with TPE: what is suggested, learned and resumed, and whole searches with the fake trainer."""

import pytest
from sweep_runs import Watcher, small, starts

from mnist_ablate.driver import drive
from mnist_ablate.ledger import Entry
from mnist_ablate.plan import Plan, count, expand
from mnist_ablate.search import Search
from mnist_ablate.settings import Settings
from mnist_ablate.standing import tuned
from mnist_ablate.trial import TUNING_SEED, Outcome

SPACE = {
    "design": "search",
    "scientific": {"activation": ["relu", "tanh"]},
    "nuisance": {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}},
    "baseline": {"activation": "tanh"},
    "tuning_trials": 20,
    "claims": [],
}


def plan(**changes) -> Plan:
    return expand(small(**{**SPACE, **changes}), "digest")


def outcome(trial, accuracy):
    metrics = {} if accuracy is None else {"val_accuracy": accuracy}
    return Outcome(trial_id=trial.id, status="failed" if accuracy is None else "complete", metrics=metrics)


def searched(plan, score, entries=None):
    """All suggestions of one search, each told its score before the next is asked for."""
    entries = dict(entries or {})
    search = Search(plan, entries)
    for planned in search.trials():
        ended = outcome(planned.trial, score(planned.trial.recipe))
        entries[planned.trial.id] = Entry(planned.trial, planned.arm.params, planned.stage, ended)
        search.tell(ended)
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
    assert all(1e-4 <= trial.recipe.learning_rate <= 1e-1 for trial in trials)
    assert {trial.recipe.activation for trial in trials} == {"relu", "tanh"}


def test_search_learns_where_the_good_recipes_are():
    trials = [entry.trial for entry in searched(plan(tuning_trials=40), near_a_hundredth).values()]
    late = trials[20:]
    assert sum(trial.recipe.activation == "tanh" for trial in late) > 0.7 * len(late)


def test_winner_is_the_best_by_validation_and_is_confirmed_on_fresh_seeds():
    found, entries = plan(), searched(plan(), near_a_hundredth)
    best = max((entry.trial.recipe for entry in entries.values()), key=near_a_hundredth)
    settings = tuned(found, entries)
    assert settings == {"winner": {"activation": best.activation, "learning_rate": best.learning_rate}}
    trials = found.verdict_trials(settings)
    assert [each.trial.seed for each in trials] == [0, 0, 1, 1, 2, 2]
    assert [each.trial.recipe.learning_rate for each in trials][:2] == [0.001, best.learning_rate]


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


@pytest.mark.usefixtures("tracker")
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
