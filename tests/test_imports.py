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
TRAINS = {"extractor", "features", "train", "program", "network", "diagnostics"}
VERDICT_PARTS = {"evidence", "looks", "pairs", "sweep", "trial", "errors"}


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


def test_the_reader_sees_what_is_there() -> None:
    assert "mnist_ablate.driver" in imports("mnist_ablate.cli")
    assert "mnist_ablate.driver" not in imports("mnist_ablate.cli", lazy=False)
    assert "optuna" in reached("mnist_ablate.driver")
    assert "tensorflow" in reached("mnist_ablate.train")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_in_a_circle(module: str) -> None:
    others = {
        each for each in imports(module, lazy=False) if each.startswith("mnist_ablate") and each != "mnist_ablate"
    }
    parents = {".".join(module.split(".")[:n]) for n in range(1, module.count(".") + 1)}
    for other in others - parents:
        assert module not in reached(other) or other.startswith(f"{module}."), f"{module} -> {other} -> {module}"


@pytest.mark.parametrize("module", MODULES)
def test_keras_is_only_where_models_are_built_and_trained(module: str) -> None:
    if not short(module).startswith("choices") and short(module) != "backend":
        assert not KERAS & imports(module)
    if short(module) not in TRAINS:
        assert "mnist_ablate.backend" not in imports(module)


@pytest.mark.parametrize("module", [each for each in MODULES if short(each) != "cli"])
def test_nothing_imports_the_command_line(module: str) -> None:
    assert "mnist_ablate.cli" not in imports(module)


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("engine", {"driver", "ledger", "mirror", "uploader", "view"}),
        ("worker", {"driver", "ledger", "mirror", "engine", "plan", "database"}),
        ("train", {"driver", "ledger", "mirror", "engine", "plan", "worker"}),
        ("ledger", {"driver", "engine", "mirror", "worker", "view"}),
        ("mirror", {"driver", "engine", "worker", "view"}),
        ("plan", {"ledger", "engine", "driver", "database"}),
        ("report", {"driver", "engine", "mirror"}),
        ("driver", {"cli", "view", "report_html", "page"}),
    ],
)
def test_lower_parts_do_not_know_higher_ones(module: str, never: set[str]) -> None:
    assert not {f"mnist_ablate.{name}" for name in never} & imports(f"mnist_ablate.{module}")


@pytest.mark.parametrize("module", ["worker", "engine"])
def test_workers_import_no_database_and_no_tracker(module: str) -> None:
    assert not {"mlflow", "optuna", "sqlalchemy"} & reached(f"mnist_ablate.{module}")


def test_verdicts_rest_on_sweeps_and_trials_alone() -> None:
    ours = {short(each) for each in reached("mnist_ablate.verdict") if each.startswith("mnist_ablate.")}
    assert ours <= {"verdict", *VERDICT_PARTS}
    assert not (HEAVY | {"distributed", "sqlalchemy", "rich"}) & reached("mnist_ablate.verdict")


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
from mnist_ablate.cli import main
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
from mnist_ablate.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
