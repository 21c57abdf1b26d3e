"""What the driver adds to a sweep: trials that take no time, through engine, ledger and mirror queue, 100 to 10,000.

Once with a trainer that does nothing, once with a user's function, which has a process of its own for every trial.

Prints a Markdown table: trials a second, memory, the time of `report`, runs a second that a local MLflow server takes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = [str(Path(__file__).parents[1] / "tests" / name) for name in ("support", "campaigns", ".")]
TRIALS = (100, 1_000, 10_000)
RUNS = 200
JOBS = 2
NOBODY = "http://127.0.0.1:9"


def main(counts: tuple[int, ...] = TRIALS) -> None:
    """Measure, and print the table."""
    sys.path[:0] = TESTS
    with tempfile.TemporaryDirectory(prefix="ablate-driver-") as name:
        folder = Path(name)
        found = [_sized(folder, trials, "nothing") | _function(folder, trials) for trials in counts]
        alone_per_s, together_per_s = _mirrored(folder)
    heads = ["trials", *(f"{count:,}" for count in counts)]
    print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * len(counts))
    for what, text in _LINES.items():
        print(f"| {what} | " + " | ".join(text.format(**each) for each in found) + " |")
    print(f"\nA local MLflow server takes {together_per_s:.0f} runs a second, {alone_per_s:.0f} one by one.")


_LINES = {
    "trials a second": "{per_s:.0f}",
    "trials a second of a user's function": "{function_per_s:.0f}",
    "trials a second, the last tenth": "{last_per_s:.0f}",
    "driver, processor time a trial": "{cpu_ms:.1f} ms",
    "driver, memory before the first trial": "{before_mb:.0f} MB",
    "driver, memory after the last": "{after_mb:.0f} MB",
    "`report`": "{report_s:.1f} s",
}


def _function(folder: Path, trials: int) -> dict[str, float]:
    """The same of a user's function."""
    (folder / "job.py").write_text("def train(seed, a=1, b=1):\n    return {'score': seed * 0.37 % 1 + a + b}\n")
    return {"function_per_s": _sized(folder, trials, "function")["per_s"]}


def _sized(folder: Path, trials: int, what: str) -> dict[str, Any]:
    """A sweep of so many trials in a process of its own, then its report."""
    home = folder / f"home-{what}-{trials}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(TESTS),
        "PYTHONWARNINGS": "ignore",
        "MNIST_ABLATE_HOME": str(home),
    }
    environment["MLFLOW_TRACKING_URI"] = NOBODY
    if what == "nothing":
        environment |= {"MNIST_ABLATE_TRAINER": "fake_trainer:factory", "FAKE_EPOCH_S": "0", "FAKE_TRIAL_S": "0"}
    command = [sys.executable, __file__, "inside", str(folder), str(trials), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    program = str(Path(sys.executable).with_name("mnist-ablate"))
    began = time.monotonic()
    subprocess.run([program, "report", f"{what}-{trials}"], env=environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "report_s": time.monotonic() - began}


def _inside(folder: Path, trials: int, what: str) -> dict[str, float]:
    """The sweep itself, without the command's start: from the first trial to the last."""
    from mnist_ablate.execution import driver
    from mnist_ablate.settings import Settings
    from mnist_ablate.sweep import sweep_file

    settings = Settings(home=Path(os.environ["MNIST_ABLATE_HOME"]), jobs=JOBS)
    if what == "nothing":
        settings = replace(settings, data=import_module("tiny_images").write_images(folder / "images.npz"))
        arms = {"activation": ["relu", "tanh"], "dropout": [0.1, 0.2, 0.3, 0.4, 0.5]}
        content = {"scientific": arms, "fixed": {"epochs": 1}, "seeds": trials // 10}
        sweep = import_module("sweep_runs").small(name=f"{what}-{trials}", **content)
    else:
        own = {"question": "How fast?", "train": "job:train", "metrics": {"score": {}}, "seeds": trials // 10}
        own["scientific"] = {"a": [1, 2], "b": [1, 2, 3, 4, 5]}
        (folder / f"{what}-{trials}.yaml").write_text(json.dumps(own))  # which is YAML
        sweep = sweep_file.load(str(folder / f"{what}-{trials}.yaml"))
    watch = Watch()
    driver.drive(sweep, settings, watch)
    last = len(watch.ended) // 10
    return {
        "per_s": (trials - 1) / (watch.ended[-1] - watch.ended[0]),
        "last_per_s": (last - 1) / (watch.ended[-1] - watch.ended[-last]),
        "cpu_ms": 1e3 * (watch.cpu[-1] - watch.cpu[0]) / (trials - 1),
        "before_mb": watch.before_mb,
        "after_mb": _memory_mb(),
    }


class Watch:
    """A driver.View that notes when trials ended, and what that took."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.cpu: list[float] = []
        self.before_mb = 0.0

    def opened(self, *_: object) -> None:
        """Nothing to note."""

    def event(self, _planned: object, event: object) -> None:
        """Note the end of a trial."""
        self.before_mb = self.before_mb or _memory_mb()
        if type(event).__name__ == "Finished":
            self.ended.append(time.monotonic())
            self.cpu.append(time.process_time())

    def verdict(self, *_: object) -> None:
        """Nothing to note."""

    def message(self, text: str) -> None:
        """Show it."""
        print(text, file=sys.stderr)


def _memory_mb() -> float:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _mirrored(folder: Path) -> tuple[float, float]:
    """Runs a second that go from a mirror to a real server, one by one and side by side."""
    helpers, server = import_module("mlflow_helpers"), import_module("mlflow_stub").mlflow_server
    uri, port = helpers.new_home(folder / "server"), helpers.free_port()
    with server(uri, port):
        mirror = helpers.mirror(f"http://127.0.0.1:{port}")
        mirror.open()
        ended = [(trial, helpers.ARM, helpers.outcome(trial)) for trial in map(helpers.trial, range(2 * RUNS))]
        began = time.monotonic()
        for each in ended[:RUNS]:
            mirror.outcome(*each)
        between = time.monotonic()
        if len(mirror.outcomes_together(ended[RUNS:])) < RUNS:
            raise RuntimeError("the server did not take every run")
        return RUNS / (between - began), RUNS / (time.monotonic() - between)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        sys.path[:0] = TESTS
        sys.stdout.write(json.dumps(_inside(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])) + "\n")
    else:
        main()
