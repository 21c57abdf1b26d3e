"""The commands on what is recorded: `sync` to MLflow, `export` to a file, `restore` from it, `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from mnist_ablate.cli.options import Home, complete_source, name_of, settings_of
from mnist_ablate.cli.sweep_ending import FAILED_TRIALS
from mnist_ablate.errors import SweepError

_BUNDLE = ".zip"
All = Annotated[bool, typer.Option("--all", help="Every recorded sweep.")]


def export(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME|FILE] OUTPUT", help="A sweep unless --all, and the file to write.", show_default=False
        ),
    ],
    everything: All = False,
    home: Home = None,
) -> None:
    """Write every record of a sweep, or of all sweeps, to one file that `restore` reads."""
    from mnist_ablate.ledger import backup
    from mnist_ablate.ledger.ledger import Ledger

    if len(words) != 2 - everything:
        raise SweepError(
            "export takes a sweep and the file to write, or --all and the file: export normalization a.zip"
        )
    url = settings_of(home).ledger_url
    names = Ledger(url, reading=True).names() if everything else [name_of(words[0])]
    counts, sha256 = backup.export(url, names, Path(words[-1]))
    for name, trials in counts.items():
        typer.echo(f"{name}: {trials} trials")
    typer.echo(f"{words[-1]}: sha256 {sha256}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    home: Home = None,
) -> None:
    """Add the records of a backup to the ledger. Records that are already there stay."""
    from mnist_ablate.ledger import backup

    settings = settings_of(home)
    for name, (trials, written) in backup.restore(settings.ledger_url, source).items():
        typer.echo(f"{name}: {trials} trials, {written} written now")
    typer.echo("update MLflow with: mnist-ablate sync --all", err=True)


def sync(
    source: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="A recorded sweep.", autocompletion=complete_source)
    ] = "",
    everything: All = False,
    home: Home = None,
) -> None:
    """Send MLflow what it lacks of a recorded sweep, or of every sweep with --all."""
    from mnist_ablate.execution import recorded_report
    from mnist_ablate.ledger.ledger import Ledger

    if bool(source) == everything:
        raise SweepError("sync takes the name of a sweep, or --all")
    settings = settings_of(home)
    names = Ledger(settings.ledger_url, reading=True).names() if everything else [name_of(source)]
    for name in names:
        sent, total = recorded_report.sync(name, settings)
        typer.echo(f"{name}: MLflow has all {total} trials ({sent} sent now)")


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
    """Check that plan, ledger and MLflow agree, or that the verdicts of a bundle follow from its records."""
    found = (
        _verified_bundle(Path(source)) if source.lower().endswith(_BUNDLE) else _verified_ledger(name_of(source), home)
    )
    if found:
        raise typer.Exit(FAILED_TRIALS)


def _verified_ledger(name: str, home: Path | None) -> bool:
    from mnist_ablate.verification import verify as checks

    found = checks.problems(name, settings_of(home, None))
    for problem in found:
        typer.echo(problem)
    if not found:
        typer.echo(f"{name}: plan, ledger and MLflow agree")
    return bool(found)


def _verified_bundle(path: Path) -> bool:
    from mnist_ablate.verification import bundle_check

    checked = bundle_check.check(path)
    for problem in checked.problems:
        typer.echo(problem)
    if not checked.problems:
        typer.echo(f"{path.name}: {checked.claims} verdicts follow from {checked.trials} recorded trials")
        typer.echo(f"digest {checked.digest}: compare it with the one that was published")
    return bool(checked.problems)
