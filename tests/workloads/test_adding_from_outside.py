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

PACKAGE = Path(mnist_ablate.__file__).parent
PROGRAM = "import sys; from mnist_ablate.cli.app import main; main()"
SWEEP = """
question: q?
scientific: {{normalizer: [unit, {normalizer}]}}
fixed: {{model: mlp, width: 8, epochs: 2}}
seeds: 2
claims:
  - name: c
    statement: The two differ.
    treatment: {{normalizer: {normalizer}}}
    control: {{normalizer: unit}}
    metric: {metric}
    direction: {direction}
    margin: 0.001
"""


class Copy:
    """A copy of the package, run with the tiny images as a program of its own."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images = folder, images
        shutil.copytree(PACKAGE, folder / "mnist_ablate", ignore=shutil.ignore_patterns("__pycache__", "mnist.npz"))
        (folder / "mnist_ablate/workloads/keras_mnist/mnist.npz").symlink_to(
            PACKAGE / "workloads/keras_mnist/mnist.npz"
        )

    def add(self, file: str, function: str, table: str, line: str) -> None:
        """One function before a table, and one line as the last entry of it."""
        path = self.folder / "mnist_ablate/workloads/keras_mnist" / file
        head, name, rest = path.read_text(encoding="utf-8").partition(f"\n{table}: ")
        entries, end, tail = rest.partition("\n}\n")
        path.write_text(f"{head}\n{function}\n\n{name}{entries}\n    {line}{end}{tail}", encoding="utf-8")

    def changed(self) -> list[str]:
        ours = {path.relative_to(self.folder) for path in (self.folder / "mnist_ablate").rglob("*.py")}
        return [path.name for path in sorted(ours) if not filecmp.cmp(self.folder / path, PACKAGE.parent / path, False)]

    def __call__(self, *words: str, code: int = 0) -> str:
        environment = base_environment(PYTHONPATH=str(self.folder), MNIST_ABLATE_HOME=str(self.folder / "home"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=250,  # 15 s on a quiet machine
            env=environment,
        )
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
        return claim


@pytest.fixture
def copy(tmp_path: Path, images: Path) -> Copy:
    return Copy(tmp_path, images)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_normalizer_is_a_function_and_a_line_in_one_file(copy: Copy) -> None:
    function = '''
def bipolar(_train: Images) -> Transform:
    """x / 127.5 - 1: from -1 to 1."""
    return _affine(1 / 127.5, -1.0)
'''
    copy.add("choices/normalizers.py", function, "NORMALIZERS", '"bipolar": bipolar,')
    assert copy.changed() == ["normalizers.py"]
    assert "bipolar                x / 127.5 - 1: from -1 to 1" in copy("list", "choices")
    claim = copy.judged(normalizer="bipolar", metric="test_accuracy", direction="same")
    assert claim["n_pairs"] == 2
    assert claim["verdict"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_metric_is_a_function_and_a_line_in_one_file(copy: Copy) -> None:
    function = '''
def lowest_val_loss(curve: Curve) -> float:
    """The smallest validation loss of any epoch."""
    return min(curve.losses)
'''
    line = '_loss("lowest_val_loss", "The smallest validation loss of any epoch."): lowest_val_loss,'
    copy.add("metrics.py", function, "CURVE_METRICS", line)
    assert copy.changed() == ["metrics.py"]
    claim = copy.judged(normalizer="raw", metric="lowest_val_loss", direction="higher")
    assert (claim["metric"], claim["n_pairs"]) == ("lowest_val_loss", 2)
    assert claim["mean_difference"] is not None
