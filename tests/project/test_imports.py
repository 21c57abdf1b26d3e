"""The imports of the package, read from its source: they go one way, and heavy libraries stay where they belong."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ledger_records import begun, outcome
from sweep_runs import small, sweep_file
from sweep_texts import SMALL

import mnist_ablate
from mnist_ablate.ledger.ledger import Mirrored
from mnist_ablate.settings import Settings
from mnist_ablate.sweep.plan import make_plan
from mnist_ablate.workloads.keras_mnist.workload import MNIST_DIGEST

PACKAGE = Path(mnist_ablate.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
KERAS = {"keras", "tensorflow"}
TRAINER = "mnist_ablate.workloads.keras_mnist"
HEAVY = {*KERAS, "mlflow", "optuna", "cv2"}
RECORDING = {"ledger.ledger", "ledger.stored_studies", "ledger.progress", "tracking.mirror", "tracking.run_format"}
GUIDE = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = re.findall(r"`(\w+)`", GUIDE.partition("may import the rooms before it in this list")[2].partition(".\n")[0])
"""From the lowest to the highest: each may import those before it, and the modules at the top of the package."""


@cache
def imports(module: str, *, lazy: bool = True) -> frozenset[str]:
    """What a module imports, `mnist_ablate.x` or a top-level name; without `lazy` only what importing it runs."""
    path = PACKAGE.parent / Path(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    found: set[str] = set()
    _collect(ast.parse(source), found, lazy=lazy)
    return frozenset(found)


def _collect(node: ast.AST, found: set[str], *, lazy: bool) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        if isinstance(child, ast.Import):
            found.update(_known(alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            found.update(_known(f"{child.module}.{alias.name}") for alias in child.names)
        _collect(child, found, lazy=lazy)


def _known(name: str) -> str:
    """The module of ours that a dotted name is in, else its first part."""
    if not name.startswith("mnist_ablate"):
        return name.partition(".")[0]
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


@cache
def reached(module: str) -> set[str]:
    """Everything that importing a module imports, itself included."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        each = todo.pop()
        if each not in seen and each.startswith("mnist_ablate"):
            parts = each.split(".")
            todo += [".".join(parts[:n]) for n in range(1, len(parts))]
            todo += imports(each, lazy=False)
        seen.add(each)
    return seen


def room(module: str) -> str:
    """The sub-package that a module is in; empty for the modules at the top."""
    first = module.removeprefix("mnist_ablate.").partition(".")[0]
    return first if first in ROOMS else ""


def of(*rooms: str) -> list[str]:
    return [module for module in MODULES if room(module) in rooms]


def test_the_reader_sees_what_is_there() -> None:
    assert "mnist_ablate.execution.driver" in imports("mnist_ablate.cli.sweeps")
    assert "mnist_ablate.execution.driver" not in imports("mnist_ablate.cli.sweeps", lazy=False)
    assert "sqlalchemy" in reached("mnist_ablate.execution.driver")
    assert "tensorflow" in reached(f"{TRAINER}.trainer")
    assert {room(module) for module in MODULES} == {"", *ROOMS}
    assert len(ROOMS) == 10


def test_imports_go_one_way_from_room_to_room() -> None:
    for module in set(MODULES) - {"mnist_ablate.registered", "mnist_ablate.__main__"}:  # an old name; the command
        may = {"", room(module), *ROOMS[: ROOMS.index(room(module)) + 1]} if room(module) else {""}
        for other in imports(module):
            if other.startswith("mnist_ablate."):
                assert room(other) in may, f"{module} -> {other}"


def test_no_module_imports_itself_in_a_circle() -> None:
    for module in MODULES:
        parents = {".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 1)}
        for other in imports(module, lazy=False) - parents - {"mnist_ablate"}:
            assert module not in reached(other) or other.startswith(f"{module}."), f"{module} -> {other} -> {module}"


def test_only_the_keras_workload_knows_keras() -> None:
    for module in MODULES:
        if not module.startswith(TRAINER):
            assert not {*KERAS, f"{TRAINER}.backend"} & imports(module), module


@pytest.mark.parametrize(
    ("modules", "never"),
    [
        (["mnist_ablate.execution.worker", "mnist_ablate.execution.engine"], {"mlflow", "optuna", "sqlalchemy"}),
        (of("statistics", "sweep"), HEAVY | {"distributed", "sqlalchemy", "rich"}),
        (of("reports", "verification"), {*KERAS, "mlflow", "optuna", "distributed"}),
    ],
    ids=["workers", "what is asked and what it means", "reports and verification"],
)
def test_modules_that_need_no_heavy_library_import_none(modules: list[str], never: set[str]) -> None:
    for module in modules:
        assert not never & reached(module), module


def test_verification_shares_no_code_with_what_records() -> None:
    for module in of("verification"):
        recording = {each for each in imports(module) if each.removeprefix("mnist_ablate.") in RECORDING}
        assert not recording | {each for each in imports(module) if room(each) == "execution"}, module


@pytest.mark.parametrize(
    ("what", "never"),
    [
        (["--help"], {*HEAVY, "numpy", "scipy", "distributed", "rich.live", "fastapi", "uvicorn", "sqlalchemy"}),
        (["list"], {*KERAS, "mlflow", "optuna"}),
        (["report", "x"], {*KERAS, "mlflow", "distributed"}),
        (["judge", "t.csv", "--sweep", "x.yaml", "--json"], {*HEAVY, "distributed"}),
    ],
)
def test_a_command_imports_only_what_it_needs(what: list[str], never: set[str], tmp_path: Path) -> None:
    claims = """claims:
  - {name: c, statement: s, treatment: {activation: tanh}, control: {activation: relu}, direction: lower, margin: 0.1}
"""
    (tmp_path / "x.yaml").write_text(SMALL + claims)
    rows = [f"{activation},{seed},0.9{seed}" for activation in ("relu", "tanh") for seed in (0, 1)]
    (tmp_path / "t.csv").write_text("\n".join(["activation,seed,test_accuracy", *rows]))
    assert imported(what, tmp_path, fails="report" in what) & never == set()


@pytest.mark.parametrize("command", ["sweep", "report"])
def test_a_command_that_trains_and_writes_nothing_imports_nothing_for_it(command: str, tmp_path: Path) -> None:
    settings, plan = Settings(home=tmp_path / "home"), make_plan(small(), MNIST_DIGEST)
    record = begun(settings.ledger_url, plan)
    record.add_all([(each, outcome(each)) for each in plan.verdict_trials()])
    record.origin, record.fingerprints = {"command": "mnist-ablate sweep small.yaml"}, [{"images": "tiny", "notes": []}]
    record.mirrored = Mirrored(plan.size, settings.tracking_uri, "http://h/")
    never = {*HEAVY, "alembic", "dask", "distributed", "matplotlib"}
    assert imported([command, str(sweep_file(tmp_path)), "--home", str(settings.home)], tmp_path) & never == set()


def imported(command: list[str], folder: Path, *, fails: bool = False) -> set[str]:
    """The modules that a command has imported when it ends."""
    code = f"""
import json, sys
sys.argv = ["mnist-ablate", *{command!r}]
from mnist_ablate.cli.app import main
try:
    main()
except SystemExit as end:
    assert bool(end.code) == {fails}, end.code
print(json.dumps([*sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return {*json.loads(done.stdout.splitlines()[-1])}
