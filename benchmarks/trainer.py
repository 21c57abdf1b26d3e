"""`mnist-ablate sweep` beside the usual script: the same trials, whole commands, in pairs in one run.

Usage: trainer.py [PAIRS [SEEDS [EPOCHS]]]; prints a Markdown table with seconds, ratios and accuracies.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

from mnist_ablate.data import MNIST

SWEEP = """
question: Which activation is better?
scientific: {{activation: [relu, tanh]}}
fixed: {{model: mlp, optimizer: adam, learning_rate: 0.001, dropout: 0.5, batch_size: 128, epochs: {epochs}}}
seeds: {seeds}
"""

Accuracies = dict[str, float]


def usual(home: Path, seeds: int, epochs: int) -> Accuracies:
    """Mean test accuracy by activation, from the usual script."""
    script = Path(__file__).with_name("usual_script.py")
    answer: Accuracies = json.loads(_run([sys.executable, str(script), str(MNIST), str(home), str(seeds), str(epochs)]))
    return answer


def ours(home: Path, seeds: int, epochs: int) -> Accuracies:
    """Mean test accuracy by activation, from a sweep of the same trials."""
    file = home / "activation.yaml"
    file.write_text(SWEEP.format(seeds=seeds, epochs=epochs), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("mnist-ablate")), "sweep", str(file), "--home", str(home), "--json"]
    return {arm["params"]["activation"]: arm["mean"] for arm in json.loads(_run(command))["arms"]}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return done.stdout


def _timed(run: Callable[[Path, int, int], Accuracies], seeds: int, epochs: int) -> tuple[float, Accuracies]:
    with tempfile.TemporaryDirectory() as home:
        clock = time.perf_counter()
        accuracies = run(Path(home), seeds, epochs)
        return time.perf_counter() - clock, accuracies


def main(pairs: int = 2, seeds: int = 6, epochs: int = 5) -> None:
    """Run the pairs and print them."""
    trials, ratios = 2 * seeds, []
    print(f"{trials} trials of 784-500-10, Adam, {epochs} epochs, validation and test, each {pairs} times")
    print("| pair | usual s/trial | sweep s/trial | ratio | usual relu, tanh | sweep relu, tanh |")
    print("|---|---|---|---|---|---|")
    for pair in range(1, pairs + 1):
        usual_s, usual_accuracy = _timed(usual, seeds, epochs)
        ours_s, our_accuracy = _timed(ours, seeds, epochs)
        ratios.append(usual_s / ours_s)
        cells = [" ".join(f"{100 * a[name]:.2f}" for name in ("relu", "tanh")) for a in (usual_accuracy, our_accuracy)]
        figures = f"{usual_s / trials:.2f} | {ours_s / trials:.2f} | {ratios[-1]:.2f}"
        print(f"| {pair} | {figures} | {cells[0]} | {cells[1]} |", flush=True)
    print(f"median ratio {median(ratios):.2f}, mean {fmean(ratios):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
