"""Claims whose answers are known, run as any sweep is: on images altered on purpose, and on planted numbers.

It says whether this machine, its packages and this program find the truth. Knows the answers, judges nothing itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_ablate.errors import AblateError

_NOT_IN_STEP = 7  # the exit code of a sweep that is done and that MLflow does not have yet
_ALTERED = "mnist_ablate.workloads.keras_mnist.altered_images:ALTERED_MNIST"
_PLANTED = '''"""Accuracies with a planted effect, in margins of 0.002; what a seed does is the same to all arms."""

import random


def train(seed: int, effect: float = 0.0) -> dict[str, float]:
    shared, own = random.Random(seed), random.Random(f"{seed} {effect}")
    return {"test_accuracy": 0.95 + 0.003 * shared.gauss(0, 1) - 0.002 * effect + 0.0008 * own.gauss(0, 1)}
'''
_CHANCE = {"reference": 0.1, "direction": "same", "margin": 0.1, "collapse_at": 0.0}
_WORSE = {"control": {"configuration": "usual"}, "direction": "lower", "margin": 0.005}
_SAME = {"control": {"configuration": "usual"}, "direction": "same", "margin": 0.02}
_USUAL: dict[str, Any] = {"share": 0.1, "epochs": 10, "learning_rate": 0.001}
_CONVOLUTION: dict[str, Any] = {"model": "cnn", "share": 0.1, "epochs": 2, "learning_rate": 0.001}


@dataclass(frozen=True)
class Known:
    """A claim with a known answer: what is changed, how it is claimed, and the sentence."""

    statement: str
    settings: Mapping[str, Any]
    claim: Mapping[str, Any]


KNOWN = {
    "shuffled-labels": Known("Trained on random labels, a network guesses.", {**_USUAL, "wrong_labels": 1.0}, _CHANCE),
    "no-learning": Known(
        "With a learning rate of almost zero, a network guesses.", {**_USUAL, "learning_rate": 1e-12}, _CHANCE
    ),
    "permuted-dense": Known(
        "The order of the pixels does not matter to a dense network.", {**_USUAL, "permuted": True}, _SAME
    ),
    "linear": Known("A network without a hidden layer is worse.", {**_USUAL, "model": "linear"}, _WORSE),
    "half-the-images": Known("Half of the training images are worse.", {**_USUAL, "share": 0.05}, _WORSE),
    "twice-the-epochs": Known(
        "Twice the epochs are not worse.",
        {**_USUAL, "epochs": 20},
        {"control": {"configuration": "usual"}, "direction": "not_lower", "margin": 0.01},
    ),
    "noisy-labels": Known("Label noise of 20% is worse.", {**_USUAL, "wrong_labels": 0.2}, _WORSE),
    "other-test-images": Known(
        "Other test images of the same kind give the same accuracy.", {**_USUAL, "drawn_test": True}, _SAME
    ),
    "permuted-convolution": Known(
        "The order of the pixels matters to a convolution: another one is worse.",
        {**_CONVOLUTION, "permuted": True},
        {"control": {"configuration": "convolution"}, "direction": "lower", "margin": 0.005},
    ),
}
"""By name. Each claim is true, so each must be supported."""
REDUCED = ("shuffled-labels", "permuted-dense", "linear", "half-the-images")
PLANTED = {1e-9: "equivalent", 1.0: "inconclusive", 2.0: "supported", 5.0: "supported"}
"""The verdict on "lower by more than a margin" for an effect of so many margins. At one margin no verdict is right."""


@dataclass(frozen=True)
class Answer:
    """What a claim with a known answer came to."""

    statement: str
    expected: str
    found: str
    effect: float | None

    @property
    def is_right(self) -> bool:
        """Whether the answer is the known one."""
        return self.found == self.expected


def selftest(folder: Path, data: str | None, jobs: int | None, *, reduced: bool) -> Iterator[Answer]:
    """Run both sweeps in an empty folder. Raises AblateError if one does not run to its end."""
    (folder / "planted.py").write_text(_PLANTED, encoding="utf-8")
    planted = _run(folder, "planted", planted_sweep(), jobs)
    for claim, (effect, expected) in zip(planted["claims"], PLANTED.items(), strict=True):
        yield Answer(f"A planted effect of {round(effect)} margins.", expected, claim["verdict"], claim["effect"])
    chosen = REDUCED if reduced else tuple(KNOWN)
    altered = _run(folder, "altered", altered_sweep(chosen), jobs, data)
    for claim in altered["claims"]:
        yield Answer(claim["statement"], "supported", claim["verdict"], claim["effect"])
    yield _nothing(altered, "Two sets of seeds of one arm do not differ.")


def _nothing(report: Mapping[str, Any], statement: str) -> Answer:
    """The negative control's answer, in its widest margin."""
    check = max(report["negative_control"]["checks"], key=lambda each: each["margin"])
    limits = [check["ci_low"], check["ci_high"]]
    within = None not in limits and -check["margin"] <= limits[0] <= limits[1] <= check["margin"]
    found = "alarm" if check["alarm"] else "equivalent" if within else "inconclusive"
    return Answer(statement, "equivalent", found, check["effect"])


def planted_sweep() -> dict[str, Any]:
    """Numbers with effects of 0, 1, 2 and 5 margins; that of 0 is a tiny one, as arms must differ."""
    return {
        "question": "Are planted effects found?",
        "train": "planted:train",
        "metrics": {"test_accuracy": {"unit": "share", "collapse_at": 0.55}},
        "baseline": {"effect": 0.0},
        "scientific": {"effect": [0.0, *PLANTED]},
        "seeds": 14,
        "negative_control": "none",
        "claims": [
            {
                "name": f"effect-{round(effect)}",
                "statement": f"Lower by more than a margin; planted: {round(effect)} margins.",
                "treatment": {"effect": effect},
                "control": {"effect": 0.0},
                "metric": "test_accuracy",
                "direction": "lower",
                "margin": 0.002,
            }
            for effect in PLANTED
        ],
    }


def altered_sweep(names: Sequence[str]) -> dict[str, Any]:
    """Networks on altered images, each against the usual one."""
    arms: dict[str, Any] = {"usual": _USUAL}
    if "permuted-convolution" in names:
        arms["convolution"] = _CONVOLUTION
    return {
        "question": "Is found what is known?",
        "design": "configurations",
        "configurations": {**arms, **{name: dict(KNOWN[name].settings) for name in names}},
        "fixed": {"width": 200, "dropout": 0.0},
        "seeds": {"min": 4, "max": 14},
        "claims": [
            {
                "name": name,
                "statement": KNOWN[name].statement,
                "treatment": {"configuration": name},
                **KNOWN[name].claim,
            }
            for name in names
        ],
    }


def _run(
    folder: Path, name: str, content: Mapping[str, Any], jobs: int | None, data: str | None = None
) -> dict[str, Any]:
    """Run a sweep as a person does, in a process of its own; its report."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    options = [
        *(["--jobs", str(jobs)] if jobs else []),
        *(["--data", str(Path(data).absolute()) if Path(data).exists() else data] if data else []),
    ]
    command = [sys.executable, "-c", "from mnist_ablate.cli.app import main; main()", "sweep", str(file), "--json"]
    command += ["--home", str(folder / "home")]
    own = {"MNIST_ABLATE_WORKLOAD": _ALTERED} if "train" not in content else {}
    left_out = ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE", "MNIST_ABLATE_WORKLOAD", "MNIST_ABLATE_WEBHOOK")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    done = subprocess.run([*command, *options], env={**environment, **own}, stdout=subprocess.PIPE, check=False)  # noqa: S603 - our own
    if done.returncode not in (0, _NOT_IN_STEP):
        raise AblateError(f"selftest: the sweep {name} ended with exit code {done.returncode}; see the lines above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
