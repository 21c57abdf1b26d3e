"""A new normalizer or metric touches one file: each is added to a copy of the package, which is then run by command."""

import filecmp
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from package_copy import PACKAGE, Copy

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


def changed(copy: Copy) -> list[str]:
    ours = {path.relative_to(copy.folder) for path in (copy.folder / "mnist_ablate").rglob("*.py")}
    return [path.name for path in sorted(ours) if not filecmp.cmp(copy.folder / path, PACKAGE.parent / path, False)]


def judged(copy: Copy, images: Path, **texts: str) -> dict[str, object]:
    """Schema, plan, training and verdict of a sweep; its one claim."""
    text = SWEEP.format(**texts)
    (copy.folder / "x.yaml").write_text(text)
    jsonschema.validate(yaml.safe_load(text), json.loads(copy("schema")))
    assert "2 arms x 2 seeds" in copy("plan", "x.yaml", "--data", str(images))
    done = copy("sweep", "x.yaml", "--data", str(images), "--jobs", "1", "--json", code=7)  # no MLflow
    (claim,) = json.loads(done)["claims"]
    return claim


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_normalizer_is_a_function_and_a_line_in_one_file(copy: Copy, images: Path) -> None:
    function = '''
def bipolar(_train: Images) -> Transform:
    """x / 127.5 - 1: from -1 to 1."""
    return _affine(1 / 127.5, -1.0)
'''
    copy.add("choices/normalizers.py", function, "NORMALIZERS", '"bipolar": bipolar,')
    assert changed(copy) == ["normalizers.py"]
    assert "bipolar                x / 127.5 - 1: from -1 to 1" in copy("list", "choices")
    claim = judged(copy, images, normalizer="bipolar", metric="test_accuracy", direction="same")
    assert claim["n_pairs"] == 2
    assert claim["verdict"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_metric_is_a_function_and_a_line_in_one_file(copy: Copy, images: Path) -> None:
    function = '''
def lowest_val_loss(curve: Curve) -> float:
    """The smallest validation loss of any epoch."""
    return min(curve.losses)
'''
    line = '_loss("lowest_val_loss", "The smallest validation loss of any epoch."): lowest_val_loss,'
    copy.add("metrics.py", function, "CURVE_METRICS", line)
    assert changed(copy) == ["metrics.py"]
    claim = judged(copy, images, normalizer="raw", metric="lowest_val_loss", direction="higher")
    assert (claim["metric"], claim["n_pairs"]) == ("lowest_val_loss", 2)
    assert claim["verdict"]
    assert len(claim["differences"]) == 2
