"""Tables as people have them: each has its right verdict or its exact message, and none gives a wrong verdict."""

import gzip
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mnist_ablate.errors import SweepError
from mnist_ablate.ledger import table_file
from mnist_ablate.ledger.results_table import metrics_of, read
from mnist_ablate.reports import judging, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.sweep.sweep import Sweep

SEEDS = 8
ACCURACIES = {
    "relu": (0.9701, 0.9712, 0.9705, 0.9698, 0.9709, 0.9703, 0.9700, 0.9711),
    "tanh": (0.9604, 0.9611, 0.9607, 0.9599, 0.9610, 0.9602, 0.9605, 0.9613),
}
"""Tanh is about one point worse: the claim is supported at a margin of 0.2 points."""
CLOSE = {"relu": ACCURACIES["relu"], "tanh": (0.9699, 0.9708, 0.9702, 0.9695, 0.9707, 0.9699, 0.9697, 0.9709)}
"""0.03 points apart: equivalent."""
CLAIM = {
    "name": "hurts", "statement": "Tanh hurts.", "treatment": {"activation": "tanh"},
    "control": {"activation": "relu"}, "direction": "lower", "margin": 0.002,
}  # fmt: skip
Cells = Callable[[str, int, float], str]


def sweep(**changes: Any) -> Sweep:
    claims = [{**CLAIM, "metric": changes.pop("metric", "test_accuracy")}]
    content = {"name": "x", "question": "?", "scientific": {"activation": ["relu", "tanh"]}, "seeds": SEEDS}
    return Sweep.model_validate({**content, "claims": claims, **changes})


def results(values: dict[str, Sequence[float]] = ACCURACIES) -> Iterator[tuple[str, int, float]]:
    for seed in range(SEEDS):
        yield from ((arm, seed, values[arm][seed]) for arm in ("relu", "tanh"))


def lines(head: str, cells: Cells, values: dict[str, Sequence[float]] = ACCURACIES) -> str:
    return "\n".join([head, *(cells(*each) for each in results(values))]) + "\n"


def plain(arm: str, seed: int, value: float) -> str:
    return f"{arm},{seed},{value:.4f}"


HEAD = "activation,seed,test_accuracy"
GOOD = lines(HEAD, plain)
FIRST, *REST = GOOD.splitlines()


def with_row(number: int, row: str, text: str = GOOD) -> str:
    """The table with another row in one place; row 1 is the header."""
    found = text.splitlines()
    return "\n".join([*found[: number - 1], row, *found[number:]]) + "\n"


def added(head: str, cell: Callable[[str, int], object], values: dict[str, Sequence[float]] = ACCURACIES) -> str:
    """The table with one more column."""
    return lines(f"{HEAD},{head}", lambda arm, seed, value: f"{plain(arm, seed, value)},{cell(arm, seed)}", values)


def frame() -> pd.DataFrame:
    return pd.DataFrame([*results()], columns=["activation", "seed", "test_accuracy"])


def parquet() -> bytes:
    content = io.BytesIO()
    frame().to_parquet(content)
    return content.getvalue()


def only(arm: str, seeds: int, text: object, other: object) -> Callable[[str, int], object]:
    """A cell for one arm's first seeds, and another for all others."""
    return lambda a, s: text if a == arm and s < seeds else other


SUPPORTED = {
    # what is written otherwise than we would
    "plain": GOOD,
    "BOM and Windows lines": b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(),
    "UTF-16, as Excel's Unicode text": GOOD.replace(",", "\t").encode("utf-16"),
    "Latin-1 in a note": added("note", lambda *_: "caf\xe9").encode("latin-1"),
    "percent signs": lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}%"),
    "percent signs with a space": lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f} %"),
    "semicolons, decimal commas": lines(HEAD.replace(",", ";"), lambda a, s, v: f"{a};{s};{v:.4f}".replace(".", ",")),
    "semicolons, decimal points": GOOD.replace(",", ";"),
    "semicolons, percent with decimal commas": lines(
        HEAD.replace(",", ";"), lambda a, s, v: f"{a};{s};{100 * v:.2f} %".replace(".", ",")
    ),
    "quoted decimal commas between commas": lines(HEAD, lambda a, s, v: f'{a},{s},"{f"{v:.4f}".replace(".", ",")}"'),
    "tabs": GOOD.replace(",", "\t"),
    "bars": GOOD.replace(",", "|"),
    "spaces": GOOD.replace(",", "  "),
    "Excel's sep line": "sep=;\n" + GOOD.replace(",", ";"),
    "a comment above the header": "# exported 2026-11-01\n\n" + GOOD,
    "blank lines": GOOD.replace("\ntanh", "\n\ntanh"),
    "an index column": lines(f",{HEAD}", lambda a, s, v: f"{s},{plain(a, s, v)}"),
    "all quoted": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
    "a note with a line break": added("note", lambda *_: '"two\nlines"'),
    "exponents": lines(HEAD, lambda a, s, v: f"{a},{s},{v * 100:.6f}e-2"),
    "seeds as floats": lines(HEAD, lambda a, s, v: f"{a},{s}.0,{v}"),
    "seeds like run-3": lines(HEAD, lambda a, s, v: f"{a},run-{s},{v}"),
    "seeds with names": lines(HEAD, lambda a, s, v: f"{a},{'abcdefgh'[s] * 3},{v}"),
    "arms with capitals": GOOD.replace("tanh", "Tanh").replace("relu", "ReLU"),
    "heads with capitals and spaces": GOOD.replace(HEAD, "Activation, Seed ,Test Accuracy"),
    "random_state for seed": GOOD.replace("seed", "random_state"),
    # wide
    "a column for each arm": "seed,relu,tanh\n"
    + "".join(f"{s},{ACCURACIES['relu'][s]},{ACCURACIES['tanh'][s]}\n" for s in range(SEEDS)),
    "a column for each arm, with the metric": "seed,test_accuracy_relu,test_accuracy_tanh\n"
    + "".join(f"{s},{ACCURACIES['relu'][s]},{ACCURACIES['tanh'][s]}\n" for s in range(SEEDS)),
    "a column for each seed": "activation,seed0,seed1,seed2,seed3,seed4,seed5,seed6,seed7\n"
    + "".join(f"{arm},{','.join(map(str, ACCURACIES[arm]))}\n" for arm in ACCURACIES),
    # other forms
    "gzip": gzip.compress(GOOD.encode()),
    "JSON lines": "\n".join(json.dumps(row) for row in frame().to_dict("records")),
    "a JSON list": json.dumps(frame().to_dict("records")),
    "nested JSON lines": "\n".join(
        json.dumps({"config": {"activation": a, "seed": s}, "test_accuracy": v}) for a, s, v in results()
    ),
    "Parquet": parquet(),
    # other programs
    "Optuna's names": lines(
        "number,value,params_activation,params_seed,state", lambda a, s, v: f"{s},{v},{a},{s},COMPLETE"
    ),
    "Optuna's names of metrics": lines(
        "number,values_test_accuracy,params_activation,user_attrs_seed,state", lambda a, s, v: f"{s},{v},{a},{s},COMPLETE"
    ),
    "MLflow's names": lines(
        "run_id,status,metrics.test_accuracy,params.activation,params.seed,tags.mlflow.user",
        lambda a, s, v: f"{a}{s}f00,FINISHED,{v},{a},{s},ann",
    ),
    "W&B's table": lines("Name,State,activation,seed,test_accuracy", lambda a, s, v: f"run-{a}-{s},finished,{a},{s},{v}"),
    "W&B's mappings": lines(
        "name;config;summary",
        lambda a, s, v: f"r{s};{{'activation': '{a}', 'seed': {s}}};{{'test_accuracy': {v}, '_step': 5}}",
    ),
    "Ray Tune's names": lines(
        "trial_id,training_iteration,config/activation,config/seed,test_accuracy",
        lambda a, s, v: f"{a}{s},3,{a},{s},{v}",
    ),
    "Ray Tune's reports": lines(
        "trial_id,training_iteration,config/activation,config/seed,test_accuracy",
        lambda a, s, v: f"{a}{s},1,{a},{s},0.5\n{a}{s},2,{a},{s},{v}",
    ),
    "KerasTuner's state": "\n".join(
        json.dumps({
            "trial_id": f"{a}{s}", "status": "COMPLETED", "score": v, "best_step": 0,
            "hyperparameters": {"space": [], "values": {"activation": a, "seed": s}},
            "metrics": {"metrics": {"test_accuracy": {"direction": "max", "observations": [{"value": [v], "step": 0}]}}},
        }) for a, s, v in results()
    ),
    # rows that do not count
    "a failed run": with_row(2, "relu,0,,FAILED", added("status", lambda *_: "FINISHED")),
    "a failed run with a number": with_row(2, "relu,0,0.1,FAILED", added("status", lambda *_: "FINISHED")),
    "a run still going": with_row(2, "relu,0,0.5,running", added("state", lambda *_: "finished")),
    "a pruned trial": with_row(2, "relu,0,0.5,PRUNED", added("state", lambda *_: "COMPLETE")),
    "a killed run": with_row(2, "relu,0,0.5,killed", added("status", lambda *_: "success")),
    "a retried run": added("status", lambda *_: "FINISHED") + "tanh,3,0.2,FAILED\n",
    "a parent run": added("status", lambda *_: "FINISHED") + ",,,FINISHED\n",
    "a NaN": with_row(2, "relu,0,NaN"),
    "an empty result": with_row(2, "relu,0,"),
    # columns that say nothing against it
    "what every run has alike": added("batch_size", lambda *_: 128),
    "a setting that goes with the seed": added("fold", lambda _, s: s % 3),
    "a column with a name for each run": added("run_name", lambda a, s: f"{a}-{s}"),
    "another result": added("test_loss", lambda a, s: 0.1 if a == "relu" else 0.2),
    "other seeds in each arm": lines(HEAD, lambda a, s, v: f"{a},{s + 100 * (a == 'tanh')},{v}"),
    "no seeds": lines("activation,test_accuracy", lambda a, _, v: f"{a},{v}"),
}  # fmt: skip
"""Tables of which every right reading supports the claim."""


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_table_of_any_usual_form_gives_the_verdict_of_the_plain_one(tmp_path: Path, name: str) -> None:
    report = judged(tmp_path, SUPPORTED[name])
    assert report.claims[0].verdict == "supported", report.claims[0].reason
    plain_one = judged(tmp_path, GOOD)
    whole = report.claims[0].n_pairs == SEEDS
    assert report.claims[0].effect == pytest.approx(plain_one.claims[0].effect, abs=1e-9 if whole else 3e-4)


def judged(folder: Path, content: str | bytes, question: Sweep | None = None, accepted: Sequence[str] = ()) -> Report:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    question = question or sweep()
    return judging.of_table(question, read(path, question.factors, metrics_of(question)), accepted)


BAD = 0.2
OTHER = {
    "close, with percent signs": (lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}%", CLOSE), "equivalent", {}),
    "close, with decimal commas": (
        lines(HEAD.replace(",", ";"), lambda a, s, v: f"{a};{s};{v:.4f}".replace(".", ","), CLOSE),
        "equivalent",
        {},
    ),
    "close, and a failed run that says otherwise": (
        with_row(3, f"tanh,0,{BAD},FAILED", added("status", lambda *_: "FINISHED", CLOSE)),
        "equivalent",
        {},
    ),
    "close, and pruned trials": (
        added("state", lambda *_: "COMPLETE", CLOSE) + f"tanh,8,{BAD},PRUNED\nrelu,8,0.97,COMPLETE\n",
        "equivalent",
        {},
    ),
    "close, and a run that goes on": (
        added("status", lambda *_: "finished", CLOSE) + f"tanh,8,{BAD},running\nrelu,8,0.97,finished\n",
        "equivalent",
        {},
    ),
    "close, and a retried run": (
        with_row(3, f"tanh,0,{BAD},crashed", added("State", lambda *_: "finished", CLOSE)) + "tanh,0,0.9698,finished\n",
        "equivalent",
        {},
    ),
    "close, in reports of Ray Tune": (
        lines(
            "trial_id,training_iteration,config/activation,config/seed,test_accuracy",
            lambda a, s, v: f"{a}{s},2,{a},{s},{v}\n{a}{s},1,{a},{s},{BAD if a == 'tanh' else 0.5}",
            CLOSE,
        ),
        "equivalent",
        {},
    ),
    "close, without common seeds": (
        lines(HEAD, lambda a, s, v: f"{a},{s + 100 * (a == 'tanh')},{v}", CLOSE),
        "equivalent",
        {},
    ),
    "close, without seeds": (lines("activation,test_accuracy", lambda a, _, v: f"{a},{v}", CLOSE), "equivalent", {}),
    "percent, as the sweep file says": (
        lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}", CLOSE),
        "equivalent",
        {"metrics": {"test_accuracy": {"unit": "percent"}}},
    ),
    "percent with and without a sign, as the sweep file says": (
        with_row(2, "relu,0,97.01%", lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}", CLOSE)),
        "equivalent",
        {"metrics": {"test_accuracy": {"unit": "percent"}}},
    ),
    "a loss, which has no upper bound": (
        lines("activation,seed,test_loss", lambda a, s, v: f"{a},{s},{100 * v}"),
        "supported",
        {"metric": "test_loss"},
    ),
    "a score that nobody knows": (
        lines("activation,seed,score", lambda a, s, v: f"{a},{s},{100 * v}"),
        "supported",
        {"metric": "score"},
    ),
    "1,234.5 with grouped thousands": (
        lines("activation,seed,score", lambda a, s, v: f'{a},{s},"{10_000 * v:,.1f}"'),
        "supported",
        {"metric": "score"},
    ),
    "1.234,5 with grouped thousands": (
        lines("activation;seed;score", lambda a, s, v: f"{a};{s};" + f"{10_000 * v:,.1f}".translate({44: 46, 46: 44})),
        "supported",
        {"metric": "score"},
    ),
    "an arm that nobody has": (GOOD.replace("tanh", "tahn"), "inconclusive", {}),
    "one result of each arm": ("activation,seed,test_accuracy\nrelu,0,0.97\ntanh,0,0.96\n", "inconclusive", {}),
    "two results of each arm, without seeds": (
        "activation,test_accuracy\nrelu,0.97\nrelu,0.971\ntanh,0.96\ntanh,0.961\n",
        "inconclusive",
        {},
    ),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_table_gives_its_right_verdict(tmp_path: Path, name: str) -> None:
    content, verdict, changes = OTHER[name]
    found = judged(tmp_path, content, sweep(**changes)).claims[0]
    assert found.verdict == verdict, found.reason


REFUSED = {
    "percent without a sign": (
        lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}"),
        "row 2, column test_accuracy: 97.01: an accuracy is a share, 0 to 1; for percent write `unit: percent` or `97.01%`",
    ),
    "percent in some rows": (
        lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v if a == 'tanh' else v:.4f}"),
        "row 3, column test_accuracy: 96.04: an accuracy is a share, 0 to 1, and row 2 has 0.9701:"
        " shares and percent are mixed; write all as shares",
    ),
    "a sign in some rows": (
        with_row(4, "relu,1,97.12%"),
        "row 2, column test_accuracy: '0.9701', and row 4 has '97.12%': write all with a percent sign, or none",
    ),
    "more than all": (with_row(2, "relu,0,197.0"), "row 2, column test_accuracy: 197: an accuracy is a share, 0 to 1"),
    "101%": (
        lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v + 4:.2f}%"),
        "row 2, column test_accuracy: 101.01%: test_accuracy is at most 100%, and at least 0%",
    ),
    "a negative accuracy": (with_row(2, "relu,0,-0.1"), "row 2, column test_accuracy: -0.1: an accuracy is a share, 0 to 1"),
    "1,234": (
        with_row(2, 'relu,0,"1,234"', lines("activation,seed,score", plain)).replace("score", "test_accuracy", 1),
        "row 2, column test_accuracy: '1,234' may be 1.234 or 1234: write it without the comma, or with a point",
    ),
    "two decimal signs": (
        with_row(4, 'relu,1,"0,9712"'),
        "row 4, column test_accuracy: '0,9712', and row 2 has '0.9701': use one decimal sign",
    ),
    "unquoted decimal commas between commas": (
        GOOD.replace("0.", "0,"),
        "row 2, column 4: the row has 4 cells, the header 3; a decimal comma needs quotes, or another separator",
    ),
    "a unit": (with_row(2, "relu,0,0.97 acc"), "row 2, column test_accuracy: '0.97 acc' is not a finite number"),
    "a date": (
        with_row(2, "relu,0,01.02.2026"),
        "row 2, column test_accuracy: '01.02.2026' is a date, not a number: format the column as numbers",
    ),
    "a formula": (
        with_row(2, "relu,0,=B2*2"),
        "row 2, column test_accuracy: '=B2*2' is a formula, not a number: paste its value",
    ),
    "an infinite result": (with_row(2, "relu,0,inf"), "row 2, column test_accuracy: 'inf' is not a finite number"),
    "an unknown state": (
        with_row(2, "relu,0,0.97,maybe", added("status", lambda *_: "FINISHED")),
        "row 2, column status: 'maybe' is not an outcome; allowed: complete, completed",
    ),
    "an empty state": (
        with_row(2, "relu,0,0.97,", added("status", lambda *_: "FINISHED")),
        "row 2, column status: empty; or name another column: --map outcome=COLUMN",
    ),
    "a diverged trial without a number": (
        with_row(2, "relu,0,nan,diverged", added("outcome", lambda *_: "complete")),
        "row 2, column test_accuracy: 'nan' is not a finite number; a diverged trial counts with the number it reached",
    ),
    "a result twice": (
        GOOD + "relu,0,0.9702\n",
        "row 18, column seed: activation=relu with seed 0 is in row 2 already: keep one",
    ),
    "a second factor": (
        lines(
            "params.activation,params.optimizer,params.seed,metrics.test_accuracy",
            lambda a, s, v: f"{a},adam,{s},{v}\n{a},sgd,{s},{v}",
        ),
        "row 3, column seed: activation=relu with seed 0 is in row 2 already: keep one;"
        " they differ in params.optimizer (adam, sgd): is it a factor?",
    ),
    "no metric": (
        GOOD.replace("test_accuracy", "test_acc"),
        "row 1, column test_accuracy: missing; did you mean 'test_acc'? the header has: activation, seed, test_acc;"
        " or say which: --map test_accuracy=test_acc",
    ),
    "a factor of another name": (
        lines("params.act,seed,test_accuracy", plain),
        "row 1, column activation: missing; did you mean 'params.act'? the header has: params.act, seed, test_accuracy;"
        " or say which: --map activation=params.act",
    ),
    "a seed that is misspelled": (
        GOOD.replace("seed", "sede"),
        "row 1, column seed: missing; did you mean 'sede'? name it: --map seed=COLUMN",
    ),
    "two columns of a name": (
        lines("params.activation,tags.activation,config.activation,seed,test_accuracy", lambda a, s, v: f"{a},x,{a},{s},{v}"),
        "row 1, column activation: may be params.activation, config.activation: say which: --map activation=params.activation",
    ),
    "one name twice": (lines("activation,seed,seed,test_accuracy", lambda a, s, v: f"{a},{s},{s},{v}"),
        "row 1, column seed: appears twice in the header"),
    "an arm without a name": (with_row(2, ",0,0.97"), "row 2, column activation: empty"),
    "a seed without a name": (with_row(2, "relu,,0.97"), "row 2, column seed: empty"),
    "a short row": (with_row(2, "relu,0"), "row 2, column test_accuracy: the row has 2 cells, the header 3"),
    "one column": ("activation\nrelu\ntanh\n", "row 1: one column, 'activation': separate the columns by commas"),
    "an open quotation mark": (GOOD + 'relu,"7,0.9\n', "row 18: not a CSV file: unexpected end of data"),
    "nothing": ("", "the file is empty"),
    "comments only": ("# a\n", "nothing but comments"),
    "a header only": (HEAD, "no row below the header"),
    "failed runs only": (
        lines(f"{HEAD},status", lambda a, s, _: f"{a},{s},,RUNNING"),
        "no row can be judged: left out: activation=relu: 8 unfinished; activation=tanh: 8 unfinished",
    ),
    "binary": (b"\x7fELF\0\0\1" * 50, "line 1 has characters of a binary file"),
    "an old Excel file": (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "an old Excel file: save it as .xlsx or CSV"),
    "damaged gzip": (gzip.compress(GOOD.encode())[:-20], "the file is damaged: "),
    "a JSON line that is cut": ('{"a": 1}\n{"a": ', "row 2: not JSON: "),
    "a JSON list of numbers": ("[1, 2]", "row 1: 1 is not an object with a value for each column"),
    "a line of megabytes": (HEAD + "\n" + "x" * 3_000_000, "a line is longer than 1,048,576 bytes: not a table"),
    "a bomb": (gzip.compress(b"\0" * 50_000_000), "a line is longer than 1,048,576 bytes: not a table"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_for_certain_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(SweepError) as caught:
        judged(tmp_path, content)
    assert str(caught.value).startswith(f"t.csv: {message}")
    assert "\n" not in str(caught.value)


CONFOUNDED = {
    "a fixed setting": (added("batch_size", only("tanh", SEEDS, 64, 128)), "batch_size (64 against 128)"),
    "a fixed setting, in part": (added("batch_size", only("tanh", 2, 64, 128)), "batch_size (128 and 64 against 128)"),
    "a commit": (added("git_commit", only("tanh", SEEDS, "b2c4", "a1f0")), "git_commit (b2c4 against a1f0)"),
    "a commit, in part": (
        added("git_commit", only("tanh", 1, "b2c4", "a1f0")),
        "git_commit (a1f0 and b2c4 against a1f0)",
    ),
    "data": (added("data_digest", only("relu", SEEDS, "77aa", "90bc")), "data_digest (90bc against 77aa)"),
    "any column": (added("host", only("relu", SEEDS, "big", "small")), "host (small against big)"),
    "MLflow's commit": (
        lines(
            "params.activation,params.seed,metrics.test_accuracy,tags.mlflow.source.git.commit",
            lambda a, s, v: f"{a},{s},{v},{'a1' if a == 'relu' else 'b2'}",
        ),
        "tags.mlflow.source.git.commit (b2 against a1)",
    ),
    "a rate that Optuna chose": (
        lines(
            "number,value,params_activation,params_lr,state",
            lambda a, s, v: f"{s},{v},{a},{0.001 * (s + 1) + 0.0005 * (a == 'tanh')},COMPLETE",
        ),
        "params_lr (0.0015 and 0.0025 and 0.0035 and 5 others against 0.001 and 0.002 and 0.003 and 5 others)",
    ),
}


@pytest.mark.parametrize("name", CONFOUNDED)
def test_what_separates_the_arms_besides_the_claim_takes_the_verdict(tmp_path: Path, name: str) -> None:
    content, told = CONFOUNDED[name]
    question = sweep(fixed={"batch_size": 128})
    report = judged(tmp_path, content, question)
    (claim,) = report.claims
    column = told.partition(" (")[0]
    assert (claim.verdict, claim.is_judged) == ("inconclusive", False)
    assert claim.reason == f"confounded by {told}; if that cannot matter: --accept-confounded {column}"
    accepted = judged(tmp_path, content, question, [column])
    assert accepted.claims[0].verdict == "supported"
    assert f"confounded by {told}, which was accepted" in [*wording.caveats(accepted.claims[0], accepted)]


def caveats(folder: Path, content: str, **changes: Any) -> list[str]:
    report = judged(folder, content, sweep(**changes))
    assert report.claims[0].is_judged
    return [*report.audits[0].caveats]


def test_what_looks_odd_is_a_caveat_and_what_is_usual_is_none(tmp_path: Path) -> None:
    assert caveats(tmp_path, GOOD) == []
    assert caveats(tmp_path, GOOD.replace("test_accuracy", "best_val_accuracy"), metric="best_val_accuracy") == [
        "best_val_accuracy looks like the best of many epochs, which is lucky as well as good: was it chosen on the test set?"
    ]
    assert caveats(tmp_path, with_row(17, "")) == [
        "unequal numbers of seeds: activation=tanh has 7, activation=relu has 8",
        "only activation=tanh lacks seed 7",
    ]
    assert caveats(tmp_path, added("batch_size", lambda *_: 64), fixed={"batch_size": 128}) == [
        "batch_size is 64 in the table, and 128 in the sweep file"
    ]
    dates = added("start_time", lambda a, s: f"2026-{'03' if a == 'relu' else '09'}-1{s} 10:00:00")
    assert caveats(tmp_path, dates) == ["the arms were run 184 days apart (start_time)"]
    assert caveats(tmp_path, added("epochs_run", only("tanh", SEEDS, 7, 20))) == [
        "one arm was stopped early: epochs_run reaches 7 against 20"
    ]
    same = {"relu": ACCURACIES["relu"], "tanh": ACCURACIES["relu"]}
    assert caveats(tmp_path, lines(HEAD, plain, same)) == [
        "activation=tanh and activation=relu have the same results: is one a copy?"
    ]
    stuck = {"relu": ACCURACIES["relu"], "tanh": [0.1] * SEEDS}
    assert caveats(tmp_path, lines(HEAD, plain, stuck)) == [
        "all 8 results of activation=tanh are equal: do its seeds have an effect?"
    ]
    twice = {"relu": ACCURACIES["relu"], "tanh": [0.96, 0.96, 0.96, 0.96, 0.961, 0.961, 0.961, 0.961]}
    assert caveats(tmp_path, lines(HEAD, plain, twice)) == [
        "activation=tanh has equal results for different seeds: 2 values in 8"
    ]
    few = GOOD.splitlines()[:1] + [line.replace("tanh,", "tanh,1") for line in GOOD.splitlines()[1:] if line < "tanh,3"]
    assert [*caveats(tmp_path, "\n".join(few))][-1] == (
        "without pairs, and with such uneven numbers or spreads, skewed results are judged wrong more often than 5%"
    )


def test_rows_that_do_not_count_are_counted_by_arm_and_reason(tmp_path: Path) -> None:
    text = (
        added("status", lambda *_: "FINISHED") + "relu,8,,RUNNING\ntanh,8,0.9,KILLED\ntanh,3,0.2,FAILED\n,,,FINISHED\n"
    )
    reading = judged(tmp_path, text).table
    assert reading.left_out == {
        "activation=relu": {"unfinished": 1},
        "activation=tanh": {"failed, tried again": 1, "killed": 1},
        "no arm": {"without settings": 1},
    }
    assert [*reading.lines()] == [
        "left out: no arm: 1 without settings; activation=relu: 1 unfinished;"
        " activation=tanh: 1 failed, tried again, 1 killed"
    ]


def test_how_a_table_was_read_is_one_line(tmp_path: Path) -> None:
    text = lines(
        "params_activation;params_seed;value;number;state", lambda a, s, v: f"{a};{s};{v};0;COMPLETE".replace(".", ",")
    )
    reading = judged(tmp_path, text.encode("latin-1")).table
    assert [*reading.lines()] == ["read as: `;`, decimal comma, UTF-8, Optuna's columns, value is test_accuracy"]
    assert [*judged(tmp_path, GOOD).table.lines()] == []
    assert [*judged(tmp_path, SUPPORTED["arms with capitals"]).table.lines()] == [
        "activation: 'ReLU' is taken for 'relu'",
        "activation: 'Tanh' is taken for 'tanh'",
    ]


def test_an_arm_that_is_misspelled_gets_a_suggestion(tmp_path: Path) -> None:
    found = judged(tmp_path, GOOD.replace("tanh", "tahn")).claims[0]
    assert found.reason == "not judged: no result has activation=tanh; did you mean 'tahn'?"


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(lines("act,rs,score_1", plain))
    named = {"activation": "act", "seed": "rs", "test_accuracy": "score_1"}
    found = read(path, {"activation": ["relu", "tanh"]}, metrics_of(sweep()), named)
    assert (len(found.rows), found.rows[1].params, found.rows[1].seed) == (16, {"activation": "tanh"}, 0)
    for wrong, message in (
        ({"activaton": "act"}, "--map activaton=…: the sweep has no activaton; did you mean 'activation'?"),
        ({"activation": "atc"}, "--map activation=atc: no such column; did you mean 'act'?"),
    ):
        with pytest.raises(SweepError) as caught:
            read(path, {"activation": []}, metrics_of(sweep()), wrong)
        assert str(caught.value).startswith(f"t.csv: {message}")


def test_a_column_that_is_not_there_cannot_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"--accept-confounded bach_size: no such column; did you mean 'batch_size'\?"):
        judged(tmp_path, added("batch_size", lambda *_: 1), accepted=["bach_size"])


def test_shares_in_a_column_that_is_said_to_be_in_percent_are_refused(tmp_path: Path) -> None:
    question = sweep(metrics={"test_accuracy": {"unit": "percent"}})
    for row, message in (
        ("relu,0,0.97", "0.97, and row 3 has 96.04: is it a share? if it is percent write `0.97%`"),
        ("relu,0,197", "197: test_accuracy is at most 100%, and at least 0%"),
    ):
        text = with_row(2, row, lines(HEAD, lambda a, s, v: f"{a},{s},{100 * v:.2f}"))
        with pytest.raises(SweepError) as caught:
            judged(tmp_path, text, question)
        assert str(caught.value) == f"t.csv: row 2, column test_accuracy: {message}"


def workbook(names: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return content.getvalue()


def test_an_excel_file_needs_its_reader_and_other_archives_are_unpacked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    for content, message in (
        (workbook({"xl/workbook.xml": b"<x/>"}), "an Excel file is read by openpyxl: pip install openpyxl; or save it"),
        (workbook({"t.csv": GOOD.encode()}), "a zip archive: unpack it, and give the table in it"),
    ):
        with pytest.raises(SweepError) as caught:
            judged(tmp_path, content)
        assert str(caught.value).startswith(f"t.csv: {message}")


def test_what_unpacks_to_more_than_a_table_has_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "MAX_BYTES", 3 << 20)
    rows = GOOD + "relu,1,0.9\n" * 500_000
    for content in (gzip.compress(rows.encode()), workbook({"xl/workbook.xml": b"0" * (4 << 20)}), rows):
        with pytest.raises(SweepError, match=r"^t.csv: more than 3 MB when unpacked: keep only the columns that are"):
            judged(tmp_path, content)


def test_an_excel_file_is_read(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([])
    sheet.append(["Activation", "Seed", "Test accuracy"])
    for row in results(CLOSE):
        sheet.append(row)
        sheet.cell(sheet.max_row, 3).number_format = "0.00%"
    content = io.BytesIO()
    book.save(content)
    report = judged(tmp_path, content.getvalue())
    assert report.claims[0].verdict == "equivalent"
    assert report.table is not None
    assert report.table.read_as == "Excel, sheet 'Sheet'"
    sheet.cell(5, 3).value = "=C4*2"
    content = io.BytesIO()
    book.save(content)
    assert judged(tmp_path, content.getvalue()).table.left_out == {"activation=relu": {"without test_accuracy": 1}}


PIECES = [
    *(b"nan", b"", b"\xff", b"\0", b",", b";", b'"', b"{", b"}", b"[1", b"\n", b"1e999", b"-", b"%", b"'", b"x" * 300),
    *(b"\xe2\x80\xa8", b"\x1b[2J", b"\r", b"run-", b"0,9", b"1.2.3", b"FAILED", b"\xff\xfe", b"PAR1", b"=1+2"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPPORTED)
def test_a_damaged_table_is_judged_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    whole, random_ = SUPPORTED[name], random.Random(name)
    whole = whole if isinstance(whole, bytes) else whole.encode()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(random_.choice([1, 1, 2, 5])):
            start = random_.randrange(len(damaged) + 1)
            damaged[start : start + random_.choice([0, 0, 1, 3, 20])] = random_.choice(PIECES)
        try:
            report = judged(tmp_path, bytes(damaged))
        except SweepError as error:
            assert str(error).isprintable()  # noqa: PT017 - verdicts are as good
        else:
            assert all(line.isprintable() for line in report.table.lines())
            json.loads(report.model_dump_json())
