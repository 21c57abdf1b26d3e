"""`mnist-ablate sweep` beside other ways to train the same trials: whole commands, in turn, in one run.

Prints a Markdown table with seconds, ratios and accuracies. The other tools may be installed for a Python of their own,
which PYTHON_KERASTUNER, PYTHON_RAYTUNE or PYTHON_PYTORCH names: keras-tuner with tensorboard, ray[tune], torch.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mnist_ablate.workloads.keras_mnist.data import MNIST

SWEEP = """
question: Which activation is better?
scientific: {{activation: [relu, tanh]}}
fixed: {{model: {model}, optimizer: adam, learning_rate: 0.001, dropout: 0.5, batch_size: 128, epochs: {epochs}}}
seeds: {seeds}
"""
OURS = "mnist-ablate sweep"
WAYS = {
    "usual": ("the usual script", "usual_script.py", ["1"]),
    "threads": ("the usual script, n_jobs=2", "usual_script.py", ["2"]),
    "kerastuner": ("KerasTuner GridSearch", "kerastuner_script.py", []),
    "raytune": ("Ray Tune, two workers", "raytune_script.py", []),
    "pytorch": ("a PyTorch loop", "pytorch_script.py", []),
}

Accuracies = dict[str, float]


def other(way: str, home: Path, model: str, seeds: int, epochs: int) -> Accuracies:
    """Mean test accuracy by activation, from one of the other ways."""
    _, script, more = WAYS[way]
    python = os.environ.get(f"PYTHON_{way.upper()}", sys.executable)
    command = [python, str(Path(__file__).with_name(script)), str(MNIST), str(home), model]
    lines = _run([*command, str(seeds), str(epochs), *more]).splitlines()
    found: Accuracies = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    return found


def ours(home: Path, model: str, seeds: int, epochs: int) -> Accuracies:
    """Mean test accuracy by activation, from a sweep of the same trials."""
    file = home / "activation.yaml"
    file.write_text(SWEEP.format(model=model, seeds=seeds, epochs=epochs), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("mnist-ablate")), "sweep", str(file), "--home", str(home), "--json"]
    return {arm["params"]["activation"]: arm["mean"] for arm in json.loads(_run(command))["arms"]}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mlp", choices=["mlp", "mlp3", "cnn"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--beside", nargs="+", default=["usual"], choices=WAYS)
    given = parser.parse_args()
    settings = given.model, given.seeds, given.epochs
    trials = 2 * given.seeds
    print(f"{trials} trials of {given.model}, Adam, {given.epochs} epochs, with test, each {given.rounds} times")
    print()
    print("| round | what | s/trial | times ours | accuracy relu, tanh |\n|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {way: [] for way in given.beside}
    for number in range(1, given.rounds + 1):
        seconds = {}
        for way in [*given.beside, OURS]:
            with tempfile.TemporaryDirectory() as home:
                clock = time.perf_counter()
                found = ours(Path(home), *settings) if way == OURS else other(way, Path(home), *settings)
                seconds[way] = (time.perf_counter() - clock, found)
        for way, (spent, found) in seconds.items():
            ratio = spent / seconds[OURS][0]
            if way in ratios:
                ratios[way].append(ratio)
            name = OURS if way == OURS else WAYS[way][0]
            accuracies = ", ".join(f"{100 * found[activation]:.2f}" for activation in ("relu", "tanh"))
            print(f"| {number} | {name} | {spent / trials:.2f} | {ratio:.2f} | {accuracies} |", flush=True)
    print()
    for way, found_ratios in ratios.items():
        print(f"{WAYS[way][0]}: {median(found_ratios):.2f} times ours (median of {given.rounds})")


if __name__ == "__main__":
    main()
