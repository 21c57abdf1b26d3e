"""Data and networks of the scripts that `mnist-ablate` is compared with, as users of Keras write them."""

# mypy: ignore-errors

import keras
import numpy as np


def load(path):
    """(images / 256, one-hot labels), of 60,000 and of 10,000."""
    file = np.load(path)
    return tuple(
        (file[f"x_{part}"][..., None].astype("float32") / 256, keras.utils.to_categorical(file[f"y_{part}"], 10))
        for part in ("train", "test")
    )


def build(name, activation):
    """The compiled network: mlp, mlp3 or cnn."""
    layers = keras.layers
    model = keras.Sequential([keras.Input((28, 28, 1))])
    if name == "cnn":
        model.add(layers.Conv2D(32, 3, activation=activation))
        model.add(layers.Conv2D(32, 3, activation=activation))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(500, activation=activation))
    model.add(layers.Dropout(0.5))
    if name != "mlp":
        model.add(layers.Dense(500, activation=activation))
        model.add(layers.Dropout(0.5))
        model.add(layers.Dense(500, activation=activation))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model
