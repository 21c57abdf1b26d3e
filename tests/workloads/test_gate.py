"""The gate flags what a map does to pixel values and to the data, whatever the normalizer is called."""

import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist.gate import NOT_CENTERED_OFFSET, Floats, flags

LEVELS = np.arange(256, dtype=np.uint8)
X = LEVELS.astype(np.float32)


def named(outputs: Floats | None, mean: float = 0.0, std: float = 1.0, levels: object = None) -> list[str]:
    columns = None if outputs is None else np.column_stack([outputs, outputs])
    return [flag.name for flag in flags(LEVELS if levels is None else np.asarray(levels), columns, mean, std)]


def test_maps_that_keep_the_order_and_the_values_are_not_flagged() -> None:
    for outputs in (X, -X, X / 256 - 0.5, np.log1p(X), np.sqrt(X), np.round(X / 2)):
        assert named(outputs.astype(np.float32)) == []


def test_arithmetic_that_wraps_around_is_flagged_with_the_values_at_the_jump() -> None:
    for shift in (1, 127, 255):
        assert named((LEVELS - np.uint8(shift)).astype(np.float32)) == ["wrapped"]
    assert named((np.uint8(100) - LEVELS).astype(np.float32)) == ["wrapped"]
    assert named((LEVELS * np.uint8(2)).astype(np.float32))[0] == "wrapped"
    (flag,) = flags(LEVELS, ((LEVELS - np.uint8(127)) / 127)[:, None], 0.0, 1.0)
    assert flag.reason == "pixel values come out of order: 126 becomes 2.008, 127 becomes 0"


def test_a_fold_is_out_of_order_too() -> None:
    assert named(np.abs(X - 127.5)) == ["wrapped"]


def test_one_pixel_that_wraps_is_enough() -> None:
    outputs = np.column_stack([X, (LEVELS - np.uint8(9)).astype(np.float32)])
    assert [flag.name for flag in flags(LEVELS, outputs, 0.0, 1.0)] == ["wrapped"]


def test_rounding_is_not_a_wrap() -> None:
    assert named((X + np.where(LEVELS % 2, -1e-5, 1e-5)) * np.float32(0.999)) == []
    assert named(np.repeat(X[::2], 2) + np.tile([0.0, -1e-4], 128)) == []


@pytest.mark.parametrize(("merged", "expected"), [(2, []), (16, []), (17, ["saturated"]), (256, ["saturated"])])
def test_values_that_become_one_are_counted(merged: int, expected: list[str]) -> None:
    assert named(np.maximum(X, merged - 1)) == expected


def test_thresholding_is_saturation() -> None:
    assert named((X > 127).astype(np.float32)) == ["saturated"]


def test_only_pixel_values_that_occur_count() -> None:
    some = np.array([0, 255], np.uint8)
    assert named(np.array([0.0, 1.0]), levels=some) == []
    assert named(np.array([5.0]), levels=np.array([0], np.uint8)) == []


def test_offset_and_size_have_their_thresholds() -> None:
    assert named(None, mean=NOT_CENTERED_OFFSET, std=1.0) == []
    assert named(None, mean=-0.51, std=1.0) == ["not centered"]
    assert named(None, mean=0.3, std=0.0) == ["not centered"]
    assert named(None, mean=0.0, std=10.1) == ["unscaled"]
    assert named(None, mean=0.0, std=0.09) == ["unscaled"]
    assert named(None, mean=0.0, std=0.1) == []
