"""Two workers beside one on the same trials, and what workers hold over 200 trials of twenty arms.

Usage: workers.py; prints two Markdown tables, of whole sweeps with the real trainer and the embedded store.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from driver_cost import Watch

from mnist_ablate.execution import driver
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.sweep import Sweep
from mnist_ablate.workloads.keras_mnist.choices.normalizers import NORMALIZERS

ROUNDS = 2
SCALING = {
    "scientific": {"activation": ["relu", "tanh"]},
    "fixed": {"model": "mlp", "optimizer": "adam", "learning_rate": 0.001, "epochs": 5},
    "seeds": 8,
}
MEMORY = {
    "scientific": {"normalizer": list(NORMALIZERS), "activation": ["relu", "tanh"]},
    "fixed": {"model": "mlp_relu", "optimizer": "adam", "learning_rate": 0.001, "epochs": 1},
    "seeds": 10,
}
MEMORY_AT = (20, 50, 100, 150, 200)


class _Watch(Watch):
    """Notes as well what the largest of the processes below holds when a trial ended."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[int] = []

    def event(self, _planned: object, event: object) -> None:
        super().event(_planned, event)
        if len(self.ended) > len(self.memory):
            self.memory.append(max(each.memory_info().rss for each in psutil.Process().children(recursive=True)))


def _inside(content: dict[str, Any], jobs: int, home: str) -> _Watch:
    watch = _Watch()
    sweep = Sweep.model_validate({"name": "workers", "question": "How fast?", **content})
    driver.drive(sweep, Settings(home=Path(home), jobs=jobs), watch)
    return watch


def _run(content: dict[str, Any], jobs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, json.dumps(content), str(jobs), home]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print the tables."""
    print("| round | one worker, s/trial | two workers, s/trial | ratio |\n|---|---|---|---|")
    for number in range(1, ROUNDS + 1):
        one, two = (_steady(_run(SCALING, jobs)["ended"]) for jobs in (1, 2))
        print(f"| {number} | {one:.2f} | {two:.2f} | {one / two:.2f} |", flush=True)
    memory = _run(MEMORY, 2)["memory"]
    print("\n| trials ended | the larger of two workers |\n|---|---:|")
    for count in MEMORY_AT:
        print(f"| {count} | {memory[count - 1] / 1e6:.0f} MB |")


def _steady(ended: list[float]) -> float:
    """Seconds a trial, from the end of the fourth: start-up and compilation are before it."""
    return (ended[-1] - ended[3]) / (len(ended) - 4)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(vars(_inside(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))))
    else:
        main()
