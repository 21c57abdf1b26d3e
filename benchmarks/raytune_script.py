"""The same trials by Ray Tune, with one worker process a core, each with one thread; it has no tracker.

Usage: raytune_script.py DATA.npz HOME MODEL SEEDS EPOCHS; prints the mean test accuracy of each activation as JSON.
"""

# mypy: ignore-errors

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from ray import tune

data, home, model_name, seeds, epochs = *sys.argv[1:4], *map(int, sys.argv[4:])
here = str(Path(__file__).parent)


def train(config):
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, here)
    import keras
    import tensorflow as tf
    from usual_models import build, load

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(config["seed"])
    (x_train, y_train), (x_test, y_test) = load(data)

    class Report(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            tune.report({"test_accuracy": 0.0, **logs})

    model = build(model_name, config["activation"])
    model.fit(x_train, y_train, batch_size=128, epochs=epochs, validation_split=0.3, verbose=0, callbacks=[Report()])
    tune.report({"test_accuracy": model.evaluate(x_test, y_test, verbose=0)[1]})


grid = {"activation": tune.grid_search(["relu", "tanh"]), "seed": tune.grid_search(list(range(seeds)))}
tuner = tune.Tuner(
    tune.with_resources(train, {"cpu": 1}),
    param_space=grid,
    tune_config=tune.TuneConfig(reuse_actors=True),
    run_config=tune.RunConfig(storage_path=home, verbose=0),
)
accuracies = defaultdict(list)
for result in tuner.fit():
    accuracies[result.config["activation"]].append(result.metrics["test_accuracy"])
print(json.dumps({name: fmean(values) for name, values in accuracies.items()}))
