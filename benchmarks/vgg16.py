"""The article's way with its frozen VGG16, the base recomputed in every epoch, beside features computed once.

Usage: vgg16.py [IMAGES [EPOCHS [FILE.npz]]]; the article's way is timed on IMAGES images for one epoch, with all cores,
and scaled by the number of images; ours is whole commands with a cache of their own. Prints a Markdown table.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.frozen_features import CACHE

BATCH, LATER = 64, 12
_TRAINED = (0, 7)  # 7: all is trained, MLflow is behind
SWEEP = """
question: How long does a head on a frozen VGG16 take?
scientific: {{dropout: [0.5]}}
fixed: {{model: vgg16, weights: random, width: 500, batch_size: {batch}, epochs: {epochs}}}
seeds: {seeds}
negative_control: none
"""
USUAL = """
import json, sys, time
import cv2, keras, numpy as np
n = int(sys.argv[1])
with np.load(sys.argv[2]) as file:
    x, y = file["x_train"][:n], file["y_train"][:n]
x = np.stack([cv2.cvtColor(cv2.resize(i, (48, 48)), cv2.COLOR_GRAY2RGB) for i in x]) / np.float32(256)
base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(48, 48, 3))
base.trainable = False
layers = keras.layers
head = [layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(500, "relu"), layers.Dropout(0.5)]
model = keras.Sequential([base, *head, layers.Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x[:128], y[:128], batch_size=64, verbose=0)
model.evaluate(x[:128], y[:128], batch_size=64, verbose=0)
clock = time.perf_counter()
model.fit(x, y, batch_size=64, epochs=1, verbose=0)
trained = time.perf_counter()
model.evaluate(x, y, batch_size=64, verbose=0)
print(json.dumps({"fit_s": (trained - clock) / n, "evaluate_s": (time.perf_counter() - trained) / n}))
"""


def article_s(images: int, epochs: int, file: Path) -> float:
    """Seconds of a trial the article's way, from the time of an image in `fit` and in `evaluate`."""
    found: dict[str, float] = json.loads(_run([sys.executable, "-c", USUAL, str(images), str(file)]))
    digits = data.load(file)
    evaluated = epochs * len(digits.x_val) + len(digits.x_test)
    return epochs * len(digits.x_train) * found["fit_s"] + evaluated * found["evaluate_s"]


def sweep_s(folder: Path, seeds: int, epochs: int, file: Path) -> float:
    """Seconds of a whole command that trains so many seeds."""
    sweep = folder / f"vgg16-{seeds}.yaml"
    sweep.write_text(SWEEP.format(batch=BATCH, epochs=epochs, seeds=seeds), encoding="utf-8")
    program = str(Path(sys.executable).with_name("mnist-ablate"))
    command = [program, "sweep", str(sweep), "--home", str(folder / f"home-{seeds}"), "--data", str(file), "--json"]
    clock = time.perf_counter()
    _run(command, **{CACHE: str(folder / "cache")})
    return time.perf_counter() - clock


def _run(command: list[str], **more: str) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **more}
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    done = subprocess.run(command, stdout=pipe, stderr=nowhere, text=True, check=False, env=environment)
    if done.returncode not in _TRAINED:
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout


def main(images: str = "2000", epochs: str = "10", file: str = str(data.MNIST)) -> None:
    """Time both and print them."""
    _compare(int(images), int(epochs), Path(file))


def _compare(images: int, epochs: int, file: Path) -> None:
    usual_s = article_s(images, epochs, file)
    with tempfile.TemporaryDirectory() as name:
        first_s = sweep_s(Path(name), 2, epochs, file)
        later_s = sweep_s(Path(name), LATER, epochs, file) / LATER
    print(f"head on a frozen VGG16, 48x48, {epochs} epochs, batch {BATCH}")
    print("| what | seconds | times faster |")
    print("|---|---|---|")
    print(f"| a trial, base recomputed every epoch (timed on {images:,} images, scaled) | {usual_s:,.0f} | 1 |")
    print(
        f"| the first two trials, from the command on: features and heads | {first_s:,.0f} | {usual_s / first_s:.1f} |"
    )
    print(f"| a later trial, of {LATER}, from the command on, two at once | {later_s:,.1f} | {usual_s / later_s:.0f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
