"""When a sweep was trained, and its pauses."""

from mnist_ablate.reports.training_times import ended_ms, trained
from mnist_ablate.trial import Outcome


def ran(start_s: float, seconds: float) -> Outcome:
    return Outcome(trial_id="t", status="complete", started_ms=round(1000 * start_s), seconds=seconds)


def test_a_time_in_which_nothing_ran_is_a_pause_if_it_is_long() -> None:
    side_by_side = [ran(60, 300), ran(70, 20), ran(100, 100)]
    assert "pause" not in trained(side_by_side)
    resumed = [*side_by_side, ran(400, 20), ran(7500, 60)]
    assert "1970-01-01 00:01 UTC to 1970-01-01 02:06 UTC, with 1 pause of 118 minutes, 8.3 minutes" in trained(resumed)
    assert ended_ms(resumed) == 7_560_000


def test_nothing_is_said_of_trials_whose_times_are_unknown() -> None:
    assert trained([Outcome(trial_id="t", status="lost")]) == ""
    assert ended_ms([]) is None
