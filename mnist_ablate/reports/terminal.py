"""A judged sweep for people, from the JSON document alone: terminal tables and Markdown; `page` has the plots."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mnist_ablate.reports import chosen, effect_tables, repeated, sentences
from mnist_ablate.reports.sentences import Document, exceptions
from mnist_ablate.text import effect, number
from mnist_ablate.workloads.keras_mnist import input_words

__all__ = ["Document", "markdown", "number", "tables"]

_COLORS = {"supported": "green", "refuted": "red", "equivalent": "cyan", "inconclusive": "yellow"}
_INDENT = 14
_LONG = 30  # rows: then the column heads stand below too, where a terminal shows them
_FEW = 6  # columns: more of them do not fit a terminal
_EXCEPTIONS = "not complete"
_SPECIAL = re.compile(r"([\\`*\[\]#~])")


def tables(document: Document) -> RenderableType:
    """The arms, then every claim with its verdict and what it rests on, for a terminal of any width."""
    parts = (_fingerprints, _claims, _selection)
    return Group(*_alarms(document), _Arms(document), Text(), *(each for part in parts for each in part(document)))


def markdown(document: Document, question: str) -> str:
    """The same as Markdown, what matters most first: the note of the MLflow run, and `report --format md`."""
    head = [f"# {_inline(question)}", ""]
    head += [f"**{_inline(alarm)}**\n" for alarm in sentences.alarms(document)]
    head += [f"**{_inline(warning)}**\n"] if (warning := sentences.exploratory(document)) else []
    head += [f"**Data gate**: {_inline(text)}\n" for text in input_words.damage(document["fingerprints"])]
    if claims := document["claims"]:
        columns = ("claim", "verdict", "difference", f"{sentences.level(document)} interval", "margin", "p", "pairs")
        head += [f"{sentences.tally(document)}.", ""]
        head += [*_markdown_table("llrrrrr", [columns, *(_claim_cells(claim, document) for claim in claims)]), ""]
        head += [*(_reason(claim, document) for claim in claims), "", sentences.glossary(document), ""]
        head += [_inline(registered), ""] if (registered := sentences.registration(document)) else []
        head += [_inline(saving), ""] if (saving := repeated.saving(document)) else []
        for control in sentences.controls(document):
            head += [_inline(control), ""]
    head += _markdown_selection(document)
    title = f"**{sentences.plain(document['metric'])} by arm** ({sentences.trials(document)})"
    arms = _markdown_table(
        "l" * len(_factors(document)) + "rrrl", [[*map(_inline, row)] for row in _arm_rows(document)]
    )
    return "\n".join([*head, title, "", *arms, "", *_markdown_effects(document), *_markdown_inputs(document)])


def _markdown_effects(document: Document) -> Iterator[str]:
    if sizes := effect_tables.sizes(document):
        table = [effect_tables.SIZES_HEADS, *sizes]
        yield from (
            f"**{effect_tables.SIZES_TITLE}**",
            "",
            *_markdown_table("lrr", [[*map(_inline, r)] for r in table]),
        )
        yield from ("", _inline(effect_tables.sizes_note(document)), "")
    if effects := effect_tables.effects(document):
        table = [effect_tables.EFFECTS_HEADS, *effects]
        yield from (f"**{effect_tables.effects_title(document)}**", "")
        yield from (*_markdown_table("lrrrr", [[*map(_inline, row)] for row in table]), "")
        yield from (_inline(effect_tables.effects_note(document)), "")


def _markdown_selection(document: Document) -> Iterator[str]:
    if both := [*chosen.both(document)]:
        yield from (f"**{chosen.BOTH_TITLE}**: {chosen.both_note(document)}", "")
        table = [chosen.both_heads(document), *both]
        yield from (*_markdown_table("lll", [[*map(_inline, row)] for row in table]), "")
    if rows := chosen.path(document):
        yield from (f"**{chosen.PATH_TITLE}**: {chosen.path_note(document)}", "")
        yield from (*_markdown_table("llll", [[*map(_inline, row)] for row in rows]), "")
    if rows := chosen.values(document):
        yield from (f"**{chosen.VALUES_TITLE}**", "")
        yield from (*_markdown_table("l" + "r" * (len(rows[0]) - 1), [[*map(_inline, row)] for row in rows]), "")
    yield from (f"{_inline(text)}\n" for text in chosen.edges(document))
    yield from (f"{_inline(text)}\n" for text in filter(None, [chosen.gain(document)]))
    if rows := chosen.importances(document):
        yield from (f"**{chosen.IMPORTANCE_TITLE}**", "", *_markdown_table("lrr", rows), "", chosen.IMPORTANCE_NOTE, "")


def _markdown_inputs(document: Document) -> Iterator[str]:
    prints = document["fingerprints"]
    if prints:
        yield from (f"**{input_words.TITLE}**", "")
        yield from _markdown_table(
            "lrrrrrrrrrrl", [input_words.HEADS, *([*map(_inline, input_words.cells(each))] for each in prints)]
        )
        yield from ("", *(f"- {_inline(text)}" for text in input_words.paths(prints)), "", input_words.GLOSSARY, "")


def _alarms(document: Document) -> Iterator[RenderableType]:
    """What must be known before any number is read."""
    for alarm in sentences.alarms(document):
        yield Text(f"{alarm}\n", style="bold red")
    if warning := sentences.exploratory(document):
        yield Text(f"{warning}\n", style="bold yellow")
    for text in input_words.damage(document["fingerprints"]):
        yield Text(f"data gate: {text}\n", style="bold red")


def _fingerprints(document: Document) -> Iterator[RenderableType]:
    prints = document["fingerprints"]
    if not prints:
        return
    yield Text(input_words.TITLE, style="bold")
    for found in prints:
        yield Padding(Text(found["normalizer"]), (0, 0, 0, 2))
        yield Padding(Text("\n".join(input_words.lines(found))), (0, 0, 0, 4))
    yield Text()


def _selection(document: Document) -> Iterator[RenderableType]:
    """What was chosen on validation data, and the verdicts on the recipe as it was written."""
    if both := [*chosen.both(document)]:
        yield Text(f"\n{chosen.BOTH_TITLE}", style="bold")
        yield _table([chosen.both_heads(document), *both], len(both[0]), wraps=True)
        yield Text(chosen.both_note(document), style="dim")
    if rows := chosen.path(document):
        yield Text(f"\n{chosen.PATH_TITLE}", style="bold")
        yield _table(rows, len(rows[0]), wraps=True)
        yield Text(chosen.path_note(document), style="dim")
    if rows := chosen.values(document):
        yield Text(f"\n{chosen.VALUES_TITLE}", style="bold")
        yield _table(rows, 1) if len(rows[0]) <= _FEW else Text("\n".join(chosen.value_lines(document)))
    for text in chosen.edges(document):
        yield Text(text, style="yellow")
    if gain := chosen.gain(document):
        yield Text(f"\n{gain}")
    if rows := chosen.importances(document):
        yield Text(f"\n{chosen.IMPORTANCE_TITLE}", style="bold")
        yield _table(rows, 1)
        yield Text(chosen.IMPORTANCE_NOTE, style="dim")


class _Arms:
    """The table of arms: a column for each factor if they fit the terminal, else one column that wraps."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._factors = len(_factors(document))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        rows, factors = list(_arm_rows(self._document)), self._factors
        if _width(rows) > options.max_width and factors > 1:
            named = [", ".join(map("{}={}".format, rows[0], row[:factors])) for row in rows[1:]]
            rows = [(arm, *row[factors:]) for arm, row in zip(["arm", *named], rows, strict=True)]
            factors = 1
        yield Text(f"{self._document['metric']} by arm", style="bold")
        yield _table(rows, factors)
        yield Text(sentences.trials(self._document))


def _table(rows: Sequence[Sequence[str]], factors: int, *, wraps: bool = False) -> Table:
    """`wraps` is for tables of words, of which nothing may be cut off; in others numbers and names stay whole."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=len(rows) > _LONG)
    for i, name in enumerate(rows[0]):
        is_text = i < factors or name == _EXCEPTIONS
        table.add_column(
            Text(name, no_wrap=not wraps),
            footer=Text(name),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not wraps and (not is_text or (factors > 1 and i < factors)),
        )
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Terminal cells that a table needs so that nothing but the exceptions wraps."""
    columns = [column for column in zip(*rows, strict=True) if column[0] != _EXCEPTIONS]
    last = [cell_len(_EXCEPTIONS)] if _EXCEPTIONS in rows[0] else []
    return sum(size + 2 for size in [*(max(map(cell_len, column)) for column in columns), *last]) - 2


def _claims(document: Document) -> Iterator[RenderableType]:
    for claim in document["claims"]:
        verdict = claim["verdict"]
        mark = " (exploratory)" if sentences.is_exploratory(document) else ""
        words = Text(f"{_line(claim['statement'])}{mark}", style="bold")
        head = Table.grid(padding=(0, 1, 0, 0))
        head.add_column(width=_INDENT - 1)
        head.add_row(Text(verdict.upper(), style=f"bold {_COLORS[verdict]}"), words)
        yield head
        details = [sentences.sentence(claim, document), sentences.left_out(claim)]
        yield Padding(Text(" ".join(filter(None, details))), (0, 0, 0, _INDENT))
    if document["claims"]:
        yield Text(f"\n{sentences.glossary(document)}", style="dim")
        about = (sentences.registration(document), repeated.saving(document), *sentences.controls(document))
        for told in filter(None, about):
            yield Text(told, style="dim")
        yield Text(sentences.tally(document), style="bold")


def _claim_cells(claim: Mapping[str, Any], document: Document) -> tuple[str, ...]:
    mark = " (exploratory)" if sentences.is_exploratory(document) else ""
    return (
        _inline(claim["statement"]),
        f"**{claim['verdict']}**{mark}",
        effect(claim["metric"], claim["effect"]),
        sentences.interval(claim),
        sentences.margin(claim),
        sentences.p_value(claim["p_value"]),
        str(claim["n_pairs"]),
    )


def _reason(claim: Mapping[str, Any], document: Document) -> str:
    text = f"- **{_inline(claim['name'])}**: {_inline(sentences.explanation(claim, document))}"
    return f"{text} {_inline(sentences.left_out(claim))}".rstrip()


def _factors(document: Document) -> tuple[str, ...]:
    return tuple(document["arms"][0]["params"]) if document["arms"] else ()


def _arm_rows(document: Document) -> Iterator[tuple[str, ...]]:
    """The column heads, then the arms; a column of exceptions only if there are any."""
    metric, arms = document["metric"], document["arms"]
    noted = [exceptions(arm["outcomes"]) for arm in arms]
    last = 1 if any(noted) else 0
    heads = (*_factors(document), "n", "mean", f"{100 * (1 - document['alpha']):.3g}% interval")
    yield (*heads, *[_EXCEPTIONS][:last])
    for arm, note in zip(arms, noted, strict=True):
        low, high = (number(metric, arm[part]) for part in ("ci_low", "ci_high"))
        limits = "unknown" if arm["ci_low"] is None else f"{low} to {high}"
        values = (_line(str(value)) for value in arm["params"].values())
        yield (*values, str(arm["n"]), number(metric, arm["mean"]), limits, *[note][:last])


def _markdown_table(justify: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows, the column heads first, as a table of cells that are Markdown already."""
    marks = ["---:" if side == "r" else "---" for side in justify[: len(rows[0])]]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (rows[0], marks, *rows[1:])]


def _line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def _inline(text: str) -> str:
    """User text on one line, none of it read as Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", _line(text)).replace("&", "&amp;").replace("<", "&lt;")
