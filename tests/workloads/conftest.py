import pytest
from small_digits import small

from mnist_ablate.workloads.keras_mnist.compiled_program import Program
from mnist_ablate.workloads.keras_mnist.recipe import program_key


@pytest.fixture(scope="session")
def dataset():
    return small()


@pytest.fixture
def begun(dataset):
    """Makes the program of a recipe, at the start of a trial."""

    def begin(recipe, seed=0, *, compiled=False):
        program = Program(program_key(recipe), dataset.image_shape, dataset.classes, compiled=compiled)
        program.reset(recipe, seed)
        return program

    return begin
