"""Trials of the Keras workload, and the events of an engine that runs them."""

from collections.abc import Iterable, Iterator

from mnist_ablate.execution.engine import Engine
from mnist_ablate.execution.events import Event
from mnist_ablate.trial import Outcome, Trial
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import default_workload, repeatable, trial_of


def keras_trial(recipe: Recipe, seed: int, data_digest: str) -> Trial:
    return trial_of(default_workload(), recipe.model_dump(), seed, data_digest)


def trials(digest: str, seeds: int = 3, epochs: int = 3) -> list[Trial]:
    return [
        keras_trial(Recipe(activation=activation, epochs=epochs), seed, digest)
        for seed in range(seeds)
        for activation in ("relu", "tanh")
    ]


def each_event(engine: Engine, asked: Iterable[Trial]) -> Iterator[Event]:
    """The events of these trials, one by one: each is handled before the next trial is taken."""
    for events in engine.batches(((trial,) for trial in asked), ahead=False):
        yield from events


def to_the_bit(outcome: Outcome) -> dict[str, float]:
    """The metrics that the same trial has again."""
    return repeatable(default_workload(), outcome.metrics)
