"""The selftest says right where the known answer came out, wrong where another did, and alters images as it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_ablate.cli import sweeps as command
from mnist_ablate.errors import AblateError
from mnist_ablate.execution import selftest
from mnist_ablate.execution.selftest import KNOWN, PLANTED, REDUCED, Answer
from mnist_ablate.sweep import sweep_file
from mnist_ablate.workloads.keras_mnist import data
from mnist_ablate.workloads.keras_mnist.altered_images import ALTERED_MNIST, Alteration, altered


def report(claims: list[dict[str, Any]], **check: Any) -> dict[str, Any]:
    """The parts of a report that the selftest reads."""
    verdicts = {f"effect-{round(effect)}": expected for effect, expected in PLANTED.items()}
    found = [{**claim, "verdict": verdicts.get(claim["name"], "supported"), "effect": -0.01} for claim in claims]
    quiet = {"margin": 0.02, "ci_low": -0.001, "ci_high": 0.001, "effect": 0.0, "alarm": False}
    return {"claims": found, "negative_control": {"checks": [{**quiet, **check}]}}


def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **check: Any) -> list[Answer]:
    def run(_folder: Path, _name: str, content: dict[str, Any], *_: object) -> dict[str, Any]:
        return report(content["claims"], **check)

    monkeypatch.setattr(selftest, "_run", run)
    return [*selftest.selftest(tmp_path, None, None, reduced=False)]


def test_all_known_answers_are_right_and_there_are_more_than_a_dozen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = answers(monkeypatch, tmp_path)
    assert len(found) == len(KNOWN) + len(PLANTED) + 1 == 14
    assert all(answer.is_right for answer in found)


@pytest.mark.parametrize(
    ("check", "found"),
    [({"alarm": True}, "alarm"), ({"ci_high": 0.03}, "inconclusive"), ({"ci_low": None}, "inconclusive")],
)
def test_equal_arms_that_seem_unequal_are_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, check: dict[str, Any], found: str
) -> None:
    wrong = [answer for answer in answers(monkeypatch, tmp_path, **check) if not answer.is_right]
    assert [answer.found for answer in wrong] == [found]


def test_the_command_fails_and_names_what_came_out_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [Answer("A.", "supported", "supported", -0.1), Answer("B.", "equivalent", "refuted", 0.2)]
    monkeypatch.setattr(selftest, "selftest", lambda *_args, **_options: iter(made))
    with pytest.raises(command.typer.Exit) as ended:
        command.selftest()
    assert ended.value.exit_code == 1
    said = ["right  supported: A.", "WRONG  refuted, expected equivalent: B.", "2 known answers: 1 came out wrong"]
    assert capsys.readouterr().out.splitlines() == said
    with pytest.raises(command.typer.Exit):
        command.selftest(as_json=True)
    assert [each["is_right"] for each in json.loads(capsys.readouterr().out)] == [True, False]


def test_a_sweep_that_does_not_run_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(selftest.sys, "executable", "/bin/false")
    with pytest.raises(AblateError, match=r"^selftest: the sweep planted ended with exit code 1; see the lines above$"):
        next(selftest.selftest(tmp_path, None, None, reduced=True))


@pytest.mark.parametrize("names", [tuple(KNOWN), REDUCED])
def test_its_sweeps_are_good_sweep_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    from mnist_ablate.workloads import workload

    (tmp_path / "altered.yaml").write_text(json.dumps(selftest.altered_sweep(names)))
    monkeypatch.setenv("MNIST_ABLATE_WORKLOAD", f"{ALTERED_MNIST.__module__}:ALTERED_MNIST")
    workload.default_workload.cache_clear()
    try:
        sweep = sweep_file.load(str(tmp_path / "altered.yaml"))
        assert sweep.workload.name == "altered-mnist"
    finally:
        monkeypatch.undo()
        workload.default_workload.cache_clear()
    assert [claim.name for claim in sweep.claims] == list(names)


def test_images_are_altered_as_is_said() -> None:
    usual = data.load()
    wrong = altered(usual, Alteration(wrong_labels=0.2, share=0.5))
    assert len(wrong.x_train) == len(wrong.y_train) == len(usual.x_train) // 2
    share = (wrong.y_train != usual.y_train[: len(wrong.y_train)]).mean()
    assert share == pytest.approx(0.2 * 0.9, abs=0.01), "a tenth of random labels is right"
    assert np.array_equal(wrong.y_test, usual.y_test)
    other = altered(usual, Alteration(permuted=True))
    for name in ("x_train", "x_test"):
        before, after = getattr(usual, name)[:50].reshape(50, -1), getattr(other, name)[:50].reshape(50, -1)
        assert not np.array_equal(before, after)
        assert np.array_equal(np.sort(before), np.sort(after))
    first, second = (altered(usual, Alteration(test_seed=seed)) for seed in (1, 2))
    assert len(first.x_test) == len(usual.x_test) // 2
    assert not np.array_equal(first.y_test, second.y_test)
