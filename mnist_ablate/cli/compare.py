"""`compare` sets two recorded sweeps, or two records of one, side by side; nothing is trained."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    document = comparison.compare(_side(ledger, first), _side(ledger, second))
    return json.dumps(document) if as_json else "\n".join(_lines(document))


def _side(ledger: "Ledger", source: str) -> "Side":
    from mnist_ablate.ledger import progress
    from mnist_ablate.reports.comparison import Side

    name, slash, number = source.rpartition("/") if source.rpartition("/")[2].isdecimal() else (source, "", "")
    record = ledger.find(name_of(name), int(number) if slash else None)
    rows = progress.rows(record.plan, record.entries())
    if not rows:
        raise SweepError(f"{source}: no trial is recorded yet: run `mnist-ablate sweep {name}` first")
    return Side(record.name, record.registered, record.sweep, rows)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from mnist_ablate.statistics.pairing import label
    from mnist_ablate.text import effect, number

    first, second, metric = document["first"], document["second"], document["metric"]
    yield f"{first['sweep']} ({first['registered']}) -> {second['sweep']} ({second['registered']}), {metric}"
    arms = document["arms"]
    identical, pairs = sum(arm["identical"] for arm in arms), sum(arm["pairs"] for arm in arms)
    yield f"{identical} of {pairs} trials with the same factors and seed have the same number to the last bit"
    for arm in arms:
        change = effect(metric, arm["difference"])
        if arm["identical"] < arm["pairs"]:
            low, high = (effect(metric, arm[end]) for end in ("ci_low", "ci_high"))
            change += f" ({low} to {high})"
        yield f"  {label(arm['params'])}: {number(metric, arm['first'])} -> {number(metric, arm['second'])}, {change}"
    for which, side in (("only_first", first), ("only_second", second)):
        if document[which]:
            yield f"only in {side['sweep']}: {'; '.join(map(label, document[which]))}"
    for claim in document["claims"]:
        before, after = claim["first"], claim["second"]
        same = "still" if before["verdict"] == after["verdict"] else f"{before['verdict']} ->"
        note = " (the claim itself was changed)" if claim["changed"] else ""
        yield f"{same} {after['verdict']}: {claim['statement']}{note}"
    if arms:
        level = 1 - document["alpha"] / len(arms)
        yield f"intervals: {level:.1%}, of the mean difference over the seeds that both have"
