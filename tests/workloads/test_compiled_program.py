"""A program gives the same numbers compiled or not; whether it is compiled is decided by its kinds of operation."""

import compilation
import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, Program
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, program_key

BATCHES = 2
ROWS = {"cnn": 8}
"""Images a batch where not 64: compiled, a convolution takes seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_program_gives_the_same_numbers_compiled_or_not(model, optimizer, dropout):
    recipe = Recipe(
        model=model, optimizer=optimizer, dropout=dropout, learning_rate=0.001, batch_size=ROWS.get(model, 64)
    )
    compiled, graph = (_losses(recipe, compiled=each) for each in (True, False))
    assert compiled == pytest.approx(graph, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", compilation.KINDS)
def test_dense_layers_are_compiled_and_what_convolves_pools_draws_or_loops_is_not(kind):
    left_as_a_graph = ("Conv", "Depthwise", "Average", "Random", "LSTM", "Dense, GaussianNoise")
    assert compilation.program(kind, compiled=None).compiled == (not kind.startswith(left_as_a_graph))


def _seen(model):
    base = MODELS[model].frozen_base
    return BASES[base].outputs if base else (28, 28, 1)


def _losses(recipe, *, compiled):
    """Of two batches, while and after they are trained on."""
    random, n = np.random.default_rng(0), BATCHES * recipe.batch_size
    seen = _seen(recipe.model)
    images = tf.constant(random.random((n, *seen), np.float32))
    labels = tf.constant(random.integers(0, 10, n, np.int32))
    order = np.arange(n, dtype=np.int32)
    program = Program(program_key(recipe), seen, 10, compiled=compiled)
    program.reset(recipe, seed=0)
    masks = [tf.constant(random.random((n, units)) >= recipe.dropout) for units in program.network.mask_units]
    trained, _accuracy = program.epoch(images, labels, order, masks)
    return [trained, program.evaluate([EvaluationBatch(images, labels)])[0]]
