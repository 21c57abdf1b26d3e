"""The data gate: what the first layer will see of the training images, and what is wrong with it; trains nothing.

No name is looked at: a normalizer is judged by what it makes of each pixel value and of the training images. The
thresholds of the flags stand here alone. NumPy is enough: no TensorFlow is loaded.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS, Transform
from mnist_ablate.workloads.keras_mnist.data import Dataset, Images
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

SEVERE = frozenset({"wrapped", "saturated"})
"""Flags that say that the images themselves were damaged. The other two describe offset and scale."""
SATURATED_SHARE = 1 / 16
"""The largest share of the occurring pixel values that may become one output value. Rounding merges two or three
neighbors of 256. A clipped end merges many, and the network cannot learn what was there."""
NOT_CENTERED_OFFSET = 0.5
"""|mean| / std. Above this the mean holds at least a fifth of the energy, mean^2 / (mean^2 + std^2). All of that lies
in one direction, which limits the learning rate of all others (LeCun et al. 1998, "Efficient BackProp", 4.3). x / 256
on MNIST has 0.43."""
UNSCALED = 10.0
"""The root mean square may lie between this and its inverse. Initial kernels of variance about 1 / fan in give
pre-activations the size of the inputs. A factor of ten is beyond where tanh is flat, and it changes the curvature, and
so the suitable learning rate, a hundredfold."""
MOMENT_IMAGES = 4000
"""Evenly spaced training images for the eigenvalues: on MNIST their ratio is within 4% of that of all images."""
MOST_INPUTS = 1024
"""Per image. With more, the Gram matrix of this many images has the same eigenvalues at less cost."""
PART = 1000
"""Images in hand at once: few enough for a processor's cache."""
UNIT_IMAGES = 2000
"""As many as a trial's diagnostics see. The more images, the fewer units are dead or always on."""
_CONV_PART = 250
_MAP_PIXELS = 64
_CHECKED = 8
_DIGITS = 6
_NOTHING = 1e-9
_OUT_OF_ORDER = 1e-6
"""Of the map's range: smaller steps back are float32's rounding."""

Levels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Flag:
    """A name (wrapped, saturated, not centered or unscaled) and the numbers that it rests on."""

    name: str
    reason: str


@dataclass(frozen=True)
class Fingerprint:
    """What a normalizer makes of the training images: numbers over all values of all images, in its output's unit.

    `offset` is |mean| / std. `energy` is the mean squared length of an image, E|x|^2. `top_eigenvalue` is that of
    E[xx'], and `eigenvalue_ratio` its ratio to the next. `dead` and `always_on` are fractions of the first layer's
    units at initialization, with relu and no norm layer: units that are positive for no image, or for all. They are
    None if the model's first layer is neither dense nor a convolution. `dtypes` is the path of the arithmetic.
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

    def document(self) -> dict[str, JsonValue]:
        """As JSON, to six significant digits: processors differ in the last ones."""
        content = {name: _rounded(value) for name, value in asdict(self).items() if name != "flags"}
        return {**content, "flags": [asdict(flag) for flag in self.flags]}


def fingerprints(names: Iterable[str], recipe: Recipe, dataset: Dataset) -> list[dict[str, JsonValue]]:
    """The documents of these normalizers, in order. The recipe decides the first layer."""
    levels = occurring(dataset.x_train)
    return [fingerprint(name, dataset.x_train, levels, recipe).document() for name in names]


def occurring(images: Images) -> Levels:
    """The pixel values that occur, in order."""
    seen = np.zeros(256, bool)
    for start in range(0, len(images), MOMENT_IMAGES):
        seen[images[start : start + MOMENT_IMAGES]] = True
    return np.flatnonzero(seen).astype(np.uint8)


def fingerprint(normalizer: str, train: Images, levels: Levels, recipe: Recipe) -> Fingerprint:
    """The fingerprint of one normalizer on training images uint8 (n, height, width, channels) with these pixel values.

    The recipe decides the first layer.
    """
    transform = NORMALIZERS[normalizer](train)
    spaced = train[:: -(-len(train) // MOMENT_IMAGES)]
    sample = transform(spaced)
    starts = range(0, len(train), PART)
    low, high, mean, square = _moments(transform(train[start : start + PART]) for start in starts)
    std, offset = _spread(mean, square)
    top, ratio = _eigenvalues(sample.reshape(len(sample), -1))
    dead, always_on = _units(sample[:: max(1, len(sample) // UNIT_IMAGES)][:UNIT_IMAGES], recipe)
    return Fingerprint(
        normalizer=normalizer,
        dtypes=dtype_path(transform, train[:1]),
        min=low,
        max=high,
        mean=mean,
        std=std,
        offset=offset,
        energy=square * sample[0].size,
        top_eigenvalue=top,
        eigenvalue_ratio=ratio,
        dead=dead,
        always_on=always_on,
        flags=flags(levels, _pixel_map(transform, levels, spaced[:_CHECKED]), mean, std),
    )


def input_statistics(inputs: npt.NDArray[np.float32]) -> dict[str, float]:
    """The diagnostics that a trial records of its normalized training images (n, ...).

    They are a fingerprint's numbers in other arithmetic: recorded trials are compared to the bit.
    """
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


def flags(levels: npt.NDArray[np.uint8], outputs: Floats | None, mean: float, std: float) -> tuple[Flag, ...]:
    """Every flag that holds, the severe ones first.

    `outputs` (levels, pixels) is what each occurring pixel value becomes, at some pixels. It is None if an output
    depends on more than its own pixel; then order and clipping are not judged.
    """
    found = [] if outputs is None or len(levels) <= 1 else [_wrapped(levels, outputs), _saturated(levels, outputs)]
    found += [_not_centered(mean, std), _unscaled(mean, std)]
    return tuple(flag for flag in found if flag is not None)


def _wrapped(levels: npt.NDArray[np.uint8], outputs: Floats) -> Flag | None:
    """The map is not monotone: the brighter of two neighboring pixel values becomes the darker one."""
    steps = np.diff(outputs.astype(np.float64), axis=0)
    steps[np.abs(steps) <= _OUT_OF_ORDER * np.ptp(outputs, axis=0)] = 0.0
    steps *= np.where(np.sign(steps).sum(axis=0) < 0, -1.0, 1.0)  # most steps go up
    back, pixel = (int(i) for i in np.unravel_index(steps.argmin(), steps.shape))
    if steps[back, pixel] >= 0.0:
        return None
    pair = [f"{levels[i]} becomes {outputs[i, pixel]:.4g}" for i in (back, back + 1)]
    return Flag("wrapped", f"pixel values come out of order: {pair[0]}, {pair[1]}")


def _saturated(levels: npt.NDArray[np.uint8], outputs: Floats) -> Flag | None:
    """Many pixel values become one."""
    columns = (np.unique(column, return_counts=True) for column in outputs.T)
    value, merged = max(((found[n.argmax()], int(n.max())) for found, n in columns), key=lambda each: each[1])
    if merged <= max(1, SATURATED_SHARE * len(levels)):
        return None
    return Flag("saturated", f"{merged} of {len(levels)} pixel values become {value:.4g}")


def _not_centered(mean: float, std: float) -> Flag | None:
    offset = abs(mean) / std if std else np.inf
    if not mean or offset <= NOT_CENTERED_OFFSET:
        return None
    return Flag("not centered", f"|mean| / std {offset:.2f}, above {NOT_CENTERED_OFFSET:g}")


def _unscaled(mean: float, std: float) -> Flag | None:
    size = float(np.hypot(mean, std))
    if 1 / UNSCALED <= size <= UNSCALED:
        return None
    return Flag("unscaled", f"root mean square {size:.3g}, not {1 / UNSCALED:g} to {UNSCALED:g}")


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
    return top, top / second if second > _NOTHING * top else 0.0


def _pixel_map(transform: Transform, levels: Levels, images: Images) -> npt.NDArray[np.float32] | None:
    """What each pixel value becomes, (levels, pixels), at some pixels; None if other pixels have a part in it."""
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
    """Stands in for `network.Builder`: builds nothing, and notes the layers that a model asks for, in order.

    Flattening and dropout are left out, because the layer after them still sees the images as they are.
    """

    def __init__(self) -> None:
        self.layers: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def layer(x: Any, filters: int = 0, *_: object, **__: object) -> Any:
            if name not in {"flatten", "dropout"}:
                self.layers.append((name, filters))
            return x

        return layer


def _units(images: npt.NDArray[np.float32], recipe: Recipe) -> tuple[float | None, float | None]:
    """Fractions of dead and always-on units of an initial first layer. Of the kernel only the signs matter."""
    outline = _Outline()
    MODELS[recipe.model].build(outline, None)
    kind, filters = outline.layers[0]
    if kind == "hidden":
        rows, fan_in, units = len(images), images[0].size, recipe.width
    elif kind == "conv":
        rows, fan_in, units = _CONV_PART, 9 * images.shape[-1], filters
    else:
        return None, None
    rng = np.random.default_rng(0)
    uniform = recipe.initializer.endswith("uniform")
    shape = (fan_in, units)
    kernel = (rng.random(shape, np.float32) - np.float32(0.5)) if uniform else rng.standard_normal(shape, np.float32)
    ever, always = np.zeros(units, bool), np.ones(units, bool)
    for start in range(0, len(images), rows):
        seen = images[start : start + rows]
        if kind == "conv":  # a unit sees every 3x3 patch
            seen = np.lib.stride_tricks.sliding_window_view(seen, (3, 3), axis=(1, 2))
        positive = seen.reshape(-1, fan_in) @ kernel > 0.0
        ever |= positive.any(axis=0)
        always &= positive.all(axis=0)
    return float(1.0 - ever.mean()), float(always.mean())


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


class _Traced(np.ndarray[Any, np.dtype[Any]]):
    """An array that notes what is done to it in `steps`, which its views and results share.

    A step is a dtype and the operation whose result has it; the operation is empty for a conversion.
    """

    steps: list[tuple[str, str]]

    def __array_finalize__(self, source: Any) -> None:
        self.steps = getattr(source, "steps", [])

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        steps = self.steps
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        if not isinstance(result, np.ndarray):
            return result
        steps.append((str(result.dtype), ufunc.__name__))
        traced = result.view(_Traced)
        traced.steps = steps
        return traced


def dtype_path(function: Callable[[Any], Any], array: npt.NDArray[Any]) -> str:
    """The dtypes of an array in a function, such as `uint8 -> uint8 (subtract) -> float64 (divide) -> float32`.

    Only the operations of numpy are seen.
    """
    traced = array.copy().view(_Traced)
    traced.steps = steps = [(str(array.dtype), "")]
    steps.append((str(function(traced).dtype), ""))
    parts: list[tuple[str, list[str]]] = []
    for dtype, operation in steps:
        if operation and parts and parts[-1][0] == dtype and parts[-1][1]:
            parts[-1][1].append(operation)
        elif operation or not parts or parts[-1][0] != dtype:
            parts.append((dtype, [operation] if operation else []))
    return " -> ".join(f"{dtype} ({', '.join(done)})" if done else dtype for dtype, done in parts)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Traced) else value
