"""A claim of every kind, with rows whose answer is known; trains nothing."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from mnist_ablate.sweep.claim import Claim, keys_of
from mnist_ablate.trial import Epoch, Params, Row, Scalar

Value = Callable[[Mapping[str, Scalar]], float]


def claim(kind: str, **about: Any) -> Claim:
    """A claim of a kind; what is not given is as in most of them."""
    given = {"name": kind, "kind": kind, "statement": f"A claim of {kind}.", "direction": "higher", "margin": 0.002}
    content = {**given, **about}
    keys = keys_of(content)
    return keys(**{key: value for key, value in content.items() if key not in keys.never})


@dataclass(frozen=True)
class Example:
    """A claim that is true of results with these means by arm; `false` are means of which it is false."""

    claim: Claim
    factors: Mapping[str, list[Scalar]]
    true: Value
    false: Value
    spread: Callable[[Mapping[str, Scalar]], float] = lambda _arm: 0.0008
    sweep: str = ""


def _optimizer(**means: float) -> Value:
    return lambda arm: means[str(arm["optimizer"])]


OPTIMIZERS: list[Scalar] = ["sgd", "adam", "rmsprop"]
PAIR: Mapping[str, Any] = {"treatment": {"optimizer": "adam"}, "control": {"optimizer": "sgd"}}
PARTS: dict[str, list[Scalar]] = {"dropout": [0.0, 0.5], "optimizer": ["sgd", "adam"], "normalizer": ["unit", "raw"]}
ALL: Params = {"dropout": 0.5, "optimizer": "adam", "normalizer": "unit"}
NONE: Params = {"dropout": 0.0, "optimizer": "sgd", "normalizer": "raw"}


def _parts(adam: float) -> Value:
    return lambda arm: (
        0.9
        + adam * (arm["optimizer"] == "adam")
        + 0.01 * (arm["dropout"] == 0.5)
        + 0.005 * (arm["normalizer"] == "unit")
    )


RATES: list[Scalar] = [0.0001, 0.001, 0.01, 0.1]
EXAMPLES: dict[str, Example] = {
    "compare": Example(
        claim("compare", **PAIR),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.95, adam=0.96, rmsprop=0.9),
        _optimizer(sgd=0.96, adam=0.95, rmsprop=0.9),
    ),
    "ratio": Example(
        claim("compare", name="ratio", scale="ratio", metric="test_loss", margin=2.0, **{**PAIR, "direction": "lower"}),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.92, adam=0.98, rmsprop=0.9),
        _optimizer(sgd=0.97, adam=0.965, rmsprop=0.9),
    ),
    "best": Example(
        claim("best", treatment={"optimizer": "adam"}),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.95, adam=0.96, rmsprop=0.953),
        _optimizer(sgd=0.95, adam=0.96, rmsprop=0.97),
    ),
    "indifferent": Example(
        claim("indifferent", factor="optimizer", margin=0.004),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.96, adam=0.9605, rmsprop=0.96),
        _optimizer(sgd=0.96, adam=0.961, rmsprop=0.97),
    ),
    "trend": Example(
        claim("trend", factor="width", per="doubling", margin=0.001, monotone=True),
        {"width": [25, 50, 100, 200]},
        lambda arm: 0.9 + 0.005 * math.log2(float(arm["width"])),
        lambda arm: 0.95 - 0.005 * math.log2(float(arm["width"])),
    ),
    "spread": Example(
        claim("spread", margin=1.5, **PAIR),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.95, adam=0.95, rmsprop=0.95),
        _optimizer(sgd=0.95, adam=0.951, rmsprop=0.95),
        spread=lambda arm: 0.008 if arm["optimizer"] == "adam" else 0.001,
    ),
    "sensitivity": Example(
        claim("sensitivity", grid="learning_rate", margin=0.01, **PAIR),
        {"optimizer": ["sgd", "adam"], "learning_rate": RATES},
        lambda arm: (
            0.96 - (0.02 if arm["optimizer"] == "sgd" else 0.005) * abs(math.log10(float(arm["learning_rate"])) + 2.5)
        ),
        lambda arm: (
            0.96 - (0.005 if arm["optimizer"] == "sgd" else 0.02) * abs(math.log10(float(arm["learning_rate"])) + 2.5)
        ),
    ),
    "contribution": Example(
        claim("contribution", treatment=ALL, control=NONE, component="optimizer", than="each"),
        PARTS,
        _parts(0.02),
        _parts(0.004),
    ),
    "sooner": Example(
        claim("sooner", **PAIR, level=0.9, direction="lower", margin=1.0),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.93, adam=0.99, rmsprop=0.95),
        _optimizer(sgd=0.99, adam=0.93, rmsprop=0.95),
    ),
    "ahead": Example(
        claim("sooner", name="ahead", every_epoch=True, **PAIR),
        {"optimizer": OPTIMIZERS},
        _optimizer(sgd=0.93, adam=0.99, rmsprop=0.95),
        _optimizer(sgd=0.99, adam=0.93, rmsprop=0.95),
    ),
}
EPOCHS = 8


def rows(example: Example, value: Value, seeds: int = 30) -> list[Row]:
    """Results with these means, the spread of the example, and curves that rise to them."""
    return [*_rows(example, value, seeds)]


def _rows(example: Example, value: Value, seeds: int) -> Iterator[Row]:
    names = [*example.factors]
    arms = [dict(zip(names, values, strict=True)) for values in product(*example.factors.values())]
    for place, (arm, seed) in enumerate(product(arms, range(seeds))):
        sd = example.spread(arm) if value is example.true else 0.0008
        accuracy = value(arm) + sd * float(np.random.default_rng([seed, place]).standard_normal())
        rate = 0.6 * (1.0 - accuracy) / 0.01 / 8  # the worse in the end, the slower
        curve = [accuracy - 0.3 * math.exp(-number / (0.3 + rate)) for number in range(1, EPOCHS + 1)]
        epochs = [Epoch(number=n, metrics={"val_accuracy": v}, ended_ms=n) for n, v in enumerate(curve, 1)]
        metrics = {"test_accuracy": accuracy, "test_loss": 2.0 * (1.0 - accuracy), "val_accuracy": curve[-1]}
        yield Row(arm, seed, metrics, "complete", epochs=epochs)
