"""A sweep file to change a line of, and what the loader says of the result."""

from pathlib import Path
from typing import Any

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.sweep import Sweep

EXAMPLE = """\
question: Do centered inputs hurt relu on MNIST?
source: the article, "a small improvement"
design: factorial            # or one_factor, leave_one_out, search
baseline: {normalizer: unit, activation: relu}
scientific:
  normalizer: [unit, centered, centered_uint8, inverted]
  activation: [relu, tanh]
nuisance:                    # optional: tuned per arm on validation data, same number of trials for each
  learning_rate: {low: 1e-4, high: 1e-1, log: true}
tuning_trials: 12
fixed: {model: mlp, optimizer: adam, learning_rate: 0.001, dropout: 0.5, batch_size: 128, epochs: 5}
seeds: 8
claims:
  - name: centered-hurts-relu
    statement: Centered inputs hurt relu.
    treatment: {normalizer: centered}
    control: {normalizer: unit}
    where: {activation: relu}
    versus: {activation: tanh}   # optional: claim the interaction instead
    metric: test_accuracy
    direction: lower
    margin: 0.002
"""
SMALL = "question: q\nscientific: {activation: [relu, tanh]}\nseeds: 2\n"
ONE_FACTOR = """\
question: q
design: one_factor
baseline: {normalizer: unit, activation: relu}
scientific: {normalizer: [unit, centered], activation: [relu, tanh]}
seeds: 2
"""


def changed(old: str, new: str, text: str = EXAMPLE) -> str:
    """The text with one part replaced, which must be there."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def load(folder: Path, text: str | bytes, **options: Any) -> Sweep:
    """Load a file of that text named x.yaml."""
    path = folder / "x.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return sweep_file.load(str(path), **options)


def problems(folder: Path, text: str | bytes, **options: Any) -> list[str]:
    """The lines of the error, without the folder; none if the file loads."""
    try:
        load(folder, text, **options)
    except SweepError as error:
        return str(error).replace(f"{folder}/", "").split("\n")
    return []
