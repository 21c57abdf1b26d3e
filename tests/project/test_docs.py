"""The pages are true: messages, links, files and tests that they name exist, and the reference leaves nothing out."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from command import base_environment

from mnist_ablate import errors
from mnist_ablate.cli.app import app
from mnist_ablate.sweep import sweep_file
from mnist_ablate.sweep.claim import Claim
from mnist_ablate.sweep.sweep import SECTIONS
from mnist_ablate.workloads.keras_mnist.metrics import METRICS
from mnist_ablate.workloads.keras_mnist.recipe import Recipe
from mnist_ablate.workloads.workload import default_workload

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mnist_ablate"
TESTS = ROOT / "tests"
MOST_LINES = 120
FAULTS = 30


def read(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PAGES = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))
ALL = [*map(Path, ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *PAGES]
README, TROUBLESHOOTING = read("README.md"), read("docs/guides/troubleshooting.md")
COMMANDS_PAGE, FILES_PAGE = read("docs/reference/commands.md"), read("docs/reference/sweep-file.md")
MESSAGES = re.findall(r"^\| `(.+?)` \|", TROUBLESHOOTING, re.MULTILINE)
PARTS = re.split(r"^## (.+)$", COMMANDS_PAGE, flags=re.MULTILINE)
DOCUMENTED = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
ROOMS = [PACKAGE, *sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)]


@pytest.fixture(scope="module")
def code() -> str:
    """The package's text, with literals that are written in parts made whole."""
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(map(read, PACKAGE.rglob("*.py"))))


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_explained_exists(code: str, message: str) -> None:
    for part in message.split("…"):
        assert part.strip(" :;") in code, part


def test_every_exit_code_that_an_error_has_is_explained() -> None:
    assert len(MESSAGES) > 40
    assert set(re.findall(r"exit (\d)", TROUBLESHOOTING)) == set("123456")
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert codes == {1, 2, 3, 4, 5, 6}
    page = read("docs/reference/exit-codes.md")
    documented = [int(code) for code in re.findall(r"^\| (\d+) \| \S", page, re.MULTILINE)]
    assert documented == [0, *sorted(codes), 7, 129, 130, 143]


def test_the_guides_link_to_what_exists() -> None:
    assert len(PAGES) > 20
    for page in ALL:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", read(page)):
            assert (ROOT / page.parent / link).exists(), f"{page}: {link}"
    linked = ("tutorial", "guides/index", "guides/troubleshooting", "guides/add-a-normalizer", "reference/index")
    for name in (*linked, "explanation/statistics"):
        assert f"docs/{name}.md" in README


def test_files_that_are_named_exist() -> None:
    named = re.compile(r"`((?:mnist_ablate|benchmarks|docker|docs|sweeps)/[\w/.-]*)`")
    for page in (each for each in ALL if each.name != "CHANGELOG.md"):
        for name in named.findall(read(page)):
            assert (ROOT / name).exists(), f"{page}: {name}"
        for name in re.findall(r"`(test_\w+\.py)`", read(page)):
            assert [*TESTS.rglob(name)], f"{page}: {name}"


def test_every_fault_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", read("docs/explanation/faults.md"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, FAULTS + 1))
    for number, cell in rows:
        named = re.findall(r"`(\w+)::(\w+)`", cell)
        assert named, f"fault {number} names no test"
        for module, test in named:
            assert f"def {test}(" in read(next(TESTS.rglob(f"{module}.py"))), f"fault {number}: {module}::{test}"


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(read(path))) or "").splitlines()[0]


@pytest.mark.parametrize("folder", ROOMS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_map_has_every_file_with_its_first_line(folder: Path) -> None:
    if folder.name == "registered":  # an old name of one module
        return
    text = read("CONTRIBUTING.md").split(f"### `{folder.relative_to(ROOT)}/`\n")[1]
    section = text.split("\n###")[0].split("\n## ")[0]
    assert first_line(folder / "__init__.py") in section
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    told = [line for line in section.splitlines() if line.startswith("| `")]
    assert told == [f"| `{path.name}` | {first_line(path)} |" for path in files]


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md$", read("mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to("docs")) for page in PAGES)


def test_every_guide_and_reference_page_is_listed_on_its_index() -> None:
    for page in PAGES:
        if len(page.parts) > 2 and page.name != "index.md":
            assert f"]({page.name})" in read(page.parent / "index.md"), page


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    environment = base_environment(NO_MKDOCS_2_WARNING="1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > len(PAGES)
    for page in built:
        assert not re.findall(r"<(?:script|img|iframe|link)[^>]* (?:src|href)=\"?https?:", read(page)), page


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command, which click has no public type for in typer, with its full name."""
    for each, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {each}".strip())
    if not hasattr(group, "commands"):
        yield name, group


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_a_command_and_no_other(name: str) -> None:
    options = [each for each in COMMANDS[name].params if each.param_type_name == "option"]
    taken = {name for each in options for name in (*each.opts, *each.secondary_opts)} - {"--help"}
    cells = "".join(re.findall(r"^\| (`--.*?) \|", DOCUMENTED[name], re.MULTILINE))
    assert set(re.findall(r"`(--[a-z-]+)", cells)) == taken


def test_the_reference_has_every_command_and_no_other() -> None:
    assert set(DOCUMENTED) - {"For every command"} == set(COMMANDS)
    assert re.findall(r"^\| \[`(.+?)`\]", COMMANDS_PAGE, re.MULTILINE) == list(DOCUMENTED)[1:]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("Keys", set(SECTIONS)),
        ("Claims", set(Claim.model_fields)),
        ("Settings", set(Recipe.model_fields)),
        ("Metrics", set(METRICS)),
    ],
)
def test_the_reference_has_every_key_of_a_sweep_file(section: str, names: set[str]) -> None:
    text = FILES_PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", cells)) == names


def test_the_reference_has_every_choice() -> None:
    for setting, entries in default_workload().choices.items():
        row = re.findall(rf"^\| `{setting}` \| (.*?) \|", FILES_PAGE, re.MULTILINE)[0]
        assert re.findall(r"`(\w+)`", row.partition(":")[0]) == list(entries)


def test_the_reference_has_every_variable_that_is_read(code: str) -> None:
    documented = set(re.findall(r"`([A-Z_0-9]+)`", read("docs/reference/environment.md")))
    compose = read("docker-compose.yml")
    text = "\n".join([code, compose, *map(read, (ROOT / "docker").glob("*.py"))])
    assert set(re.findall(r"\b(?:MNIST_ABLATE|STACK)_[A-Z_]*[A-Z]\b", text)) <= documented
    assert {*re.findall(r"\$\{([A-Z_]+)", compose)} <= documented


def test_the_python_reference_names_what_exists() -> None:
    entry = re.compile(r"^::: ([\w.]+)\n(?:    options:\n      members: \[(.*)\])?", re.MULTILINE)
    for module, members in entry.findall(read("docs/reference/python.md")):
        found = importlib.import_module(module)
        for name in filter(None, members.split(", ")):
            assert getattr(found, name).__module__ == module, f"{module}: {name}"


def test_what_is_cited_is_this_version() -> None:
    cited, project = yaml.safe_load(read("CITATION.cff")), tomllib.loads(read("pyproject.toml"))["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def test_the_readme_is_a_front_page_and_its_verdicts_are_those_of_the_sweep() -> None:
    assert len(README.splitlines()) <= MOST_LINES
    table = README.split("| claim | verdict |")[1].split("\n\n")[0]
    assert table.count("\n|") - 1 == len(sweep_file.load("normalization").claims)


def test_make_alone_lists_every_target_and_the_readme_names_no_other() -> None:
    alone = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, env=alone)
    assert done.returncode == 0, done.stderr
    targets = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)[0].split()
    told = {line.split()[1]: line.split(maxsplit=2)[2:] for line in done.stdout.splitlines()}
    assert sorted(told) == sorted(targets)
    assert all(told.values())
    assert {"sweep", "ui", "test"} <= {*re.findall(r"^make (\w+)", README, re.MULTILINE)} <= {*targets}
