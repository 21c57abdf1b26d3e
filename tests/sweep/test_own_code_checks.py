"""A sweep file that names the user's code: what is wrong is said with its place, before anything runs."""

from pathlib import Path

import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.sweep.sweep import Sweep

CODE = """
from typing import Literal
raise SystemExit("reading a sweep file imports nothing")
def train(seed: int, lr: float, act: Literal["relu", "tanh"] = "relu", layers: int = 2): ...
def later(seed, **settings): ...
async def waits(seed): ...
def yields(seed): yield 1
"""
FILE = """
question: Does a larger rate help?
train: job:train
scientific: {lr: [0.1, 0.2]}
metrics: {acc: {unit: share}, loss: {better: lower, low: 0}}
seeds: 6
claims:
  - {name: c, statement: It helps., treatment: {lr: 0.2}, control: {lr: 0.1}, direction: higher, margin: 0.01}
"""


def load(folder: Path, text: str = FILE, code: str = CODE) -> Sweep:
    (folder / "job.py").write_text(code)
    (folder / "own.yaml").write_text(text.lstrip())
    return sweep_file.load(str(folder / "own.yaml"))


def test_settings_come_from_the_signature_and_the_first_metric_is_the_claims(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert make_plan(found, "d").arms[0].settings == {"lr": 0.1, "act": "relu", "layers": 2}
    assert found.claims[0].metric == "acc"
    assert found.claims[0].about.is_share
    assert (found.metric("loss").better, found.metric("acc").high) == ("lower", 1.0)


def test_a_recorded_sweep_needs_no_code(tmp_path: Path) -> None:
    found = load(tmp_path)
    stored = Sweep.model_validate(found.model_dump(mode="json"))
    (tmp_path / "job.py").unlink()
    assert make_plan(stored, "d").verdict_trials() == make_plan(found, "d").verdict_trials()
    assert stored.digest == found.digest


def test_the_digest_is_that_of_the_question_and_its_file_can_be_written_again(tmp_path: Path) -> None:
    found = load(tmp_path)
    changed = load(tmp_path, code=CODE.replace("layers: int = 2", "layers: int = 3"))
    assert changed.digest == found.digest
    again = load(tmp_path, sweep_file.as_yaml(found))
    assert again.digest == found.digest


def test_every_setting_is_part_of_the_id_since_a_default_may_change(tmp_path: Path) -> None:
    before, after = (
        make_plan(load(tmp_path, code=code), "d").verdict_trials()[0].id
        for code in (CODE, CODE.replace("layers: int = 2", "layers: int = 3"))
    )
    assert before != after


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "job:train",
            "job:trian",
            "own.yaml:2:8: train: job.py: no function trian; did you mean 'train'? functions: train",
        ),
        (
            "job:train",
            "jobb:train",
            "own.yaml:2:8: train: no module jobb beside the sweep file, and none is installed; did you mean 'job'?",
        ),
        ("job:train", "job:waits", "own.yaml:2:8: train: job.py:6: waits is async"),
        ("job:train", "job:yields", "own.yaml:2:8: train: job.py:7: yields is a generator"),
        ("lr: [", "lrr: [", "own.yaml:3:14: scientific.lrr: unknown key; did you mean 'lr'?"),
        ("[0.1, 0.2]", "[0.1, fast]", "scientific.lr[1]: must be a number, not 'fast'"),
        ("scientific:", "fixed: {act: rellu}\nscientific:", "fixed.act: no such act: 'rellu'; did you mean 'relu'?"),
        ("{lr: [0.1, 0.2]}", "{act: [relu, tanh]}", "fixed: lacks lr, which the code needs: give it a value"),
        ("direction: higher", "metric: accc, direction: higher", "'accc' is not under metrics; did you mean 'acc'?"),
        ("metrics: {acc: {unit: share}, loss: {better: lower, low: 0}}\n", "", "metric: is missing; name a metric"),
        ("seeds: 6", "seeds: 6\nchoose_by: los", "choose_by: 'los' is not under metrics; did you mean 'loss'?"),
        (
            "seeds: 6",
            "seeds: 6\nnuisance: {layers: [1, 2]}\ntuning_trials: 2",
            "choose_by: is missing; name the metric",
        ),
        ("acc: {unit: share}", "acc@5: {unit: share}", "metrics.acc@5: 'acc@5': a metric is named by letters"),
        ("unit: share", "unit: points", "no such unit: 'points'"),
        (
            "unit: share",
            "unit: percent",
            "metrics.acc.unit: percent is for a table that is judged; code returns shares",
        ),
        ("unit: share", "untit: share", "unknown key; did you mean 'unit'?"),
        ("train: job:train\n", "", "metrics: is about your own code, which train: names; add that line"),
        ("seeds: 6", "seeds: 6\nsettings: {lr: {type: flaot}}", "no such type: 'flaot'; did you mean 'float'?"),
        ("seeds: 6", "seeds: 6\ntimeout_s: 0", "timeout_s: must be above 0, not 0"),
        ("seeds: 6", "seeds: 6\nfound_settings: {}", "found_settings: unknown key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(old: str, new: str, error: str, tmp_path: Path) -> None:
    assert old in FILE
    with pytest.raises(SweepError) as raised:
        load(tmp_path, FILE.replace(old, new, 1))
    assert error in str(raised.value)


def test_a_syntax_error_in_the_code_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"own\.yaml:2:8: train: job\.py:1: "):
        load(tmp_path, code="def train(seed:\n")


def test_a_program_takes_what_its_command_names(tmp_path: Path) -> None:
    text = FILE.replace("train: job:train", 'train: [./job, "{lr}", "{seed}"]')
    assert make_plan(load(tmp_path, text), "d").arms[1].settings == {"lr": 0.2}
    with pytest.raises(SweepError, match=r"fixed\.depth: unknown key"):
        load(tmp_path, text.replace("seeds: 6", "seeds: 6\nfixed: {depth: 3}"))


def test_the_code_of_a_table_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(FILE)
    assert sweep_file.load(str(tmp_path / "own.yaml"), any_factors=True).claims[0].about.is_share


def test_quick_keeps_the_code(tmp_path: Path) -> None:
    load(tmp_path)
    quick = sweep_file.load(str(tmp_path / "own.yaml"), quick=True)
    assert (quick.name, quick.min_seeds) == ("own-quick", 3)
    assert make_plan(quick, "d").arms[0].settings["layers"] == 2
