"""The pages are true: the tutorial's commands run, messages and links exist, the reference leaves nothing out."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from command import PROGRAM, base_environment
from mlflow_helpers import new_home

from mnist_ablate.cli.app import app
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.plan import control_count, count
from mnist_ablate.sweep.sweep import Claim, Sweep
from mnist_ablate.workloads.keras_mnist.data import MNIST
from mnist_ablate.workloads.keras_mnist.metrics import METRICS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "mnist_ablate"
TESTS = ROOT / "tests"
TROUBLESHOOTING = DOCS / "guides" / "troubleshooting.md"
NORMALIZER = "guides/add-a-normalizer.md"
REFERENCE = DOCS / "reference"
PAGES = sorted(DOCS.rglob("*.md"))


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


def messages() -> list[str]:
    lines = TROUBLESHOOTING.read_text(encoding="utf-8").splitlines()
    return [found[1] for line in lines if (found := re.match(r"\| `(.+?)` \|", line))]


def code() -> str:
    """The package's text, with literals that are written in parts made whole."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("message", messages())
def test_a_message_that_is_explained_exists(message: str) -> None:
    source = code()
    for part in re.split("…", message):
        assert part.strip(" :;") in source, part


def test_every_exit_code_that_an_error_has_is_explained() -> None:
    text = TROUBLESHOOTING.read_text(encoding="utf-8")
    assert len(messages()) > 40
    assert set(re.findall(r"exit (\d)", text)) == set("123456")


def test_the_guides_link_to_what_exists() -> None:
    assert len(PAGES) > 20
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")), *PAGES):
        text = path.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (
        "tutorial",
        "guides/index",
        "guides/troubleshooting",
        NORMALIZER.removesuffix(".md"),
        "reference/index",
    ):
        assert f"docs/{name}.md" in readme
    assert "docs/explanation/statistics.md" in readme


def test_files_that_are_named_exist() -> None:
    pages = [*PAGES, *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))]
    named = re.compile(r"`((?:mnist_ablate|benchmarks|docker|docs|sweeps)/[\w/.-]*)`")
    for path in pages:
        for name in named.findall(path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name}: {name}"
        for name in re.findall(r"`(test_\w+\.py)`", path.read_text(encoding="utf-8")):
            assert [*TESTS.rglob(name)], f"{path.name}: {name}"


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in PAGES)


def test_every_guide_and_reference_page_is_listed_on_its_index() -> None:
    for part in ("guides", "reference", "explanation"):
        index = (DOCS / part / "index.md").read_text(encoding="utf-8")
        for page in (DOCS / part).glob("*.md"):
            assert page.name == "index.md" or f"]({page.name})" in index, page


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=base_environment(NO_MKDOCS_2_WARNING="1")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"?https?:", text), page
        assert not re.findall(r"<link[^>]* href=\"?https?:", text), page


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command, which click has no public type for in typer, with its full name."""
    for each, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {each}".strip())
    if not hasattr(group, "commands"):
        yield name, group


COMMANDS = dict(commands(typer.main.get_command(app)))


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", (REFERENCE / "commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(command: Any) -> set[str]:
    found = [name for each in command.params if each.param_type_name == "option" for name in each.opts]
    off = [name for each in command.params if each.param_type_name == "option" for name in each.secondary_opts]
    return {*found, *off} - {"--help"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_a_command_and_no_other(name: str) -> None:
    cells = "".join(re.findall(r"^\| (`--.*?) \|", sections()[name], re.MULTILINE))
    documented = set(re.findall(r"`(--[a-z-]+)", cells))
    assert documented == options(COMMANDS[name])


def test_the_reference_has_every_command_and_no_other() -> None:
    assert set(sections()) - {"For every command"} == set(COMMANDS)
    table = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[`(.+?)`\]", table, re.MULTILINE) == list(sections())[1:]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("Keys", set(Sweep.model_fields) - {"name"}),
        ("Claims", set(Claim.model_fields)),
        ("Settings", set(Recipe.model_fields)),
        ("Metrics", set(METRICS)),
    ],
)
def test_the_reference_has_every_key_of_a_sweep_file(section: str, names: set[str]) -> None:
    page = (REFERENCE / "sweep-file.md").read_text(encoding="utf-8")
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", cells)) == names


def test_the_reference_has_every_choice() -> None:
    from mnist_ablate.workloads.workload import default_workload

    page = (REFERENCE / "sweep-file.md").read_text(encoding="utf-8")
    for setting, entries in default_workload().choices.items():
        row = re.findall(rf"^\| `{setting}` \| (.*?) \|", page, re.MULTILINE)[0]
        assert re.findall(r"`(\w+)`", row.partition(":")[0]) == list(entries)


def test_the_reference_has_every_variable_that_is_read() -> None:
    page = (REFERENCE / "environment.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([A-Z_0-9]+)`", page))
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "docker").glob("*.py"), ROOT / "docker-compose.yml"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert set(re.findall(r"\b(?:MNIST_ABLATE|STACK)_[A-Z_]*[A-Z]\b", text)) <= documented
    assert {*re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())} <= documented


def test_the_python_reference_names_what_exists() -> None:
    page = (REFERENCE / "python.md").read_text(encoding="utf-8")
    for module, members in re.findall(r"^::: ([\w.]+)\n(?:    options:\n      members: \[(.*)\])?", page, re.MULTILINE):
        found = importlib.import_module(module)
        for name in filter(None, members.split(", ")):
            assert getattr(found, name).__module__ == module, f"{module}: {name}"


def test_the_python_example_runs() -> None:
    example = blocks("reference/python.md", "python")[0]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(sweep_file.load("normalization").claims)


def test_what_is_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def test_pictures_are_small() -> None:
    pictures = sorted((DOCS / "images").glob("*.png"))
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size >= 300_000] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    first, second = blocks("tutorial.md", "yaml")
    environment = base_environment()
    environment.pop("MLFLOW_TRACKING_URI")
    new_home(tmp_path / ".mnist-ablate")
    with np.load(MNIST) as file:  # a tenth of the images: what the numbers come to is tested elsewhere
        np.savez(tmp_path / "tenth.npz", **{name: file[name][: len(file[name]) // 10] for name in file})
    for line in "".join(blocks("tutorial.md", "console")).splitlines():
        name, *arguments = shlex.split(line.removeprefix("$ "))
        assert name == "mnist-ablate"
        images = ("--data", "tenth.npz") if arguments[0] in {"plan", "sweep"} else ()
        done = subprocess.run(
            [PROGRAM, *arguments, *images], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        if arguments[0] == "new":
            (tmp_path / "faster.yaml").write_text(first)
            (tmp_path / "fair.yaml").write_text(second)
        if arguments == ["report", "faster"]:
            shown = done.stdout
    assert re.search("supported|refuted|equivalent|inconclusive", shown)
    assert done.stdout == shown


class Copy:
    """A copy of the package and its sweeps, to follow the steps of a guide in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(PACKAGE, folder / "mnist_ablate", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "sweeps", folder / "sweeps")

    def insert(self, name: str, dict_name: str, end: str, line: str) -> None:
        """Put a line in front of the end of a dict or tuple."""
        path = self.folder / name
        head, start, rest = path.read_text(encoding="utf-8").partition(dict_name)
        entries, closing, tail = rest.partition(end)
        path.write_text(f"{head}{start}{entries}{line}{closing}{tail}", encoding="utf-8")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=200,
            env=base_environment(PYTHONPATH=str(self.folder), MNIST_ABLATE_HOME=str(self.folder / "home")),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, *words: str) -> str:
        program = "import sys; sys.path.insert(0, '.'); from mnist_ablate.cli.app import main; main()"
        return self.run("-c", program, *words)


@pytest.mark.slow
def test_the_steps_for_a_normalizer_lead_to_one(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # the marks of the tests
    shutil.copytree(TESTS / "support", tmp_path / "tests" / "support", ignore=shutil.ignore_patterns("__pycache__"))
    contracts = ("tests/workloads/test_choices.py", "tests/sweep/test_new_and_schema.py")
    for name in contracts:
        (tmp_path / name).parent.mkdir()
        shutil.copy(ROOT / name, tmp_path / name)
    function, line = blocks(NORMALIZER, "python")
    path = "mnist_ablate/workloads/keras_mnist/choices/normalizers.py"
    copy.insert(path, "\n\nNORMALIZERS: ", "}\n", line)
    text = (tmp_path / path).read_text(encoding="utf-8")
    (tmp_path / path).write_text(
        text.replace("\n\nNORMALIZERS: ", f"\n\n{function}\n\nNORMALIZERS: "), encoding="utf-8"
    )
    (tmp_path / "bipolar.yaml").write_text(blocks(NORMALIZER, "yaml")[0])
    assert "bipolar                x / 127.5 - 1: from -1 to 1" in copy.command("list", "choices")
    (tmp_path / "sweeps" / "schema.json").write_text(copy.command("schema"), encoding="utf-8")
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *contracts)
    assert "passed" in copy.run(*tests, "-m", "not slow")
    assert "2 arms x 8 seeds" in copy.command("plan", "bipolar.yaml")


def test_the_step_for_a_metric_leads_to_one(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    line = blocks("guides/add-a-metric.md", "python")[0]
    copy.insert("mnist_ablate/workloads/keras_mnist/metrics.py", "CURVE_METRICS: ", "\n}\n", f"\n{line.rstrip()}")
    assert '"epochs_to_99"' in copy.command("schema")
    example = blocks("tutorial.md", "yaml")[0].replace("first_epoch_val_accuracy", "epochs_to_99")
    (tmp_path / "sooner.yaml").write_text(example)
    load = "from mnist_ablate.sweep.sweep_file import load; print(load('sooner.yaml').claims[0].metric)"
    assert copy.run("-c", load) == "epochs_to_99\n"


def test_the_tutorial_counts_the_trials_that_its_plan_has(tmp_path: Path) -> None:
    (tmp_path / "faster.yaml").write_text(blocks("tutorial.md", "yaml")[0])
    sweep = sweep_file.load(str(tmp_path / "faster.yaml"))
    told = f"{count(sweep)} trials, {control_count(sweep)} of them the negative control"
    assert told in (DOCS / "tutorial.md").read_text(encoding="utf-8")


def test_sweeps_in_the_guides_load(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(blocks("tutorial.md", "yaml")[name == "second"])
        assert sweep_file.load(str(tmp_path / f"{name}.yaml")).seeds == 8
