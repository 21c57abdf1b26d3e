"""The filters of `imagenet_onnx` beside those of `bsds500`, layer by layer, and beside published numbers of ImageNet's.

Prints the Markdown table of docs/guides/vgg16.md. Both packages must be installed; it takes seconds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mnist_ablate.workloads.keras_mnist.weights_download import read_layers

LAYERS = tuple(
    f"block{block}_conv{conv}" for block, convs in enumerate((2, 2, 3, 3, 3), 1) for conv in range(1, convs + 1)
)
KERNEL, BIAS = 0, 1

NUMBERS: dict[str, list[tuple[int, tuple[int, ...], float]]] = {
    "block1_conv1": [(KERNEL, (0, 0, 2, 0), 0.4800154), (BIAS, (0,), 0.73429835)],
    "block1_conv2": [(KERNEL, (0, 0, 0, 0), 0.16621928), (BIAS, (0,), -0.30912212)],
    "block2_conv1": [(KERNEL, (0, 0, 0, 0), -0.008902963), (BIAS, (0,), -0.04577766)],
    "block2_conv2": [(KERNEL, (0, 0, 0, 0), -0.0023012366), (BIAS, (0,), -0.06418542)],
    "block3_conv1": [(KERNEL, (0, 0, 0, 0), 0.002486315), (BIAS, (0,), -0.074358866)],
    "block3_conv2": [(KERNEL, (0, 0, 0, 0), -0.0103266295), (BIAS, (0,), 0.019675018)],
    "block3_conv3": [(KERNEL, (0, 0, 0, 0), 0.0024918285), (BIAS, (0,), 0.035415243)],
    "block4_conv1": [(KERNEL, (0, 0, 0, 0), -0.012453815), (BIAS, (0,), 0.013485669)],
    "block4_conv2": [(KERNEL, (0, 0, 0, 0), 0.007116542), (BIAS, (0,), 0.023680462)],
    "block4_conv3": [(KERNEL, (0, 0, 0, 0), -0.0041355654), (BIAS, (0,), 0.03757768)],
    "block5_conv1": [(KERNEL, (0, 0, 0, 0), -0.0006068934), (BIAS, (0,), 0.09722325)],
    "block5_conv2": [(KERNEL, (0, 0, 0, 0), -0.0011261065), (BIAS, (0,), 0.21327873)],
    "block5_conv3": [(KERNEL, (0, 0, 0, 0), 0.00040788297), (BIAS, (0,), 0.18837857)],
}
"""The first kernel number and the first bias of each layer, as Julia prints MatConvNet's imagenet-vgg-verydeep-16.

MatConvNet has the colors of the first layer the other way round.
"""
MORE_NUMBERS: dict[str, list[tuple[int, tuple[int, ...], float]]] = {
    "block1_conv1": [(KERNEL, (0, 0, 0, 0), 0.42947057), (BIAS, (25,), 0.7446502)],
    "block1_conv2": [(KERNEL, (2, 2, 63, 63), 0.016082443)],
    "block2_conv1": [(BIAS, (1,), 0.06440781)],
    "block5_conv1": [(KERNEL, (1, 0, 63, 269), -0.011236359)],
    "block5_conv2": [(BIAS, (510,), 0.23517226)],
    "block5_conv3": [(KERNEL, (0, 2, 0, 400), -0.008714244)],
}
"""By which a program of others, with SSD, recognizes Keras's file."""
SUMMARIES = {
    ("block1_conv1", KERNEL): (-0.0024379087, 0.20669945, -0.67140007, 0.6085159),
    ("block1_conv1", BIAS): (0.5013912, 0.32847992, -0.015828926, 2.064037),
    ("block5_conv3", KERNEL): (-0.0010818949, 0.008478405, -0.09288482, 0.28699666),
    ("block5_conv3", BIAS): (0.14986369, 0.4928213, -0.50036746, 9.431553),
}
"""Mean, standard deviation, minimum and maximum of Keras's: jss367, "Inspecting Model Weights" (2020)."""
ROUNDING = 1e-6  # of a mean: it depends on the order of the sum
NEAR = 1e-4
ALIKE = 0.99


class Row(NamedTuple):
    """A layer: its two kernels beside each other, and how many published numbers of ImageNet's it has."""

    layer: str
    correlation: float
    difference: float  # its norm, as a part of the kernel's
    near: float  # share of the kernel's numbers that differ by less than NEAR
    published: int
    agree: int


def rows() -> Iterator[Row]:
    """Each of the thirteen layers. Raises DataError if a package is missing."""
    both = zip(LAYERS, read_layers("imagenet_onnx", LAYERS), read_layers("bsds500", LAYERS), strict=True)
    for layer, own, (other, _) in both:
        kernel = own[KERNEL]
        difference = kernel - other
        checks = list(_checks(layer, own))
        yield Row(
            layer,
            correlation=float(np.corrcoef(kernel.ravel(), other.ravel())[0, 1]),
            difference=float(np.linalg.norm(difference) / np.linalg.norm(kernel)),
            near=float(np.mean(np.abs(difference) < NEAR)),
            published=len(checks),
            agree=sum(checks),
        )


def _checks(layer: str, own: Any) -> Iterator[bool]:
    for which, place, value in NUMBERS[layer] + MORE_NUMBERS.get(layer, []):
        yield own[which][place] == np.float32(value)
    for which in (KERNEL, BIAS):
        if published := SUMMARIES.get((layer, which)):
            each = own[which].astype(float)
            found = (each.mean(), each.std(), each.min(), each.max())
            yield from np.isclose(found, published, rtol=ROUNDING, atol=0)


def table() -> str:
    """The rows as Markdown."""
    head = (
        "| layer | correlation | difference | within 0.0001 | fine-tuned, by this alone | published numbers found |\n"
        "|---|---:|---:|---:|---|---:|"
    )
    lines = (
        f"| `{row.layer}` | {row.correlation:.3f} | {row.difference:.0%} | {row.near:.1%}"
        f" | {'a little at most' if row.correlation > ALIKE else 'possible'} | {row.agree} of {row.published} |"
        for row in rows()
    )
    return "\n".join((head, *lines))


if __name__ == "__main__":
    print(table())
