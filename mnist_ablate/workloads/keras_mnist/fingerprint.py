"""A normalizer's fingerprint: what the first layer will see of the training images, before anything is trained.

Numpy alone; `gate` says what is wrong with it.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS, Transform
from mnist_ablate.workloads.keras_mnist.data import Digits, Images
from mnist_ablate.workloads.keras_mnist.dtype_path import dtype_path
from mnist_ablate.workloads.keras_mnist.gate import Flag, flags
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

MOMENT_IMAGES = 4000
"""Of the training images, evenly spaced, for the eigenvalues: on MNIST their ratio is within 4% of that of all."""
MOST_INPUTS = 1024
"""Per image; with more, the Gram matrix of so many images has the same eigenvalues at less cost."""
PART = 1000
"""Images in hand at once: few enough for a processor's cache."""
UNIT_IMAGES = 2000
"""As many as trials look at: the more images, the fewer units are dead or always on."""
_CONV_PART = 250
_MAP_PIXELS = 64
_CHECKED = 8
_DIGITS = 6
_BLOCK = 12
_MOST_ITERATIONS = 60
_CONVERGED = 1e-8
_NOTHING = 1e-9

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fingerprint:
    """Of the training images after a normalizer: numbers in the unit of its output, of all values of all images.

    `offset` is |mean| / std, `energy` the mean squared length of an image, E|x|^2; `top_eigenvalue` that of
    E[xx'], with its ratio to the next. `dead` and `always_on` are fractions of the units of the first layer at
    initialization, for relu, without a norm layer: positive for no image, for all; None where the model's
    first layer is not one that is known here. `dtypes` is the path of its arithmetic.
    """

    normalizer: str
    dtypes: str
    min: float
    max: float
    mean: float
    std: float
    offset: float
    energy: float
    top_eigenvalue: float
    eigenvalue_ratio: float
    dead: float | None
    always_on: float | None
    flags: tuple[Flag, ...]

    def document(self) -> dict[str, Any]:
        """As JSON, to six significant digits: processors differ in the last ones."""
        content = {name: _rounded(value) for name, value in asdict(self).items() if name != "flags"}
        return {**content, "flags": [asdict(flag) for flag in self.flags]}


def fingerprints(names: Iterable[str], recipe: Recipe, digits: Digits) -> list[dict[str, Any]]:
    """The documents of these normalizers, in order; the first layer is that of the recipe."""
    levels = occurring(digits.x_train)
    return [fingerprint(name, digits.x_train, levels, recipe).document() for name in names]


def occurring(images: Images) -> Levels:
    """The pixel values that occur, in order."""
    seen = np.zeros(256, bool)
    for start in range(0, len(images), MOMENT_IMAGES):
        seen[images[start : start + MOMENT_IMAGES]] = True
    return np.flatnonzero(seen).astype(np.uint8)


def fingerprint(normalizer: str, train: Images, levels: Levels, recipe: Recipe) -> Fingerprint:
    """Of one normalizer, on training images uint8 (n, height, width, channels) with these pixel values.

    The first layer is that of the recipe.
    """
    transform = NORMALIZERS[normalizer](train)
    spaced = train[:: -(-len(train) // MOMENT_IMAGES)]
    sample = transform(spaced)
    starts = range(0, len(train), PART)
    low, high, mean, square = _moments(transform(train[start : start + PART]) for start in starts)
    std = max(square - mean**2, 0.0) ** 0.5
    top, ratio = _eigenvalues(sample.reshape(len(sample), -1))
    dead, always_on = _units(sample[:: max(1, len(sample) // UNIT_IMAGES)][:UNIT_IMAGES], recipe)
    return Fingerprint(
        normalizer=normalizer,
        dtypes=dtype_path(transform, train[:1]),
        min=low,
        max=high,
        mean=mean,
        std=std,
        offset=abs(mean) / std if std else 0.0,
        energy=square * sample[0].size,
        top_eigenvalue=top,
        eigenvalue_ratio=ratio,
        dead=dead,
        always_on=always_on,
        flags=flags(levels, _pixel_map(transform, levels, spaced[:_CHECKED]), mean, std),
    )


def _moments(parts: Iterable[npt.NDArray[np.float32]]) -> tuple[float, float, float, float]:
    """Lowest, highest, mean, mean square; float32 within an image, float64 over images."""
    n, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for part in (part.reshape(len(part), -1) for part in parts):
        n += part.size
        total += float(part.sum(axis=1).sum(dtype=np.float64))
        squares += float(np.einsum("ij,ij->i", part, part).sum(dtype=np.float64))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high, total / n, squares / n


def _eigenvalues(x: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The largest eigenvalue of E[xx'] and its ratio to the next; 0 if there is no next."""
    if x.shape[1] > min(len(x), MOST_INPUTS):
        x = x[:: -(-len(x) // MOST_INPUTS)].astype(np.float64)
        moment = x @ x.T / len(x)
    else:
        mean = x.mean(axis=0)
        spread = x - mean  # apart from the mean, which can be so large that float32 loses the rest
        moment = (spread.T @ spread).astype(np.float64) / len(x) + np.outer(mean, mean.astype(np.float64))
    top, second = _two_largest(moment)
    return top, top / second if second > _NOTHING * top else 0.0


def _two_largest(moment: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Of a positive semi-definite matrix, by subspace iteration; by full decomposition where that is slow."""
    size = len(moment)
    if size <= 2 * _BLOCK:
        values = np.linalg.eigvalsh(moment)
        return float(values[-1]), float(values[-2]) if size > 1 else 0.0
    basis = np.random.default_rng(0).standard_normal((size, _BLOCK))
    before: npt.NDArray[np.floating] = np.zeros(2)
    for _ in range(_MOST_ITERATIONS):
        basis, _ = np.linalg.qr(moment @ basis)
        values = np.linalg.eigvalsh(basis.T @ moment @ basis)[-2:]
        if np.all(values - before <= _CONVERGED * values):
            return float(values[1]), float(values[0])
        before = values
    values = np.linalg.eigvalsh(moment)
    return float(values[-1]), float(values[-2])


def _pixel_map(transform: Transform, levels: Levels, images: Images) -> npt.NDArray[np.float32] | None:
    """(levels, pixels) what becomes of each pixel value, at some pixels; None if others have a part in it."""
    shape = images.shape[1:]
    flat = np.ascontiguousarray(np.broadcast_to(levels.reshape(-1, *[1] * len(shape)), (len(levels), *shape)))
    outputs = transform(flat).reshape(len(levels), -1)
    pixels = np.arange(outputs.shape[1])
    seen = images.reshape(len(images), -1)
    expected = outputs[np.searchsorted(levels, seen).clip(max=len(levels) - 1), pixels]
    if not np.array_equal(expected, transform(images).reshape(len(images), -1)):
        return None
    return outputs[:, :: max(1, len(pixels) // _MAP_PIXELS)]


class _Outline:
    """Stands in for `network.Builder` and notes the layers that a model asks for, in order; builds nothing."""

    def __init__(self, recipe: Recipe) -> None:
        self.layers: list[tuple[str, int]] = []
        self._width = recipe.width

    def hidden(self, x: Any) -> Any:
        self.layers.append(("dense", self._width))
        return x

    def conv(self, x: Any, filters: int) -> Any:
        self.layers.append(("conv", filters))
        return x

    def flatten(self, x: Any) -> Any:
        return x

    dropout = flatten

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Any other layer; what comes after it does not see the images as they are."""

        def other(x: Any, *_: object, **__: object) -> Any:
            self.layers.append((name, 0))
            return x

        return other


def _units(images: npt.NDArray[np.float32], recipe: Recipe) -> tuple[float | None, float | None]:
    """Fractions of dead and always-on units of an initial first layer; of the kernel, signs matter and not size."""
    outline = _Outline(recipe)
    MODELS[recipe.model](outline, None)
    kind, units = outline.layers[0]
    if kind not in ("dense", "conv"):
        return None, None
    rows = _CONV_PART if kind == "conv" else len(images)
    fan_in = 9 * images.shape[-1] if kind == "conv" else images[0].size
    rng = np.random.default_rng(0)
    uniform = recipe.initializer.endswith("uniform")
    shape = (fan_in, units)
    kernel = (rng.random(shape, np.float32) - np.float32(0.5)) if uniform else rng.standard_normal(shape, np.float32)
    ever, always = np.zeros(units, bool), np.ones(units, bool)
    for start in range(0, len(images), rows):
        positive = _seen(images[start : start + rows], kind, fan_in) @ kernel > 0.0
        ever |= positive.any(axis=0)
        always &= positive.all(axis=0)
    return float(1.0 - ever.mean()), float(always.mean())


def _seen(images: npt.NDArray[np.float32], kind: str, fan_in: int) -> npt.NDArray[np.float32]:
    """What each unit sees: whole images, or every 3x3 patch."""
    if kind == "conv":
        images = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    return images.reshape(-1, fan_in)


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
