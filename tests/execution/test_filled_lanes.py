"""Which trials a worker gets at once, to train them in lanes; what is lost of them trains by itself."""

import itertools
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import pytest
from keras_trials import trials

from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Event, Finished, Retried
from mnist_ablate.execution.filled_lanes import take_lanes
from mnist_ablate.execution.worker import TrainerPlugin
from mnist_ablate.trial import Outcome, Trial


@dataclass(eq=False)
class Waits:
    trial: Trial
    losses: int = 0
    alone: bool = False


def waiting(seeds: int) -> deque[Waits]:
    """Trials of relu and tanh in turn."""
    return deque(Waits(trial) for trial in trials("", seeds))


def activation(trial: Trial) -> str:
    return str(trial.settings["activation"])


def taken(line: deque[Waits], most: int, workers: int = 1) -> list[str]:
    return [f"{activation(each.trial)}/{each.trial.seed}" for each in take_lanes(line, most, workers, activation)]


def test_a_worker_gets_those_that_share_a_program_with_the_first_in_their_order() -> None:
    line = waiting(5)
    assert taken(line, 3) == ["relu/0", "relu/1", "relu/2"]
    assert taken(line, 8) == ["tanh/0", "tanh/1", "tanh/2", "tanh/3", "tanh/4"]
    assert taken(line, 8) == ["relu/3", "relu/4"]
    assert not line


def test_free_workers_share_what_is_due() -> None:
    line = waiting(5)
    assert taken(line, 8, workers=2) == ["relu/0", "relu/1", "relu/2"]
    assert len(line) == 7


@pytest.mark.parametrize("most", [1, 4])
def test_what_has_no_second_stays_and_trains_by_itself(most: int) -> None:
    line = waiting(1)
    assert taken(line, most) == []
    assert [activation(each.trial) for each in line] == ["relu", "tanh"]
    assert take_lanes(waiting(4), most, 1, lambda _trial: None) == []


def test_what_was_lost_or_runs_alone_is_in_no_lane() -> None:
    line = waiting(4)
    line[0].losses, line[2].alone = 1, True
    assert taken(line, 8) == []
    line.popleft()
    assert taken(line, 8) == ["tanh/0", "tanh/1", "tanh/2", "tanh/3"]
    assert taken(line, 8) == []


@pytest.fixture
def run(plugin: TrainerPlugin, digest: str, fake: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs ten trials in lanes; `relu_1="kill"`: that of relu with seed 1 kills its worker. Each ends once."""

    def run(lanes: int, *, ahead: bool = True, **faults: str) -> tuple[dict[str, Outcome], list[Event], list[int]]:
        monkeypatch.setenv("FAKE_FAULTS", json.dumps({key.replace("_", "/"): fault for key, fault in faults.items()}))
        asked = trials(digest, 5)
        with Engine(plugin, jobs=1, lanes=lanes) as running:
            told = [*itertools.chain.from_iterable(running.batches([(each,) for each in asked], ahead=ahead))]
        ended = [event for event in told if isinstance(event, Finished)]
        assert sorted(event.trial.id for event in ended) == sorted(trial.id for trial in asked)
        filled = [int(line) for line in (fake / "lanes").read_text().split()] if (fake / "lanes").exists() else []
        return {f"{activation(each.trial)}/{each.trial.seed}": each.outcome for each in ended}, told, filled

    return run


@pytest.mark.slow
def test_lanes_are_filled_with_what_is_due_and_the_numbers_stay(run) -> None:
    alone, _told, filled = run(1)
    assert filled == []
    together, told, filled = run(3)
    assert filled == [3, 3, 2, 2]
    assert {name: outcome.metrics for name, outcome in together.items()} == {
        name: outcome.metrics for name, outcome in alone.items()
    }
    assert not [event for event in told if isinstance(event, Retried)]


@pytest.mark.slow
def test_a_search_decides_after_each_trial_so_it_has_no_lanes(run) -> None:
    outcomes, _told, filled = run(3, ahead=False)
    assert (len(outcomes), filled) == (10, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason", "ended"),
    [
        ("kill_once", "worker killed", "complete"),
        ("kill", "worker killed", "lost"),
        ("raise", "RuntimeError: no such layer, in one of 5 lanes", "failed"),
        ("memory", "out of memory, in one of 5 lanes", "failed"),
    ],
)
def test_what_ends_lanes_costs_the_others_one_retry_by_themselves(run, fault: str, reason: str, ended: str) -> None:
    outcomes, told, filled = run(5, relu_1=fault)
    assert filled == [5, 5]
    retries = [(event.trial.seed, event.reason) for event in told if isinstance(event, Retried)]
    assert {seed for seed, _ in retries} == {1, 2, 3, 4}, "what was reached before stays"
    assert all(told == reason for seed, told in retries if seed != 1)
    assert [seed for seed, _ in retries].count(2) == 1
    assert {name: each.status for name, each in outcomes.items() if each.status != "complete"} == (
        {"relu/1": ended} if ended != "complete" else {}
    )
