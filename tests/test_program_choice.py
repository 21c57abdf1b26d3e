"""Whether a model's program is compiled is a choice: for no model, optimizer and dropout is it much the slower."""

import time

import numpy as np
import pytest

from mnist_ablate.backend import tf
from mnist_ablate.choices.bases import BASES
from mnist_ablate.choices.models import FROZEN, MODELS
from mnist_ablate.choices.optimizers import OPTIMIZERS
from mnist_ablate.program import Program, shape_of
from mnist_ablate.train import is_compiled
from mnist_ablate.trial import Recipe

BATCHES, MOST = 2, 1.5
ROWS = {"cnn": 8}
"""Images a batch where not 64: compiled, a convolution takes seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_the_program_taken_is_not_much_the_slower_and_gives_the_same_numbers(model, optimizer, dropout):
    rows = ROWS.get(model, 64)
    recipe = Recipe(model=model, optimizer=optimizer, dropout=dropout, learning_rate=0.001, batch_size=rows)
    results, seconds = {}, {}
    for compiled in (True, False):
        results[compiled], seconds[compiled] = _trained(recipe, compiled=compiled)
    assert results[True] == pytest.approx(results[False], rel=1e-3)
    assert seconds[is_compiled(model)] < MOST * min(seconds.values())


def _trained(recipe, *, compiled):
    """Loss of two batches while and after they are trained on, and the seconds of the best of the epochs after that."""
    random, n = np.random.default_rng(0), BATCHES * recipe.batch_size
    seen = BASES[FROZEN[recipe.model]].outputs if recipe.model in FROZEN else (28, 28, 1)
    images = tf.constant(random.random((n, *seen), np.float32))
    labels = tf.constant(random.integers(0, 10, n, np.int32))
    order = np.arange(n, dtype=np.int32)
    program = Program(shape_of(recipe), seen, 10, compiled=compiled)
    program.reset(recipe, seed=0)
    masks = [tf.constant(random.random((n, units)) >= recipe.dropout) for units in program.network.mask_units]
    losses = [program.epoch(images, labels, order, masks)[0], program.evaluate([(images, labels)])[0]]
    seconds = []
    end = time.monotonic() + 0.1
    while not seconds or time.monotonic() < end:
        clock = time.perf_counter()
        program.epoch(images, labels, order, masks)
        seconds.append(time.perf_counter() - clock)
    return losses, min(seconds)
