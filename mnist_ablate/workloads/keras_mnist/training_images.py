"""Which training images a trial sees, and with which labels; changes no pixel and loads nothing.

What is drawn follows the seed's stream of its use. So at one seed a smaller share is a part of a larger one, wrong
labels are the same in every arm, and a control removes the images that would get wrong labels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.data import Dataset, Labels
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

Rows = npt.NDArray[np.int64]
Streams = Callable[[str], np.random.Generator]


class ImageChoice(NamedTuple):
    """What the recipe says of the training images, and the seed that draws them."""

    train_fraction: float
    class_imbalance: float
    label_noise: float
    size_matched: bool
    seed: int


def image_choice(recipe: Recipe, seed: int) -> ImageChoice | None:
    """None if every training image is taken as it is."""
    found = recipe.train_fraction, recipe.class_imbalance, recipe.label_noise
    return None if found == (1.0, 1.0, 0.0) else ImageChoice(*found, recipe.size_matched, seed)


def images_of(
    dataset: Dataset,
    split_seed: int | None,
    choice: ImageChoice | None,
    stream: Callable[[int, str], np.random.Generator],
) -> tuple[Dataset, Rows | None]:
    """The images as a trial sees them: split by a seed (None: as they are), then chosen; and the rows, None if all."""
    if split_seed is not None:
        dataset = dataset.with_split(stream(split_seed, "split"))
    if choice is None:
        return dataset, None
    rows, labels = drawn(dataset.y_train, choice, partial(stream, choice.seed))
    return replace(dataset, x_train=dataset.x_train[rows], y_train=labels), rows


def drawn(labels: Labels, choice: ImageChoice, streams: Streams) -> tuple[Rows, Labels]:
    """The rows of the training images that are used, ascending, and a label for each. `streams` are of the seed."""
    taken = _first(np.arange(len(labels)), choice.train_fraction, streams("train_fraction"))
    kept = _imbalanced(labels, taken, choice.class_imbalance, streams("class_imbalance"))
    by_chance = streams("label_noise").permutation(len(labels))
    n_wrong = round(choice.label_noise * len(kept))
    if choice.size_matched:
        removed = by_chance[np.isin(by_chance, taken)][: min(len(taken) - len(kept) + n_wrong, len(taken) - 1)]
        rows = np.setdiff1d(taken, removed)
        return rows, labels[rows]
    wrong = by_chance[np.isin(by_chance, kept)][:n_wrong]
    noisy, classes = labels.copy(), 1 + int(labels.max())
    others = streams("wrong_label").integers(1, classes, len(labels), dtype=labels.dtype)
    noisy[wrong] = (labels[wrong] + others[wrong]) % classes
    return kept, noisy[kept]


def _first(rows: Rows, share: float, rng: np.random.Generator) -> Rows:
    """The first share of rows in an order by chance, one at least; ascending."""
    return np.sort(rng.permutation(rows)[: max(1, round(share * len(rows)))])


def _imbalanced(labels: Labels, rows: Rows, ratio: float, rng: np.random.Generator) -> Rows:
    """Classes in an order by chance, each keeping less of its rows by the same factor, the last 1 / ratio of them.

    This is the long tail of Cui et al. 2019, whose order is that of the labels.
    """
    order, by_chance = rng.permutation(1 + int(labels.max())), rng.permutation(len(labels))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    kept: list[Rows] = []
    for label in np.unique(labels[rows]):
        own = by_chance[np.isin(by_chance, rows[labels[rows] == label])]
        share = ratio ** (-place[label] / max(1, len(order) - 1))
        kept.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(kept))
