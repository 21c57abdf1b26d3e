"""Features are computed once, shared by processes, whole after any kill; a base sees images as the article does."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from keras_trials import keras_trial, to_the_bit
from small_digits import small

from mnist_ablate.errors import DataError, DiskError
from mnist_ablate.workloads.keras_mnist import frozen_features
from mnist_ablate.workloads.keras_mnist.choices.frozen_bases import BASES, Base
from mnist_ablate.workloads.keras_mnist.choices.models import MODELS
from mnist_ablate.workloads.keras_mnist.frozen_features import Extractor, FeatureCache, InputSource, input_source
from mnist_ablate.workloads.keras_mnist.recipe import Recipe, recipe_of
from mnist_ablate.workloads.keras_mnist.saved_model import Classifier
from mnist_ablate.workloads.keras_mnist.trainer import Trainer, cost
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST

UNIT = InputSource("unit", "tiny", "random")


def tiny(keras, shape):
    """One convolution and global pooling in place of VGG16."""
    image = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, strides=8, activation="relu", name="only")(image)
    return keras.Model(image, keras.layers.MaxPooling2D(x.shape[1])(x))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(frozen_features.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(frozen_features, "CHUNK", 40)
    monkeypatch.setitem(BASES, "tiny", Base(tiny, size=16, outputs=(1, 1, 4)))
    return tmp_path / "cache"


@pytest.fixture
def counted(monkeypatch):
    """How many images went through a base."""
    seen, run = [], Extractor.__call__
    monkeypatch.setattr(Extractor, "__call__", lambda self, images: seen.append(len(images)) or run(self, images))
    return seen


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_images_are_resized_as_uint8_gray_ones_to_three_equal_channels_and_other_channels_refused(dataset):
    expected = cv2.resize(dataset.x_train[7][..., 0], (48, 48))
    np.testing.assert_array_equal(frozen_features.resized(dataset.x_train[:9], 48)[7, ..., 0], expected)
    found = Extractor(UNIT, dataset.x_train)(dataset.x_train[:5])
    rgb = np.repeat(dataset.x_train[:5], 3, axis=-1)
    np.testing.assert_array_equal(Extractor(UNIT, rgb)(rgb), found)
    with pytest.raises(DataError, match="tiny takes gray or RGB images, not 2 channels"):
        Extractor(UNIT, np.repeat(dataset.x_train[:5], 2, axis=-1))


def test_features_are_computed_once_and_progress_is_told_in_images(dataset, counted):
    told = []
    first = FeatureCache(dataset).features(UNIT, told.append)
    assert told[:: len(told) - 1] == [f"features of tiny (random, unit): {n} of 500 images" for n in (40, 500)]
    assert sum(counted) == 500
    assert [len(first[name]) for name in ("train", "val", "test")] == [300, 100, 100]
    np.testing.assert_allclose(first["val"], Extractor(UNIT, dataset.x_train)(dataset.x_val), rtol=1e-4)
    counted.clear()
    assert same(FeatureCache(dataset).features(UNIT, pytest.fail), first)
    assert counted == []


def test_other_images_normalizers_weights_and_sizes_have_features_of_their_own(dataset, monkeypatch):
    sources = (UNIT, UNIT._replace(normalizer="raw"), UNIT._replace(weights="bsds500"))
    folders = {FeatureCache(dataset).folder(source) for source in sources} | {FeatureCache(small(test=50)).folder(UNIT)}
    monkeypatch.setitem(BASES, "tiny", Base(tiny, size=32, outputs=(1, 1, 4)))
    assert len(folders | {FeatureCache(dataset).folder(UNIT)}) == 5


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content[:-50] + b"x" * 50])
def test_a_damaged_file_is_computed_again(dataset, counted, damage):
    store = FeatureCache(dataset)
    first, file = store.features(UNIT), store.folder(UNIT) / "train-000040.features"
    file.write_bytes(damage(file.read_bytes()))
    counted.clear()
    assert same(store.features(UNIT), first)
    assert counted == [40]


def test_a_chunk_that_another_process_is_at_is_waited_for(dataset, monkeypatch):
    store, told = FeatureCache(dataset), []
    lock = store._chunks(UNIT)[3].path.with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    code = f"import fcntl, time; f = open({str(lock)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    other = subprocess.Popen([sys.executable, "-c", f"{code}; print('locked', flush=True); time.sleep(60)"], stdout=-1)
    assert other.stdout.readline() == b"locked\n"

    def end(_seconds):
        assert told[-1] == "features of tiny (random, unit): 460 of 500 images"
        other.kill()
        other.communicate()

    monkeypatch.setattr(frozen_features.time, "sleep", end)
    store.features(UNIT, told.append)
    assert other.returncode == -signal.SIGKILL
    assert store.missing(UNIT) == 0


def test_progress_counts_what_another_process_wrote(dataset, monkeypatch):
    store, told, extract = FeatureCache(dataset), [], Extractor.__call__

    def shared(self, images):
        monkeypatch.setattr(Extractor, "__call__", extract)
        store._computed(store._chunks(UNIT)[-1], lambda: self)
        return extract(self, images)

    monkeypatch.setattr(Extractor, "__call__", shared)
    store.features(UNIT, told.append)
    assert told[0] == "features of tiny (random, unit): 60 of 500 images"


def test_a_cache_that_cannot_be_written_is_named(dataset, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(frozen_features.CACHE, str(tmp_path / "file"))
    with pytest.raises(DiskError, match=r"file/features/tiny-.*set MNIST_ABLATE_CACHE to another folder"):
        FeatureCache(dataset).features(UNIT)


def test_weights_belong_to_models_with_a_base_alone():
    assert input_source(Recipe(model="mlp", weights="random")) == ("unit", "", "")
    assert input_source(Recipe(model="vgg16", weights="random", normalizer="raw")) == ("raw", "vgg16", "random")


@pytest.fixture
def trainer(dataset, monkeypatch):
    """Trains the article's head on the tiny base."""
    monkeypatch.setitem(MODELS, "vgg16", replace(MODELS["vgg16"], frozen_base="tiny"))
    return Trainer(dataset)


def trial(**settings):
    head = {"model": "vgg16", "weights": "random", "width": 8, "learning_rate": 0.01, "epochs": 2}
    return keras_trial(Recipe(**head | settings), 0, MNIST_DIGEST)


@pytest.mark.slow
def test_later_trials_train_the_head_alone_and_the_same_trial_has_the_same_bits(dataset, trainer, counted):
    first = Trainer(dataset).train(trial())
    assert first.status == "complete"
    assert sum(counted) == 500
    counted.clear()
    trainer.train(trial(dropout=0.0, epochs=1, optimizer="sgd"))
    again = trainer.train(trial())
    assert counted == []
    assert (to_the_bit(again), again.diagnostics) == (to_the_bit(first), first.diagnostics)
    raw = trainer.train(trial(normalizer="raw")).diagnostics  # the normalizer reaches the head
    assert raw["input_energy"] == pytest.approx(256**2 * first.diagnostics["input_energy"], rel=1e-3)


@pytest.mark.slow
def test_timing_an_epoch_computes_no_features_and_timing_features_keeps_none(dataset, trainer, counted, cache):
    recipe = recipe_of(trial())
    assert trainer.epoch_seconds(recipe) > 0
    assert counted == []
    found = cost(dataset, [recipe, Recipe()])
    assert min(*found.epoch_s, found.preparation_s) > 0
    assert not cache.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")  # its own use of numpy
def test_a_registered_network_sees_images_through_its_base(dataset, trainer, tmp_path):
    asked = trial(epochs=5, width=32)
    outcome = trainer.train(asked)
    trainer.save(asked, tmp_path)
    found = Classifier(tmp_path).predict(dataset.x_test)
    assert (found == dataset.y_test).mean() == pytest.approx(outcome.metrics["test_accuracy"])


CHILD = f"""
import sys, time
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1] / "support")!r}]
import test_frozen_features as t
from mnist_ablate.workloads.keras_mnist import frozen_features as f
f.CHUNK = 40
t.BASES["tiny"] = t.Base(t.tiny, size=16, outputs=(1, 1, 4))
run = f.Extractor._batch
f.Extractor._batch = lambda self, images: time.sleep(0.1) or run(self, images)
f.FeatureCache(t.small()).features(t.UNIT, lambda text: print(text, flush=True))
"""


def child(cache):
    environment = {**os.environ, frozen_features.CACHE: str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, env=environment, text=True)


def files(cache):
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.features")}


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_from_whole_chunks(dataset, cache, counted):
    for _ in range(2):
        process, before = child(cache), len(files(cache))
        while len(files(cache)) < before + 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
    kept = files(cache)
    assert 4 <= len(kept) < 14
    found = FeatureCache(dataset).features(UNIT)
    assert sum(counted) <= 500 - 40 * (len(kept) - 1)
    assert kept.items() <= files(cache).items()
    np.testing.assert_allclose(found["train"], Extractor(UNIT, dataset.x_train)(dataset.x_train), rtol=1e-4)


@pytest.mark.slow
def test_processes_share_the_work(dataset, cache, counted):
    both = [child(cache) for _ in range(2)]
    assert all(each.communicate(timeout=120)[0].endswith("500 of 500 images\n") for each in both)
    assert [process.returncode for process in both] == [0, 0]
    assert len(files(cache)) == 14
    FeatureCache(dataset).features(UNIT)
    assert counted == []
