"""Whether a model's program is compiled is a choice: for no model, optimizer and dropout is it much the slower."""

import time

import numpy as np
import pytest

from mnist_ablate.choices.bases import BASES
from mnist_ablate.choices.models import FROZEN, MODELS
from mnist_ablate.choices.optimizers import OPTIMIZERS
from mnist_ablate.program import Program, shape_of
from mnist_ablate.train import is_compiled
from mnist_ablate.trial import Recipe

BATCHES, ROWS = 2, 64
MOST = 1.5


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_the_program_taken_is_not_much_the_slower_and_gives_the_same_numbers(model, optimizer, dropout):
    recipe = Recipe(model=model, optimizer=optimizer, dropout=dropout, learning_rate=0.001, batch_size=ROWS)
    results, seconds = {}, {}
    for compiled in (True, False):
        results[compiled], seconds[compiled] = _trained(recipe, compiled=compiled)
    for one, other in zip(results[True], results[False], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert seconds[is_compiled(model)] < MOST * min(seconds.values())


def _trained(recipe, *, compiled):
    """What two batches gave and left, and the seconds of the best of the epochs after the first."""
    random = np.random.default_rng(0)
    seen = BASES[FROZEN[recipe.model]].outputs if recipe.model in FROZEN else (28, 28, 1)
    images = random.random((BATCHES * ROWS, *seen), np.float32)
    labels = random.integers(0, 10, BATCHES * ROWS, np.int32)
    order = np.arange(BATCHES * ROWS, dtype=np.int32)
    program = Program(shape_of(recipe), seen, 10, compiled=compiled)
    program.reset(recipe, seed=0)
    masks = [random.random((len(order), units)) > recipe.dropout for units in program.network.mask_units]
    told = program.epoch(images, labels, order, masks)
    result = [*told, *(variable.numpy() for variable in program.model.trainable_variables)]
    best = np.inf
    end = time.monotonic() + 0.3
    while best == np.inf or time.monotonic() < end:
        clock = time.perf_counter()
        program.epoch(images, labels, order, masks)
        best = min(best, time.perf_counter() - clock)
    return result, best
