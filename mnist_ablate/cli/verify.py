"""`verify` looks for what is wrong, in a ledger with its MLflow or in a bundle; changes nothing."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli.options import Home, complete_source, name_of, settings_of
from mnist_ablate.cli.sweep_ending import FAILED_TRIALS

_BUNDLE = ".zip"


def verify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|BUNDLE.zip",
            help="A recorded sweep, or what `report --format bundle` wrote.",
            autocompletion=complete_source,
        ),
    ],
    home: Home = None,
) -> None:
    """Check that plan, ledger and MLflow agree, and that the verdicts recompute; or the same of a bundle."""
    found = _bundle(Path(source)) if source.lower().endswith(_BUNDLE) else _ledger(name_of(source), home)
    if found:
        raise typer.Exit(FAILED_TRIALS)


def _ledger(name: str, home: Path | None) -> bool:
    from mnist_ablate.verification import verify as checks

    found = checks.problems(name, settings_of(home, None))
    for problem in found:
        typer.echo(problem)
    if not found:
        typer.echo(f"{name}: plan, ledger and MLflow agree")
    return bool(found)


def _bundle(path: Path) -> bool:
    from mnist_ablate.verification import bundle_check

    checked = bundle_check.check(path)
    for problem in checked.problems:
        typer.echo(problem)
    if not checked.problems:
        typer.echo(f"{path.name}: {checked.claims} verdicts follow from {checked.trials} recorded trials")
        typer.echo(f"digest {checked.digest}: compare it with the one that was published")
    return bool(checked.problems)
