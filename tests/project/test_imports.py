"""The imports of the package, read from its source: they go one way, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import mnist_ablate

PACKAGE = Path(mnist_ablate.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
KERAS = {"keras", "tensorflow"}
HEAVY = {*KERAS, "mlflow", "optuna", "cv2"}
TRAINER = "mnist_ablate.workloads.keras_mnist"
ROOMS = (
    "workloads",
    "sweep",
    "statistics",
    "ledger",
    "tracking",
    "reports",
    "verification",
    "execution",
    "service",
    "cli",
)
"""From the lowest to the highest: each may import those before it, and the modules at the top of the package."""


def short(module: str) -> str:
    return module.removeprefix("mnist_ablate.")


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


def reached(module: str) -> set[str]:
    """Everything that importing a module imports, itself included."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        each = todo.pop()
        if each in seen:
            continue
        seen.add(each)
        if each.startswith("mnist_ablate"):
            parts = each.split(".")
            todo += [".".join(parts[:n]) for n in range(1, len(parts))]
            todo += imports(each, lazy=False)
    return seen


def room(module: str) -> str:
    """The sub-package that a module is in; empty for the modules at the top."""
    first = short(module).partition(".")[0]
    return first if first in ROOMS else ""


def is_keras(module: str) -> bool:
    return module.startswith(TRAINER)


def test_the_reader_sees_what_is_there() -> None:
    assert "mnist_ablate.execution.driver" in imports("mnist_ablate.cli.sweeps")
    assert "mnist_ablate.execution.driver" not in imports("mnist_ablate.cli.sweeps", lazy=False)
    assert "optuna" in reached("mnist_ablate.execution.driver")
    assert "tensorflow" in reached(f"{TRAINER}.trainer")
    assert {room(module) for module in MODULES} == {"", *ROOMS}


@pytest.mark.parametrize("module", [each for each in MODULES if short(each) != "registered"])  # an old name
def test_imports_go_one_way_from_room_to_room(module: str) -> None:
    may = {"", room(module), *ROOMS[: ROOMS.index(room(module)) + 1]} if room(module) else {""}
    for other in imports(module):
        if other.startswith("mnist_ablate."):
            assert room(other) in may, f"{module} -> {other}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_in_a_circle(module: str) -> None:
    others = {
        each for each in imports(module, lazy=False) if each.startswith("mnist_ablate") and each != "mnist_ablate"
    }
    parents = {".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 1)}
    for other in others - parents:
        assert module not in reached(other) or other.startswith(f"{module}."), f"{module} -> {other} -> {module}"


@pytest.mark.parametrize("module", [each for each in MODULES if not is_keras(each)])
def test_only_the_keras_workload_knows_keras(module: str) -> None:
    assert not KERAS & imports(module)
    assert f"{TRAINER}.backend" not in imports(module)


@pytest.mark.parametrize("module", ["execution.worker", "execution.engine"])
def test_workers_import_no_database_and_no_tracker(module: str) -> None:
    assert not {"mlflow", "optuna", "sqlalchemy"} & reached(f"mnist_ablate.{module}")


@pytest.mark.parametrize("module", [each for each in MODULES if room(each) in {"statistics", "sweep"}])
def test_what_is_asked_and_what_it_means_need_no_heavy_library(module: str) -> None:
    assert not (HEAVY | {"distributed", "sqlalchemy", "rich"}) & reached(module)


@pytest.mark.parametrize("module", [each for each in MODULES if room(each) in {"reports", "verification"}])
def test_reports_and_verification_need_no_tensorflow_optuna_dask_or_mlflow(module: str) -> None:
    assert not (HEAVY - {"cv2"} | {"distributed"}) & reached(module)


@pytest.mark.parametrize("module", [each for each in MODULES if room(each) == "verification"])
def test_verification_shares_no_code_with_what_records(module: str) -> None:
    ours = {short(each) for each in imports(module)}
    recording = {"ledger.ledger", "ledger.progress", "tracking.mirror", "tracking.run_format"}
    assert not {each for each in ours if each in recording or room(each) == "execution"}


@pytest.mark.parametrize(
    ("what", "never"),
    [
        (["--help"], {*HEAVY, "numpy", "scipy", "distributed", "rich.live"}),
        (["list"], {*KERAS, "mlflow", "optuna"}),
        (["judge", "--help"], HEAVY),
        (["report", "x"], {*KERAS, "mlflow", "distributed"}),
    ],
)
def test_a_command_imports_only_what_it_needs(what: list[str], never: set[str], tmp_path: Path) -> None:
    code = f"""
import sys
sys.argv = ["mnist-ablate", *{what!r}]
from mnist_ablate.cli.app import main
try:
    main()
except SystemExit:
    pass
print(sorted({never!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_judging_a_table_imports_no_heavy_library(tmp_path: Path) -> None:
    from sweep_texts import SMALL

    claims = """claims:
  - {name: c, statement: s, treatment: {activation: tanh}, control: {activation: relu}, direction: lower, margin: 0.1}
"""
    (tmp_path / "x.yaml").write_text(SMALL + claims)
    rows = [f"{activation},{seed},0.9{seed}" for activation in ("relu", "tanh") for seed in (0, 1)]
    (tmp_path / "t.csv").write_text("\n".join(["activation,seed,test_accuracy", *rows]))
    code = f"""
import sys
sys.argv = ["mnist-ablate", "judge", "t.csv", "--sweep", "x.yaml", "--json"]
from mnist_ablate.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
