"""A judged sweep for people: terminal tables and Markdown from the JSON document; judges nothing itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]

_COLORS = {"supported": "green", "refuted": "red", "equivalent": "cyan", "inconclusive": "yellow"}
_ACCURACY = "accuracy"


def tables(document: Document) -> RenderableType:
    """The arms, then every claim with its verdict and the reason, for a terminal."""
    return Group(_arm_table(document), Text(), *_claims(document))


def markdown(document: Document, question: str) -> str:
    """The same as Markdown: the note of the MLflow run, and `report --format md`."""
    head = [f"# {question}", ""]
    if document["claims"]:
        head += _markdown_table(_CLAIM_COLUMNS, (_claim_cells(claim) for claim in document["claims"]))
        head += ["", *(f"- **{claim['name']}**: {claim['reason']}" for claim in document["claims"]), ""]
    arms = _markdown_table(_arm_columns(document), _arm_rows(document))
    return "\n".join([*head, f"{document['metric']}, mean and 95% interval:", "", *arms, "", _trials(document), ""])


def number(metric: str, value: float | None) -> str:
    """Accuracies in percent to two digits, anything else to four significant ones."""
    if value is None:
        return "-"
    return f"{value:.2%}" if metric.endswith(_ACCURACY) else f"{value:.4g}"


def effect(metric: str, value: float | None) -> str:
    """A difference with its sign; accuracies in percentage points."""
    if value is None:
        return "-"
    return f"{100 * value:+.2f} pp" if metric.endswith(_ACCURACY) else f"{value:+.4g}"


def _arm_table(document: Document) -> Table:
    table = Table(title=f"{document['metric']} by arm, 95% interval", title_justify="left", title_style="bold")
    factors = len(document["arms"][0]["params"]) if document["arms"] else 0
    for i, column in enumerate(_arm_columns(document)):
        table.add_column(column, justify="left" if i < factors else "right")
    for row in _arm_rows(document):
        table.add_row(*row)
    table.caption, table.caption_justify = _trials(document), "left"
    return table


def _claims(document: Document) -> Iterator[RenderableType]:
    for claim in document["claims"]:
        verdict = claim["verdict"]
        yield Text.assemble((f"{verdict.upper():13}", f"bold {_COLORS[verdict]}"), (claim["statement"], "bold"))
        interval = f"{effect(claim['metric'], claim['ci_low'])} to {effect(claim['metric'], claim['ci_high'])}"
        yield Padding(Text(f"{effect(claim['metric'], claim['effect'])} ({interval}); {claim['reason']}"), (0, 0, 0, 13))


_CLAIM_COLUMNS = ("claim", "verdict", "effect", "simultaneous interval", "margin", "p (Holm)", "pairs")


def _claim_cells(claim: Mapping[str, Any]) -> tuple[str, ...]:
    metric = claim["metric"]
    return (
        claim["statement"],
        f"**{claim['verdict']}**",
        effect(metric, claim["effect"]),
        f"{effect(metric, claim['ci_low'])} to {effect(metric, claim['ci_high'])}",
        effect(metric, claim["margin"]).lstrip("+"),
        f"{claim['p_value']:.3g}",
        str(claim["n_pairs"]),
    )


def _arm_columns(document: Document) -> tuple[str, ...]:
    factors = tuple(document["arms"][0]["params"]) if document["arms"] else ()
    return (*factors, "n", "mean", "low", "high", "outcomes")


def _arm_rows(document: Document) -> Iterator[tuple[str, ...]]:
    metric = document["metric"]
    for arm in document["arms"]:
        yield (
            *(str(value) for value in arm["params"].values()),
            str(arm["n"]),
            *(number(metric, arm[part]) for part in ("mean", "ci_low", "ci_high")),
            ", ".join(f"{n} {status}" for status, n in arm["outcomes"].items() if n),
        )


def _trials(document: Document) -> str:
    counts = document["trials"]
    parts = [f"{n} {status}" for status, n in counts.items() if n and status != "planned"]
    return f"{counts['planned']} trials planned: {', '.join(parts) or 'none recorded'}"


def _markdown_table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
