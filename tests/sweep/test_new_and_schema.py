"""A new sweep file is valid and explains every key; the schema agrees with the loader; the shell completes."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from command import PROGRAM, base_environment
from sweep_texts import EXAMPLE, ONE_FACTOR, SMALL

from mnist_ablate.cli import options
from mnist_ablate.cli import sweeps as new
from mnist_ablate.errors import SweepError
from mnist_ablate.statistics.verdict import judge
from mnist_ablate.sweep import json_schema, sweep_file
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import SECTIONS, Range, SeedRange
from mnist_ablate.trial import Row
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.keras_mnist.workload import KERAS_MNIST

SHIPPED = Path(__file__).parents[2] / "sweeps"
CHECK = jsonschema.Draft7Validator(json_schema.schema())


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    new.new("mine")
    return tmp_path / "mine.yaml"


def parsed(text: str) -> Any:
    """As YAML 1.2 reads it, where 1e-4 is a number."""
    return json.loads(json.dumps(yaml.safe_load(text.replace("1e-", "1.0e-"))))


def test_a_new_file_is_a_sweep_that_loads_and_validates(file: Path) -> None:
    assert sweep_file.load(str(file)).name == "mine"
    CHECK.validate(parsed(file.read_text()))


def test_its_comments_uncommented_load_too(file: Path) -> None:
    text = file.read_text().replace("# nuisance:\n#   learning", "nuisance:\n  learning")
    text = text.replace("# tuning_", "tuning_").replace("  learning_rate: 0.001        # 0 stands", "  # 0 stands")
    file.write_text(text)
    assert sweep_file.load(str(file)).tuning_trials == 12


def test_it_tells_every_key(file: Path) -> None:
    text = file.read_text()
    keys = [*SECTIONS, *(key for model in (Claim, Range, SeedRange, Recipe) for key in model.model_fields)]
    assert [key for key in keys if key not in text] == []


def test_the_schema_tells_what_every_key_means() -> None:
    made = json_schema.schema()
    properties = [
        made,
        *(made["definitions"][name] for name in ("Claim", "Range", "SeedRange", "Setting", "MetricDeclaration")),
    ]
    about = {key: each for of in properties for key, each in of["properties"].items()}
    about |= {key: made["definitions"][key] for key in Recipe.model_fields}
    assert [key for key, each in about.items() if not each.get("description", "").endswith(".")] == []
    assert set(about) >= {*SECTIONS, *Claim.model_fields}


def test_it_tells_that_factors_which_a_claim_does_not_name_are_averaged_over(file: Path) -> None:
    told = "factor that is not named is averaged over"
    assert told in file.read_text()
    assert told in str(Claim.model_fields["where"].description)
    sides = {"treatment": {"dropout": 0.5}, "control": {"dropout": 0.0}}
    claim = Claim(name="c", statement="s", direction="higher", margin=0.0, **sides)
    gains = {"relu": 0.1, "tanh": 0.3}
    rows = [
        Row({"dropout": dropout, "activation": name}, seed, {"test_accuracy": gains[name] * dropout})
        for name, dropout, seed in product(gains, (0.0, 0.5), range(2))
    ]
    named = claim.model_copy(update={"where": {"activation": "relu"}})
    assert [found.effect for found in judge(rows, [claim, named])] == pytest.approx([0.1, 0.05])


def test_it_names_the_schema_that_is_written_beside_it(file: Path) -> None:
    assert file.read_text().startswith(f"# yaml-language-server: $schema={new.SCHEMA_FILE}\n")
    assert json.loads((file.parent / new.SCHEMA_FILE).read_text()) == json_schema.schema()


def test_it_overwrites_nothing(file: Path) -> None:
    file.write_text("mine")
    (file.parent / new.SCHEMA_FILE).write_text("mine")
    with pytest.raises(SweepError, match=r"mine\.yaml: exists already and is left as it is: choose another name"):
        new.new("mine.yaml")
    new.new("other")
    assert file.read_text() == (file.parent / new.SCHEMA_FILE).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "error"),
    [("../x", "a name has"), ("-x", "a name has"), ("normalization", "a shipped sweep has this name")],
)
def test_it_wants_a_name_of_its_own(name: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=error):
        new.new(name)
    assert not list(tmp_path.iterdir())


def test_shipped_schema_is_the_one_that_the_program_makes(capsys: pytest.CaptureFixture[str]) -> None:
    new.schema()
    told = "renew it: mnist-ablate schema > sweeps/schema.json"
    assert (SHIPPED / "schema.json").read_text(encoding="utf-8") == capsys.readouterr().out, told
    jsonschema.Draft7Validator.check_schema(json_schema.schema())


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_validates(path: Path) -> None:
    CHECK.validate(parsed(path.read_text()))


CLAIM = "\nclaims:\n- {name: c, statement: s, treatment: {activation: tanh}, margin: 0.1, direction: lower"
SEARCH = "question: q\nseeds: 6\ndesign: search\ntuning_trials: 4\nnuisance: {learning_rate: {low: 0.1, high: 1}}\n"
ARMS = "question: q\nseeds: 6\ndesign: configurations\nconfigurations: {a: {width: 3}, b: {width: 4}}\n"


CONTROLLED = f"{SMALL}{CLAIM}, control: {{activation: relu}}}}"
NAMED = f"{ARMS}{CLAIM}, control: {{activation: relu}}}}".replace("activation", "configuration")


@pytest.mark.parametrize(
    "text", [EXAMPLE, SMALL, ONE_FACTOR, SEARCH, ARMS, CONTROLLED, f"{SMALL}{CLAIM}, reference: 0.97}}", NAMED]
)
def test_what_loads_validates(text: str) -> None:
    CHECK.validate(parsed(text))


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace("question", "qestion"),
        SMALL.replace("seeds: 2", "seeds: many"),
        SMALL.replace("seeds: 2", "seeds: 0"),
        SMALL.replace("tanh", "tahn"),
        SMALL.replace("activation", "activaton"),
        SMALL.replace("[relu, tanh]", "relu"),
        SMALL.replace("[relu, tanh]", "[]"),
        SMALL.replace("[relu, tanh]", "[relu, relu]"),
        SMALL.replace("scientific", "fixed").replace("[relu, tanh]", "relu"),
        f"name: n\n{SMALL}",
        f"{SMALL}design: grid\n",
        f"{SMALL}fixed: {{dropout: 1.5}}\n",
        f"{SMALL}fixed: {{epochs: 2.5}}\n",
        f"{SMALL}nuisance: {{learning_rate: {{low: 0.1, high: 1}}}}\n",
        f"{SMALL}nuisance: {{learning_rate: {{low: 0.1}}}}\ntuning_trials: 3\n",
        f"{SMALL}nuisance: {{learning_rate: 0.1}}\ntuning_trials: 3\n",
        f"{SMALL}configurations: {{a: {{width: 3}}}}\n",
        f"{ARMS}scientific: {{activation: [relu, tanh]}}\n",
        ARMS.replace("width", "with"),
        SEARCH.replace("tuning_trials: 4\n", ""),
        ONE_FACTOR.replace("baseline", "fixed"),
        f"{SMALL}{CLAIM}}}",
        f"{SMALL}{CLAIM}, control: {{activation: relu}}, reference: 0.9}}",
        f"{SMALL}{CLAIM}, control: {{activation: relu}}, metric: accuracy}}",
        f"{SMALL}{CLAIM}, control: {{activation: relu}}, versus: {{normalizer: unit}}}}",
        CONTROLLED.replace("lower", "worse"),
        CONTROLLED.replace("margin: 0.1", "margin: -1"),
    ],
)
def test_typical_mistakes_do_not_validate_and_do_not_load(text: str, tmp_path: Path) -> None:
    assert not CHECK.is_valid(parsed(text)), text
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SweepError):
        sweep_file.load(str(tmp_path / "x.yaml"))


def test_list_has_a_line_for_every_choice() -> None:
    for entries in KERAS_MNIST.choices.values():
        for summary in entries.values():
            assert 10 < len(summary) < 120


def test_sweeps_and_files_complete(file: Path) -> None:
    assert "normalization" in options.complete_source("norm")
    assert list(options.complete_source("mi")) == [file.name]
    (file.parent / "sub").mkdir()
    (file.parent / "sub" / "a.yml").touch()
    assert list(options.complete_source("sub/")) == ["sub/a.yml"]


def completed(folder: Path, shell: str, words: str) -> str:
    environment = base_environment(
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
        _MNIST_ABLATE_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=words,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    done = subprocess.run([PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes(shell: str, file: Path) -> None:
    folder = file.parent
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    asked = [PROGRAM, "--show-completion", shell]
    script = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=30)
    assert script.returncode == 0
    assert f"complete_{shell}" in script.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)
    assert "normalization" in completed(folder, shell, "mnist-ablate plan norm")
    assert "mine.yaml" in completed(folder, shell, "mnist-ablate sweep mi")
    assert "html" in completed(folder, shell, "mnist-ablate report x --format h")
    assert "schema" in completed(folder, shell, "mnist-ablate sch")


def test_help_of_the_command_names_new_and_schema() -> None:
    done = subprocess.run([sys.executable, PROGRAM, "--help"], capture_output=True, text=True, timeout=30)
    assert " new " in done.stdout
    assert " schema " in done.stdout
