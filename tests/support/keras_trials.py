"""Trials of the Keras workload, from a recipe."""

from mnist_ablate.trial import Trial
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import default_workload, trial_of


def keras_trial(recipe: Recipe, seed: int, data_digest: str) -> Trial:
    return trial_of(default_workload(), recipe.model_dump(), seed, data_digest)
