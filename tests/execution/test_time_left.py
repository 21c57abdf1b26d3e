"""The time left: by what the arms took so far, without what compiles or was lost, with several arms a training."""

import fake_trainer
import pytest
from ledger_records import outcome, plan

from mnist_ablate.execution.events import Finished, Progress, Retried, Started
from mnist_ablate.execution.time_left import TimeLeft
from mnist_ablate.sweep.plan import PlannedTrial, label


def finished(planned: PlannedTrial) -> Finished:
    return Finished(planned.trial, outcome(planned))


def time_left() -> tuple[TimeLeft, list[PlannedTrial], list[PlannedTrial]]:
    """That of a plan with two arms, and the trials of each."""
    networks = {"dense": {"model": "mlp", "epochs": 2}, "cnn": {"model": "cnn", "epochs": 10}}
    wanted = plan(design="configurations", configurations=networks, scientific={}, fixed={}, claims=[])
    trials = wanted.verdict_trials()
    dense, cnn = ([each for each in trials if each.arm.params["configuration"] == arm] for arm in networks)
    return TimeLeft(wanted), dense, cnn


def test_time_left_is_that_of_the_arms_that_were_seen_by_their_trials_or_by_their_epochs() -> None:
    left, (first, *_), (cnn, *_) = time_left()
    left.event(Started(first.trial, "w"), "dense", 0.0)
    assert left.seconds(1, 5.0) is None
    left.event(finished(first), "dense", 4.0)
    assert left.seconds(1, 4.0) is None  # nothing is known of the other arm
    left.event(Started(cnn.trial, "w"), "cnn", 4.0)
    for at in (34.0, 64.0):
        left.event(Progress(cnn.trial, fake_trainer.epoch(cnn.trial, 1)), "cnn", at)
    assert left.seconds(1, 64.0) == 2 * 4.0 + 3 * 300.0 - 60.0
    assert left.seconds(2, 64.0) == 2 * 4.0 + 2 * 300.0 - 64.0, "one idles"


def test_time_left_is_within_a_quarter_although_first_epochs_compile() -> None:
    """Two workers, each of which compiles for 20 s in its first epoch; the others take 3 s, and a trial 1 s more."""
    events: list[tuple[float, Started | Progress | Finished, PlannedTrial]] = []
    clocks = {"a": 0.0, "b": 0.0}
    wanted = plan(design="factorial", scientific={"activation": ["relu", "tanh", "elu"]}, claims=[], seeds=6)
    left = TimeLeft(wanted)
    for each in wanted.verdict_trials():
        worker = min(clocks, key=lambda name: clocks[name])
        compiles, at = 20.0 * (clocks[worker] == 0.0), clocks[worker]
        events.append((at, Started(each.trial, worker), each))
        for number in (1, 2):
            at += 3.0 + compiles * (number == 1)
            events.append((at, Progress(each.trial, fake_trainer.epoch(each.trial, number)), each))
        clocks[worker] = at + 1.0
        events.append((at + 1.0, finished(each), each))
    ends, checked = max(clocks.values()), 0
    for at, event, each in sorted(events, key=lambda found: found[0]):
        left.event(event, label(each.arm.params), at)
        said = left.seconds(2, at)
        if at < 20.0:
            assert said is None
        elif at > 26.0 and ends - at > 8.0:
            checked += 1
            assert said == pytest.approx(ends - at, rel=0.25), at
    assert checked > 10


def test_lost_attempts_are_no_time_of_a_trial_and_what_was_recorded_before_is_not_left() -> None:
    left, (_, first, *_), _ = time_left()
    for arm in ("dense", "cnn", "cnn", "cnn"):
        left.recorded(arm)
    left.event(Started(first.trial, "w"), "dense", 0.0)
    left.event(Retried(first.trial, "", 1), "dense", 9.0)
    left.event(Started(first.trial, "w"), "dense", 50.0)
    left.event(finished(first), "dense", 54.0)
    assert left.seconds(1, 54.0) == 4.0


def test_time_left_counts_a_training_that_serves_several_arms_once() -> None:
    wanted = plan(across={"epochs": [2, 1, 5]})
    each = {
        one.arm.params["epochs"]: one for one in wanted.verdict_trials() if one.trial.settings["activation"] == "relu"
    }
    left = TimeLeft(wanted)
    left.event(Started(each[5].trial, "w"), "relu 5", 0.0)
    for epochs in (1, 2, 5):
        left.event(finished(each[epochs]), f"relu {epochs}", 2.0 * epochs)
    assert left.seconds(1, 10.0) == 5 * 10.0, "two more of relu, and three of tanh that take as long"
    for arm in ("relu 5", "relu 5", "tanh 5", "tanh 5", "tanh 5"):
        left.recorded(arm)
    assert left.seconds(1, 10.0) == (2 + 3) * 10.0, "what is left of the shorter ones trains by itself"
