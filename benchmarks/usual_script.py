"""What a careful user writes without us: Optuna's GridSampler, `model.fit`, MLflow after every epoch.

Usage: usual_script.py DATA.npz HOME MODEL SEEDS EPOCHS JOBS; prints the mean test accuracy of each activation as JSON.
MODEL is mlp, mlp3 or cnn, as `workloads/keras_mnist/choices/models.py` has them; JOBS are Optuna's threads (`n_jobs`).
"""

# mypy: ignore-errors

import json
import os
import sys
from collections import defaultdict
from statistics import fmean

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import mlflow
import optuna
from usual_models import build, load

data, home, model_name, seeds, epochs, jobs = *sys.argv[1:4], *map(int, sys.argv[4:])


class LogEpochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        mlflow.log_metrics(logs, step=epoch)


(x_train, y_train), (x_test, y_test) = load(data)
accuracies = defaultdict(list)


def objective(trial):
    activation = trial.suggest_categorical("activation", ["relu", "tanh"])
    seed = trial.suggest_categorical("seed", list(range(seeds)))
    if jobs == 1:
        keras.backend.clear_session()  # takes the layers of other threads away
    keras.utils.set_random_seed(seed)
    with mlflow.start_run(run_name=f"{activation} {seed}"):
        mlflow.log_params(trial.params)
        model = build(model_name, activation)
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
study.optimize(objective, n_trials=2 * seeds, n_jobs=jobs)
print(json.dumps({name: fmean(values) for name, values in accuracies.items()}))
