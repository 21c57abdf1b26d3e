"""The same trials by KerasTuner's GridSearch, which repeats each with other seeds; it has no tracker.

Usage: kerastuner_script.py DATA.npz HOME MODEL SEEDS EPOCHS; prints the mean test accuracy of each activation as JSON.
"""

# mypy: ignore-errors

import json
import os
import sys
from collections import defaultdict
from statistics import fmean

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras_tuner
from usual_models import build, load

data, home, model_name, seeds, epochs = *sys.argv[1:4], *map(int, sys.argv[4:])
(x_train, y_train), (x_test, y_test) = load(data)
accuracies = defaultdict(list)


class Network(keras_tuner.HyperModel):
    def build(self, hp):
        return build(model_name, hp.Choice("activation", ["relu", "tanh"]))

    def fit(self, hp, model, *args, **kwargs):
        history = model.fit(*args, **kwargs)
        accuracies[hp.get("activation")].append(model.evaluate(x_test, y_test, verbose=0)[1])
        return history


tuner = keras_tuner.GridSearch(
    Network(),
    objective="val_accuracy",
    executions_per_trial=seeds,
    directory=home,
    project_name="usual",
)
tuner.search(x_train, y_train, batch_size=128, epochs=epochs, validation_split=0.3, verbose=0)
print(json.dumps({name: fmean(values) for name, values in accuracies.items()}))
