"""A setting that means nothing beside the others is refused with its place, before anything is planned."""

from pathlib import Path

import pytest
from sweep_texts import load, problems

MOMENTUM = "optimizer adam has none that can be set; take 0, or one of article_sgd, sgd, rmsprop"
SEARCH = """\
design: search
baseline: {optimizer: adam}
scientific: {optimizer: [adam, sgd]}
nuisance: {momentum: [0.0, 0.9]}
tuning_trials: 3
fixed: {learning_rate: 0.1}
"""


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("scientific: {momentum: [0.0, 0.9]}\n", f"3:14: scientific.momentum: {MOMENTUM}"),
        ("scientific: {optimizer: [adam, sgd]}\nfixed: {momentum: 0.9}\n", f"4:9: fixed.momentum: {MOMENTUM}"),
        ("scientific: {width: [1, 2]}\nnuisance: {momentum: {low: 0.0, high: 0.9}}\ntuning_trials: 2\n", MOMENTUM),
        (SEARCH, f"6:12: nuisance.momentum: {MOMENTUM}"),
        (
            "design: configurations\nconfigurations: {a: {model: mlp}, b: {model: cnn, depth: 3}}\n",
            "4:51: configurations.b.depth: model cnn has layers of its own; take 1, or model mlp",
        ),
        (
            (
                "scientific: {width: [1, 2]}\nacross: {model: [mlp, cnn], depth: [1, 2]}\ncrossed: true\nclaims:\n"
                "  - {name: a, statement: b, treatment: {width: 1}, control: {width: 2}, direction: same, margin: 1}\n"
            ),
            "4:29: across.depth: model cnn has layers of its own",
        ),
        (
            "scientific: {augmentation: [none, shift]}\nfixed: {model: vgg16}\n",
            "3:14: scientific.augmentation: the features of model vgg16 are computed once; take none, or another model",
        ),
    ],
)
def test_a_setting_without_a_meaning_is_one_line(tmp_path: Path, body: str, line: str) -> None:
    found = problems(tmp_path, f"question: q\nseeds: 3\n{body}")
    assert len(found) == 1
    assert line in found[0]


@pytest.mark.parametrize(
    "body",
    [
        f"{SEARCH}conditions: {{momentum: {{optimizer: [sgd]}}}}\n",
        "scientific: {optimizer: [sgd, article_sgd, rmsprop]}\nfixed: {momentum: 0.5}\n",
        "scientific: {depth: [1, 2, 3]}\n",
        "scientific: {label_noise: [0.0, 0.2], size_matched: [false, true]}\nfixed: {model: vgg16}\n",
    ],
)
def test_a_setting_with_a_meaning_loads(tmp_path: Path, body: str) -> None:
    assert load(tmp_path, f"question: q\nseeds: 3\n{body}")
