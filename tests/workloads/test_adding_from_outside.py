"""A new normalizer or metric touches one file: each is added to a copy of the package, which is then run by command."""

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from command import base_environment

import mnist_ablate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PACKAGE = Path(mnist_ablate.__file__).parent
PROGRAM = "import sys; from mnist_ablate.cli.app import main; main()"
SWEEP = """
question: q?
scientific: {{normalizer: [unit, {normalizer}]}}
fixed: {{model: mlp, width: 8, epochs: 2}}
seeds: 2
claims:
  - {{name: c, statement: The two differ., treatment: {{normalizer: {normalizer}}}, control: {{normalizer: unit}},
     metric: {metric}, direction: higher, margin: 0.001}}
"""
KERAS = "mnist_ablate/workloads/keras_mnist"


class Copy:
    """A copy of the package, run with the tiny images as a program of its own."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images = folder, images
        shutil.copytree(PACKAGE, folder / "mnist_ablate", ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, file: str, function: str, table: str, line: str) -> None:
        """One function before a table, and one line as the last entry of it."""
        path = self.folder / KERAS / file
        head, name, rest = path.read_text(encoding="utf-8").partition(f"\n{table}: ")
        entries, end, tail = rest.partition("\n}\n")
        path.write_text(f"{head}\n{function}\n\n{name}{entries}\n    {line}{end}{tail}", encoding="utf-8")
        ours = [path.relative_to(self.folder) for path in (self.folder / "mnist_ablate").rglob("*.py")]
        changed = [each for each in ours if not filecmp.cmp(self.folder / each, PACKAGE.parent / each, False)]
        assert changed == [Path(KERAS, file)]

    def __call__(self, *words: str, code: int = 0) -> str:
        environment = base_environment(PYTHONPATH=str(self.folder), MNIST_ABLATE_HOME=str(self.folder / "home"))
        run = [sys.executable, "-c", PROGRAM, *words]  # 15 s on a quiet machine
        done = subprocess.run(run, cwd=self.folder, capture_output=True, text=True, timeout=250, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def judged(self, **texts: str) -> dict[str, object]:
        """Schema, plan, training and verdict of a sweep; its one claim."""
        text = SWEEP.format(**texts)
        (self.folder / "x.yaml").write_text(text)
        jsonschema.validate(yaml.safe_load(text), json.loads(self("schema")))
        assert "2 arms x 2 seeds" in self("plan", "x.yaml", "--data", str(self.images))
        done = self("sweep", "x.yaml", "--data", str(self.images), "--jobs", "1", "--json", code=7)  # no MLflow
        (claim,) = json.loads(done)["claims"]
        assert claim["n_pairs"] == len(claim["differences"]) == 2
        assert claim["verdict"]
        return claim


def test_a_normalizer_is_a_function_and_a_line_in_one_file(tmp_path: Path, images: Path) -> None:
    copy = Copy(tmp_path, images)
    function = '''
def bipolar(_train: Images) -> Transform:
    """x / 127.5 - 1: from -1 to 1."""
    return _affine(1 / 127.5, -1.0)
'''
    copy.add("choices/normalizers.py", function, "NORMALIZERS", '"bipolar": bipolar,')
    assert "bipolar                x / 127.5 - 1: from -1 to 1" in copy("list", "choices")
    assert copy.judged(normalizer="bipolar", metric="test_accuracy")["metric"] == "test_accuracy"


def test_a_metric_is_a_function_and_a_line_in_one_file(tmp_path: Path, images: Path) -> None:
    copy = Copy(tmp_path, images)
    function = '''
def lowest_val_loss(curve: Curve) -> float:
    """The smallest validation loss of any epoch."""
    return min(curve.losses)
'''
    line = '_loss("lowest_val_loss", "The smallest validation loss of any epoch."): lowest_val_loss,'
    copy.add("metrics.py", function, "CURVE_METRICS", line)
    assert copy.judged(normalizer="raw", metric="lowest_val_loss")["metric"] == "lowest_val_loss"
