import numpy as np
import pytest

from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS

PIXELS = np.arange(256, dtype=np.uint8).reshape(16, 4, 4, 1)


@pytest.fixture(scope="module")
def train():
    return np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), np.uint8)


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
    ("name", "expected"),
    {
        "raw": {0: 0, 127: 127, 255: 255},
        "unit": {0: 0, 127: 127 / 256, 255: 255 / 256},
        "centered": {0: -1, 127: 0, 255: 128 / 127},
        "centered_uint8": {0: 129 / 127, 1: 130 / 127, 126: 255 / 127, 127: 0, 255: 128 / 127},
        "shifted": {0: -127 / 256, 127: 0, 255: 128 / 256},
        "scaled": {0: 0, 127: 1, 255: 255 / 127},
        "inverted": {0: 1, 127: 129 / 256, 255: 1 / 256},
        "saturated": {0: 0, 127: 0, 255: 128 / 127},
    }.items(),
)
def test_fixed_normalizers_at_black_gray_white_and_where_they_wrap_around(name, expected, train):
    values = NORMALIZERS[name](train)(PIXELS).ravel()
    assert {pixel: values[pixel] for pixel in expected} == pytest.approx(expected, abs=1e-6)


def test_standardized_and_pixelwise_center_what_they_say(train):
    inputs = NORMALIZERS["standardized"](train)(train)
    assert (inputs.mean(), inputs.std()) == pytest.approx((0, 1), abs=1e-5)
    np.testing.assert_allclose(NORMALIZERS["pixelwise"](train)(train).mean(axis=0), 0, atol=1e-5)
