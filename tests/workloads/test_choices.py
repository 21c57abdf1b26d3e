import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS

PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 4, 4, 1)


@pytest.fixture(scope="module")
def train():
    return np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), np.uint8)


def at(name, train, *pixels):
    values = NORMALIZERS[name](train)(PIXELS).ravel()
    return [float(values[pixel]) for pixel in pixels]


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_normalizer_gives_finite_float32_from_the_training_images_statistics_alone(name, train):
    images, black = PIXELS.copy(), np.zeros((5, 4, 4, 1), np.uint8)
    transform = NORMALIZERS[name](train)
    inputs = transform(images)
    assert (inputs.dtype, inputs.shape) == (np.float32, images.shape)
    assert np.isfinite(inputs).all()
    np.testing.assert_array_equal(images, PIXELS)
    np.testing.assert_array_equal(transform(PIXELS[:1]), inputs[:1])
    assert np.isfinite(NORMALIZERS[name](black)(black)).all()


@pytest.mark.parametrize(
    ("name", "at_0", "at_127", "at_255"),
    [
        ("raw", 0, 127, 255),
        ("unit", 0, 127 / 256, 255 / 256),
        ("centered", -1, 0, 128 / 127),
        ("centered_uint8", 129 / 127, 0, 128 / 127),
        ("shifted", -127 / 256, 0, 128 / 256),
        ("scaled", 0, 1, 255 / 127),
        ("inverted", 1, 129 / 256, 1 / 256),
        ("saturated", 0, 0, 128 / 127),
    ],
)
def test_fixed_normalizers_at_black_gray_white(name, at_0, at_127, at_255, train):
    assert at(name, train, 0, 127, 255) == pytest.approx([at_0, at_127, at_255], abs=1e-6)


def test_printed_code_wraps_around_just_below_127(train):
    assert at("centered_uint8", train, 126, 1) == pytest.approx([255 / 127, 130 / 127])


def test_standardized_has_mean_zero_and_variance_one(train):
    inputs = NORMALIZERS["standardized"](train)(train)
    assert inputs.mean() == pytest.approx(0, abs=1e-5)
    assert inputs.std() == pytest.approx(1, abs=1e-5)


def test_pixelwise_centers_every_pixel(train):
    inputs = NORMALIZERS["pixelwise"](train)(train)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)
