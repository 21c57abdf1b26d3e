"""What a careful user writes without us: Optuna's GridSampler, `model.fit`, MLflow after every epoch.

Usage: usual_script.py DATA.npz HOME SEEDS EPOCHS; prints the mean test accuracy of each activation as JSON.
"""

# mypy: ignore-errors

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import mlflow
import numpy as np
import optuna


class LogEpochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        mlflow.log_metrics(logs, step=epoch)


def build(activation):
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(500, activation=activation),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def main(data, home, seeds, epochs):
    file = np.load(data)
    x_train, x_test = (file[name].reshape(-1, 784).astype("float32") / 256 for name in ("x_train", "x_test"))
    y_train, y_test = (keras.utils.to_categorical(file[name], 10) for name in ("y_train", "y_test"))
    accuracies = defaultdict(list)

    def objective(trial):
        activation = trial.suggest_categorical("activation", ["relu", "tanh"])
        seed = trial.suggest_categorical("seed", list(range(seeds)))
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        with mlflow.start_run(run_name=f"{activation} {seed}"):
            mlflow.log_params(trial.params)
            model = build(activation)
            model.fit(
                x_train,
                y_train,
                batch_size=128,
                epochs=epochs,
                validation_split=0.3,
                verbose=0,
                callbacks=[LogEpochs()],
            )
            loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
            mlflow.log_metrics({"test_loss": loss, "test_accuracy": accuracy})
        accuracies[activation].append(accuracy)
        return accuracy

    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.set_experiment("usual")
    grid = {"activation": ["relu", "tanh"], "seed": list(range(seeds))}
    study = optuna.create_study(
        storage=f"sqlite:///{home}/optuna.db", sampler=optuna.samplers.GridSampler(grid), direction="maximize"
    )
    study.optimize(objective, n_trials=2 * seeds)
    print(json.dumps({name: fmean(values) for name, values in accuracies.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
