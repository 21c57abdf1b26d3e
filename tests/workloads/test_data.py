import hashlib
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mnist_ablate.errors import DataError
from mnist_ablate.workloads.keras_mnist import data, data_source

IDX_HASHES = dict(
    reversed(line.split()) for line in Path(__file__).with_name("mnist_idx.sha256").read_text().splitlines()
)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 4, 4), np.uint8),
        "y_train": rng.integers(0, 3, 20),
        "x_test": rng.integers(0, 256, (10, 4, 4), np.uint8),
        "y_test": rng.integers(0, 3, 10),
    }


@pytest.fixture
def saved(tmp_path, arrays):
    """Saves them, with changes."""

    def save(**changes):
        np.savez(tmp_path / "set.npz", **{**arrays, **changes})
        return tmp_path / "set.npz"

    return save


@pytest.mark.parametrize(("part", "file"), [("train", "train"), ("test", "t10k")])
@pytest.mark.parametrize(("kind", "rest"), [("x", "images-idx3-ubyte"), ("y", "labels-idx1-ubyte")])
def test_packaged_images_are_the_official_ones(part, file, kind, rest):
    """The original files are magic, sizes, values."""
    content = np.load(data.MNIST)[f"{kind}_{part}"]
    header = struct.pack(f">HBB{content.ndim}I", 0, 8, content.ndim, *content.shape)
    assert hashlib.sha256(header + content.astype(np.uint8).tobytes()).hexdigest() == IDX_HASHES[f"{file}-{rest}"]


def test_split_is_the_articles_last_thirty_percent():
    dataset, whole = data.load(), np.load(data.MNIST)
    shapes = {"train": (42_000, 28, 28, 1), "val": (18_000, 28, 28, 1), "test": (10_000, 28, 28, 1)}
    assert {name: images.shape for name, images in dataset.images.items()} == shapes
    np.testing.assert_array_equal(dataset.x_val[..., 0], whole["x_train"][42_000:])
    np.testing.assert_array_equal(dataset.y_val, whole["y_train"][42_000:])
    assert dataset.classes == 10


def test_another_set_in_keras_layout_is_read(saved, arrays):
    dataset = data.load(saved(y_train=arrays["y_train"][:, None]))
    assert dataset.x_train.shape == (14, 4, 4, 1)
    assert dataset.image_shape == (4, 4, 1)
    assert dataset.y_train.dtype == np.int32
    arrays["x_test"][0, 0, 0] ^= 1  # one pixel
    assert data.load(saved()).digest != dataset.digest


def test_damaged_packaged_file_is_refused(saved, monkeypatch):
    monkeypatch.setattr(data, "MNIST", saved())
    with pytest.raises(DataError, match="packaged images are damaged"):
        data.load()


def rows(*values, n=20):
    """Labels of n images: these values over and over."""
    return np.resize(np.array(values), n)


SHAPES = "(n, height, width) or (n, height, width, channels)"
LABELS = "labels are expected: ({n},) whole numbers or ({n}, classes) one-hot"
REFUSED = {
    "a table": (
        {"x_train": np.zeros((20, 16), np.uint8)},
        f"x_train is uint8 (20, 16); images of shape {SHAPES} are expected; reshape the rows to images",
    ),
    "one image": ({"x_train": np.zeros(16)}, f"x_train is float64 (16,); images of shape {SHAPES} are expected"),
    "no images": ({"x_test": np.zeros((0, 4, 4), np.uint8), "y_test": []}, "x_test is empty: it has no images"),
    "an empty table": ({"x_test": np.zeros(0)}, f"x_test is float64 (0,); images of shape {SHAPES} are expected"),
    "no pixels": (
        {"x_train": np.zeros((20, 0, 4))},
        f"x_train is float64 (20, 0, 4): images without pixels; {SHAPES} is expected",
    ),
    "text": ({"x_train": np.full((20, 4, 4), "a")}, "x_train is <U1 (20, 4, 4); pixels are whole numbers or floats"),
    "complex": (
        {"x_test": np.zeros((10, 4, 4), complex)},
        "x_test is complex128 (10, 4, 4); pixels are whole numbers or floats",
    ),
    "NaN": (
        {"x_train": np.full((20, 4, 4), np.nan)},
        "x_train has pixels that are not finite (NaN or infinity): replace them",
    ),
    "infinity": (
        {"x_test": np.full((10, 4, 4), -np.inf, np.float32)},
        "x_test has pixels that are not finite (NaN or infinity): replace them",
    ),
    "float64's range": (
        {"x_train": np.full((20, 4, 4), 1e300)},
        "x_train runs from 1e+300 to 1e+300, more than float32 holds",
    ),
    "other images": (
        {"x_test": np.zeros((10, 5, 5), np.uint8)},
        "x_train and x_test hold images of different shapes, (4, 4, 1) and (5, 5, 1)",
    ),
    "other pixels": (
        {"x_test": np.zeros((10, 4, 4))},
        "x_train and x_test are uint8 and float64; all splits must hold the same kind of pixel",
    ),
    "few images": (
        {"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": [0, 1, 2]},
        "x_train has 3 images; at least 10 are needed",
    ),
    "other length": ({"y_train": rows(0, 1, n=19)}, f"y_train is int64 (19,); 20 {LABELS.format(n=20)}"),
    "no labels": ({"y_test": np.zeros(0, int)}, f"y_test is int64 (0,); 10 {LABELS.format(n=10)}"),
    "label images": ({"y_train": np.zeros((20, 2, 2))}, f"y_train is float64 (20, 2, 2); 20 {LABELS.format(n=20)}"),
    "names": (
        {"y_train": rows("cat", "dog")},
        "y_train is <U3 (20,); labels are numbers from 0, or one-hot: give each class a number",
    ),
    "negative": ({"y_test": np.full(10, -1)}, "y_test runs from -1 to -1; labels are 0 to 999"),
    "too many": ({"y_train": rows(0, 1000)}, "y_train runs from 0 to 1000; labels are 0 to 999"),
    "uint64": (
        {"y_train": np.array([3] * 19 + [2**64 - 1], np.uint64)},
        "y_train runs from 3 to 18446744073709551615; labels are 0 to 999",
    ),
    "regression": (
        {"y_train": rows(0.0, 2.75)},
        "y_train holds fractions such as 2.75: a regression target; labels are whole numbers",
    ),
    "a column of fractions": (
        {"y_train": rows(0.5, 1.0)[:, None]},
        "y_train holds fractions such as 0.5: a regression target; labels are whole numbers",
    ),
    "NaN labels": (
        {"y_test": np.full(10, np.nan)},
        "y_test has labels that are not finite (NaN or infinity): leave these images out",
    ),
    "soft labels": (
        {"y_train": np.full((20, 3), 1 / 3)},
        "y_train is float64 (20, 3) and not one-hot: every row needs a single 1 and else 0; give whole numbers",
    ),
    "several labels": (
        {"y_train": np.ones((20, 3), int)},
        "y_train is int64 (20, 3) and not one-hot: every row needs a single 1 and else 0; give whole numbers",
    ),
    "two codes": (
        {"y_train": np.eye(3)[rows(0, 1, 2)]},
        "y_train and y_test are coded differently, (3,) and () a label",
    ),
    "one class": (
        {"y_train": np.zeros(20, int), "y_test": np.zeros(10, int)},
        "every label is 0; a claim about accuracy needs two classes at least",
    ),
    "half a split": ({"x_val": np.zeros((5, 4, 4), np.uint8)}, "has x_val but no y_val; give both, or neither"),
    "empty split": (
        {"x_val": np.zeros((0, 4, 4), np.uint8), "y_val": []},
        "x_val is empty: it has no images",
    ),
}


@pytest.mark.parametrize(("changes", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_with_arrays_is_said_in_one_line(saved, changes, text):
    path = saved(**changes)
    with pytest.raises(DataError) as caught:
        data.load(path)
    assert str(caught.value).replace(f"{path}: ", "", 1) == text


ALIKE = {
    "bool": bool,
    "int64": np.int64,
    "uint16": np.uint16,
}


@pytest.mark.parametrize("kind", ALIKE.values(), ids=ALIKE)
def test_whole_numbers_from_0_to_255_of_any_type_are_bytes(saved, arrays, kind):
    found = data.load(saved(**{key: (arrays[key] > 99).astype(kind) for key in ("x_train", "x_test")}))
    assert found.x_train.dtype == np.uint8
    assert set(np.unique(found.x_train)) == {0, 1}


@pytest.mark.parametrize("scale", [1 / 255, -3.0, 257.0])
def test_other_pixels_stay_as_they_are_as_float32(saved, arrays, scale):
    kind = np.int64 if scale > 1 else np.float64
    scaled = {key: (arrays[key] * scale).astype(kind) for key in ("x_train", "x_test")}
    found = data.load(saved(**scaled))
    assert found.x_train.dtype == np.float32
    np.testing.assert_array_equal(found.x_train[..., 0], scaled["x_train"][:14].astype(np.float32))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64, np.float32, "column", "one-hot", "booleans"])
def test_labels_of_any_kind_are_the_same_labels(saved, arrays, kind):
    labels = {key: arrays[key] for key in ("y_train", "y_test")}
    if kind == "column":
        labels = {key: value[:, None] for key, value in labels.items()}
    elif isinstance(kind, str):
        labels = {key: np.eye(3, dtype=bool if kind == "booleans" else float)[value] for key, value in labels.items()}
    else:
        labels = {key: value.astype(kind) for key, value in labels.items()}
    found = data.load(saved(**labels))
    assert found.y_train.dtype == np.int32
    np.testing.assert_array_equal(found.y_train, arrays["y_train"][:14])
    np.testing.assert_array_equal(found.y_test, arrays["y_test"])


def test_a_validation_split_of_its_own_is_taken(saved, arrays):
    found = data.load(saved(x_val=arrays["x_test"][:4], y_val=arrays["y_test"][:4]))
    assert {name: len(images) for name, images in found.images.items()} == {"train": 20, "val": 4, "test": 10}
    np.testing.assert_array_equal(found.y_val, arrays["y_test"][:4])
    assert found.digest != data.load(saved()).digest


@pytest.mark.parametrize("own_split", [False, True])
def test_packed_for_a_worker_it_is_the_same_data_set(saved, arrays, own_split):
    given = {"x_val": arrays["x_test"][:4], "y_val": arrays["y_test"][:4]} if own_split else {}
    found = data.load(saved(**given))
    again = data.read(found.packed())
    assert again.digest == found.digest
    np.testing.assert_array_equal(again.x_val, found.x_val)
    assert data.load().packed() is None


def test_an_array_that_is_missing_or_none_is_named(saved, arrays):
    del arrays["y_test"]
    with pytest.raises(DataError, match="no array y_test"):
        data.load(saved())
    with zipfile.ZipFile(saved(), "a") as archive:
        archive.writestr("y_test.npy", b"not an array")
    with pytest.raises(DataError, match=r"y_test is not an array: fetch or make the file again"):
        data.load(Path(archive.filename))


def test_a_file_that_is_truncated_or_absent_is_refused(saved):
    path = saved()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        data.load(path)
    path.unlink()
    with pytest.raises(DataError, match=r"no such data file: give FILE\.npz, idx:FOLDER or module:function"):
        data.load(path)


@pytest.mark.parametrize("position", range(0, 2000, 97))
def test_flipped_byte_never_changes_the_images_unseen(saved, position):
    path = saved()
    content, before = bytearray(path.read_bytes()), data.load(path)
    content[position % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        dataset = data.load(path)
    except DataError as error:
        problem = str(error)
        assert problem.startswith(str(path))
    else:
        assert dataset.digest == before.digest
        np.testing.assert_array_equal(dataset.x_train, before.x_train)


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("is_whole_file", [False, True])
def test_pickled_objects_are_never_run(saved, tmp_path, monkeypatch, is_whole_file):
    monkeypatch.chdir(tmp_path)
    path = saved(x_train=np.array([Bomb()], dtype=object))
    if is_whole_file:
        path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not a readable"):
        data.load(path)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("most", "zeros", "text"),
    [
        (2**20, 2**20, r"unpacks to 1,0..,... bytes; at most 1,048,576 are read"),
        (data_source.MAX_BYTES, 65 * 2**20, r"at most 67,108,864 are read from 6.,... packed ones"),
    ],
)
def test_zip_bomb_is_refused_before_it_is_unpacked(saved, monkeypatch, most, zeros, text):
    with zipfile.ZipFile(saved(), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.npy", bytes(zeros))
    monkeypatch.setattr(data_source, "MAX_BYTES", most)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(DataError, match=text):
        data.load(Path(archive.filename))
