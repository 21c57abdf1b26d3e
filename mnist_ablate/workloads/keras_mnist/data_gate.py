"""The data gate: what the first layer will see of the training images, and what is wrong with it; trains nothing.

A normalizer is judged by what it makes of pixel values and of the training images, not by its name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS, Images, Transform
from mnist_ablate.workloads.keras_mnist.data import Dataset
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

SATURATED_SHARE = 1 / 16
"""The largest share of the occurring pixel values that may become one output value. Rounding merges two or three
neighbors of 256. A clipped end merges many, and the network cannot learn what was there."""
NOT_CENTERED_OFFSET = 0.5
"""|mean| / std. Above this the mean holds at least a fifth of the energy, all of it in one direction, which limits the
learning rate of all others (LeCun et al. 1998, "Efficient BackProp", 4.3). x / 256 on MNIST has 0.43."""
UNSCALED = 10.0
"""The root mean square may lie between this and its inverse, so that pre-activations have about the size of one. A
factor of ten is beyond where tanh is flat, and it changes the suitable learning rate a hundredfold."""
MOMENT_IMAGES = 4000
"""Evenly spaced training images for the eigenvalues: on MNIST their ratio is within 4% of that of all images."""
MOST_INPUTS = 1024  # per image. With more, the Gram matrix of this many images has the same eigenvalues at less cost
PART = 1000  # images in hand at once: few enough for a processor's cache
UNIT_IMAGES = 2000  # as many as a trial's diagnostics see. The more images, the fewer units are dead or always on
_CONV_PART = 250
EXPECT_BYTES = frozenset(NORMALIZERS) - {"raw", "standardized"}
_MOST_SHOWN = 10
_MAP_PIXELS = 64
_MAP_IMAGES = 8
_OUT_OF_ORDER = 1e-6  # of the map's range: smaller steps back are float32's rounding

Floats = npt.NDArray[np.floating]
Flag = dict[str, str]
"""Its `name` (wrapped, saturated, not centered or unscaled), and the `reason` with the numbers that it rests on."""


def about_images(dataset: Dataset, known: Sequence[str], own: Sequence[str]) -> dict[str, Any]:
    """What the images are, as JSON: a sentence, and notes of what may surprise. `own` are normalizers of the user's."""
    train, splits = dataset.x_train, dataset.labels
    low, high = float(train.min()), float(train.max())
    height, width, channels = dataset.image_shape
    counts = ", ".join(f"{len(labels):,} {name}" for name, labels in splits.items())
    size = f"{height}x{width}" + (f"x{channels}" if channels > 1 else "")
    kind = "bytes" if train.dtype == np.uint8 else "floats"
    notes = []
    for name, images in dataset.images.items():
        if np.ptp(images) == 0:
            notes.append(
                f"every pixel of the {name} images is {float(images.flat[0]):g}: there is nothing to learn from"
            )
    if low < high and train.dtype != np.uint8 and (shipped := [name for name in known if name in EXPECT_BYTES]):
        notes.append(
            f"pixels run from {low:.4g} to {high:.4g}, but 0 to 255 is expected by {', '.join(shipped)};"
            " raw leaves pixels as they are"
        )
    seen = {name: set(np.unique(labels).tolist()) for name, labels in splits.items()}
    if gaps := sorted(set(range(dataset.classes)) - set.union(*seen.values())):
        notes.append(
            f"labels have gaps: no image of class {_some(gaps)}, and chance is counted as 1 / {dataset.classes}"
        )
    for name, labels in seen.items():
        if missing := sorted(set.union(*seen.values()) - labels):
            notes.append(f"no {name} image of class {_some(missing)}")
    ran = "is your own code, which does not run here: its trials show what it makes"
    notes += [f"normalizer {name} {ran}" for name in own]
    text = f"{counts} images, {size}, {kind} from {low:.6g} to {high:.6g}, {dataset.classes} classes"
    return {"images": text, "notes": notes}


def _some(classes: Sequence[int]) -> str:
    more = f" and {len(classes) - _MOST_SHOWN} more" if len(classes) > _MOST_SHOWN else ""
    return ", ".join(map(str, classes[:_MOST_SHOWN])) + more


def fingerprints(names: Iterable[str], recipe: Recipe, train: Images) -> list[dict[str, Any]]:
    """What each of these normalizers makes of the training images, uint8 (n, height, width, channels), as JSON.

    The numbers are over all values of all images, in the unit of the normalizer's output, to six significant digits:
    processors differ in the last ones. `offset` is |mean| / std. `energy` is the mean squared length of an image,
    E|x|^2. `top_eigenvalue` is that of E[xx'], and `eigenvalue_ratio` its ratio to the next. `dead` and `always_on`
    are fractions of the first layer's units at initialization, with relu and no norm layer: units that are positive
    for no image, or for all. They are None for the head of a frozen base. `dtypes` is the path of the arithmetic.
    """
    if train.dtype != np.uint8:  # without a list of values that occur, their order is not judged
        return [_fingerprint(name, train, None, recipe) for name in names]
    seen = np.zeros(256, bool)
    for start in range(0, len(train), MOMENT_IMAGES):
        seen[train[start : start + MOMENT_IMAGES]] = True
    levels = np.flatnonzero(seen).astype(np.uint8)
    return [_fingerprint(name, train, levels, recipe) for name in names]


def _fingerprint(normalizer: str, train: Images, levels: Images | None, recipe: Recipe) -> dict[str, Any]:
    transform = NORMALIZERS[normalizer](train)
    spaced = train[:: -(-len(train) // MOMENT_IMAGES)]
    sample = transform(spaced)
    low, high, mean, square = _moments(transform(train[start : start + PART]) for start in range(0, len(train), PART))
    std, offset = _spread(mean, square)
    top, ratio = _eigenvalues(sample.reshape(len(sample), -1))
    dead, always_on = _units(sample[:: max(1, len(sample) // UNIT_IMAGES)][:UNIT_IMAGES], recipe)
    numbers = {
        "min": low,
        "max": high,
        "mean": mean,
        "std": std,
        "offset": offset,
        "energy": square * sample[0].size,
        "top_eigenvalue": top,
        "eigenvalue_ratio": ratio,
        "dead": dead,
        "always_on": always_on,
    }
    return {
        "normalizer": normalizer,
        "dtypes": dtype_path(transform, train[:1]),
        **{name: None if value is None else float(f"{value:.6g}") for name, value in numbers.items()},
        "flags": [
            *flags(levels, None if levels is None else _pixel_map(transform, levels, spaced[:_MAP_IMAGES]), mean, std)
        ],
    }


def input_statistics(inputs: npt.NDArray[np.float32]) -> dict[str, float]:
    """Diagnostics of normalized images (n, ...), in arithmetic that stays: recorded trials are compared to the bit."""
    flat = inputs.reshape(len(inputs), -1)
    mean, square = float(flat.mean(dtype=np.float64)), float(np.vdot(flat, flat)) / flat.size
    std, offset = _spread(mean, square)
    return {
        "input_min": float(flat.min()),
        "input_max": float(flat.max()),
        "input_mean": mean,
        "input_std": std,
        "input_offset": offset,
        "input_energy": square * flat.shape[1],
    }


def flags(levels: Images | None, outputs: Floats | None, mean: float, std: float) -> Iterator[Flag]:
    """Every flag that holds, the severe ones first.

    `outputs` (levels, pixels) is what each occurring pixel value becomes, at some pixels. It is None if an output
    depends on more than its own pixel; then order and clipping are not judged.
    """
    if levels is not None and outputs is not None and len(levels) > 1:
        yield from _wrapped(levels, outputs)
        columns = (np.unique(column, return_counts=True) for column in outputs.T)
        value, merged = max(((found[n.argmax()], int(n.max())) for found, n in columns), key=lambda each: each[1])
        if merged > max(1, SATURATED_SHARE * len(levels)):
            yield {"name": "saturated", "reason": f"{merged} of {len(levels)} pixel values become {value:.4g}"}
    offset = abs(mean) / std if std else np.inf
    if mean and offset > NOT_CENTERED_OFFSET:
        yield {"name": "not centered", "reason": f"|mean| / std {offset:.2f}, above {NOT_CENTERED_OFFSET:g}"}
    if not 1 / UNSCALED <= (size := float(np.hypot(mean, std))) <= UNSCALED:
        reason = f"root mean square {size:.3g}, not {1 / UNSCALED:g} to {UNSCALED:g}"
        yield {"name": "unscaled", "reason": reason}


def _wrapped(levels: Images, outputs: Floats) -> Iterator[Flag]:
    """The map is not monotone: the brighter of two neighboring pixel values becomes the darker one."""
    steps = np.diff(outputs.astype(np.float64), axis=0)
    steps[np.abs(steps) <= _OUT_OF_ORDER * np.ptp(outputs, axis=0)] = 0.0
    steps *= np.where(np.sign(steps).sum(axis=0) < 0, -1.0, 1.0)  # most steps go up
    back, pixel = (int(i) for i in np.unravel_index(steps.argmin(), steps.shape))
    if steps[back, pixel] < 0.0:
        pair = [f"{levels[i]} becomes {outputs[i, pixel]:.4g}" for i in (back, back + 1)]
        yield {"name": "wrapped", "reason": f"pixel values come out of order: {pair[0]}, {pair[1]}"}


def _moments(parts: Iterable[npt.NDArray[np.float32]]) -> tuple[float, float, float, float]:
    """Lowest, highest, mean, mean square; float32 within an image, float64 over images."""
    n, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for part in (part.reshape(len(part), -1) for part in parts):
        n += part.size
        total += float(part.sum(axis=1).sum(dtype=np.float64))
        squares += float(np.einsum("ij,ij->i", part, part).sum(dtype=np.float64))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high, total / n, squares / n


def _spread(mean: float, square: float) -> tuple[float, float]:
    """Standard deviation, and |mean| in units of it, from mean and mean square; 0 for constant values."""
    std = max(square - mean**2, 0.0) ** 0.5
    return std, abs(mean) / std if std else 0.0


def _eigenvalues(x: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The largest eigenvalue of E[xx'] and its ratio to the next; 0 if there is no next."""
    if x.shape[1] > min(len(x), MOST_INPUTS):
        x = x[:: -(-len(x) // MOST_INPUTS)].astype(np.float64)
        moment = x @ x.T / len(x)
    else:
        mean = x.mean(axis=0)
        spread = x - mean  # apart from the mean, which can be so large that float32 loses the rest
        moment = (spread.T @ spread).astype(np.float64) / len(x) + np.outer(mean, mean.astype(np.float64))
    top, second, *_ = (*map(float, np.linalg.eigvalsh(moment)[::-1][:2]), 0.0)
    return top, top / second if second > 1e-9 * top else 0.0


def _pixel_map(transform: Transform, levels: Images, images: Images) -> npt.NDArray[np.float32] | None:
    """What each pixel value becomes, (levels, pixels), at some pixels; None if other pixels have a part in it."""
    flat = np.empty((len(levels), *images.shape[1:]), np.uint8)
    flat.T[:] = levels
    outputs = transform(flat).reshape(len(levels), -1)
    pixels = np.arange(outputs.shape[1])
    seen = images.reshape(len(images), -1)
    expected = outputs[np.searchsorted(levels, seen).clip(max=len(levels) - 1), pixels]
    if not np.array_equal(expected, transform(images).reshape(len(images), -1)):
        return None
    return outputs[:, :: max(1, len(pixels) // _MAP_PIXELS)]


def _units(images: npt.NDArray[np.float32], recipe: Recipe) -> tuple[float | None, float | None]:
    """Fractions of dead and always-on units of an initial first layer. Of the kernel only the signs matter."""
    model = MODELS.get(recipe.model)
    if model is None or model.frozen_base:  # the user's own is not run here
        return None, None
    rows, fan_in, units = len(images), images[0].size, recipe.width
    if model.filters:
        rows, fan_in, units = _CONV_PART, 9 * images.shape[-1], model.filters
    rng, shape = np.random.default_rng(0), (fan_in, units)
    uniform = recipe.initializer.endswith("uniform")
    kernel = (rng.random(shape, np.float32) - np.float32(0.5)) if uniform else rng.standard_normal(shape, np.float32)
    ever, always = np.zeros(units, bool), np.ones(units, bool)
    for start in range(0, len(images), rows):
        seen = images[start : start + rows]
        if model.filters:  # a unit sees every 3x3 patch
            seen = np.lib.stride_tricks.sliding_window_view(seen, (3, 3), axis=(1, 2))
        positive = seen.reshape(-1, fan_in) @ kernel > 0.0
        ever |= positive.any(axis=0)
        always &= positive.all(axis=0)
    return float(1.0 - ever.mean()), float(always.mean())


class _Traced(np.ndarray[Any, np.dtype[Any]]):
    """Notes the dtype and the ufunc of each operation on it in `steps`, which its views and results share."""

    steps: list[tuple[str, str]]

    def __array_finalize__(self, source: Any) -> None:
        self.steps = getattr(source, "steps", [])

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: Any = False) -> Any:  # noqa: FBT002 - numpy's
        if context:
            self.steps.append((str(array.dtype), context[0].__name__))
        return super().__array_wrap__(array, context, return_scalar)


def dtype_path(function: Callable[[Any], Any], array: npt.NDArray[Any]) -> str:
    """How numpy computes a function of an array: `uint8 -> uint8 (subtract) -> float64 (divide) -> float32`."""
    traced = array.copy().view(_Traced)
    traced.steps = steps = [(str(array.dtype), "")]
    steps.append((str(function(traced).dtype), ""))
    path, last = [], ""
    for (dtype, is_operation), group in groupby(steps, key=lambda step: (step[0], step[1] != "")):
        if is_operation:
            path.append(f"{dtype} ({', '.join(operation for _, operation in group)})")
        elif dtype != last:
            path.append(dtype)
        last = dtype
    return " -> ".join(path)
