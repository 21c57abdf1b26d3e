"""`compare` sets two recorded sweeps, or two records of one, side by side; nothing is trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ablate.cli.options import Home, Json, complete_source, name_of, settings_of
from mnist_ablate.errors import SweepError

if TYPE_CHECKING:
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.reports.comparison import Side

_METAVAR = "NAME[/N]"


def compare(
    first: Annotated[str, typer.Argument(metavar=_METAVAR, autocompletion=complete_source)],
    second: Annotated[str, typer.Argument(metavar=_METAVAR, autocompletion=complete_source)],
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Compare two recorded sweeps, or two records of one: NAME/1 is the first, NAME the latest."""
    typer.echo(text(first, second, home, as_json=as_json))


def text(first: str, second: str, home: Path | None, *, as_json: bool) -> str:
    """What two records, named as `compare` takes them, have in common and what differs."""
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.reports import comparison

    ledger = Ledger(settings_of(home).ledger_url, reading=True)
    found = comparison.compare(_side(ledger, first), _side(ledger, second))
    return found.model_dump_json() if as_json else found.text()


def _side(ledger: "Ledger", source: str) -> "Side":
    from mnist_ablate.ledger import progress
    from mnist_ablate.reports.comparison import Side

    name, slash, number = source.rpartition("/") if source.rpartition("/")[2].isdecimal() else (source, "", "")
    record = ledger.find(name_of(name), int(number) if slash else None)
    rows = progress.rows(record.plan, record.entries())
    if not rows:
        raise SweepError(f"{source}: no trial is recorded yet: run `mnist-ablate sweep {name}` first")
    asked = record.sweep
    return Side(sweep=record.name, digest=asked.digest, registered=record.registered, asked=asked, rows=rows)
