"""Whether a model's program is compiled is a choice: for no model, optimizer and dropout is it much the slower."""

import math
import time
from functools import partial

import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist.backend import tf
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.optimizers import OPTIMIZERS
from mnist_ablate.workloads.keras_mnist.compiled_program import EvaluationBatch, Program, program_key
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

BATCHES, MOST, PATIENCE_S = 2, 1.5, 10.0
ROWS = {"cnn": 8}
"""Images a batch where not 64: compiled, a convolution takes seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_the_program_taken_is_not_much_the_slower_and_gives_the_same_numbers(model, optimizer, dropout):
    rows = ROWS.get(model, 64)
    recipe = Recipe(model=model, optimizer=optimizer, dropout=dropout, learning_rate=0.001, batch_size=rows)
    runs = [_begun(recipe, compiled=compiled) for compiled in (True, False)]
    losses, epochs = zip(*runs, strict=True)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    best = {True: math.inf, False: math.inf}
    end = time.monotonic() + PATIENCE_S
    while not best[not MODELS[model].filters] < MOST * min(best.values()):  # others' work slows the one or the other
        assert time.monotonic() < end, best
        for compiled, epoch in zip(best, epochs, strict=True):
            clock = time.perf_counter()
            epoch()
            best[compiled] = min(best[compiled], time.perf_counter() - clock)


def _begun(recipe, *, compiled):
    """The losses of two batches, while and after they are trained on, and what trains on them again."""
    random, n = np.random.default_rng(0), BATCHES * recipe.batch_size
    base = MODELS[recipe.model].frozen_base
    seen = BASES[base].outputs if base else (28, 28, 1)
    images = tf.constant(random.random((n, *seen), np.float32))
    labels = tf.constant(random.integers(0, 10, n, np.int32))
    order = np.arange(n, dtype=np.int32)
    program = Program(program_key(recipe), seen, 10, compiled=compiled)
    program.reset(recipe, seed=0)
    masks = [tf.constant(random.random((n, units)) >= recipe.dropout) for units in program.network.mask_units]
    epoch = partial(program.epoch, images, labels, order, masks)
    return [epoch()[0], program.evaluate([EvaluationBatch(images, labels)])[0]], epoch
