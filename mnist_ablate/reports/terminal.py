"""A report for the terminal: the arms, then every claim with its verdict, then what was chosen."""

from collections.abc import Iterator

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.reports.sections import EXCEPTIONS, one_line
from mnist_ablate.workloads.workload import Section, Table

_COLORS = {"supported": "green", "refuted": "red", "equivalent": "cyan", "inconclusive": "yellow"}
_INDENT = 14
_GAP = 3  # between columns: the padding of both, and a line that is not drawn
_LONG = 30  # rows: then the column heads stand below too, where a terminal shows them


def tables(report: Report) -> RenderableType:
    """The arms, then every claim with its verdict and what it rests on, for a terminal of any width."""
    return Group(
        *(Text(f"{alarm}\n", style="bold red") for alarm in wording.alarms(report)),
        Text(f"{report.metric} by arm", style="bold"),
        _Arms(sections.arm_table(report, report.arms)),
        Text(f"{wording.say('trials', report)}\n"),
        *(part for section in sections.inputs(report) for part in (*_section(section), Text())),
        *_claims(report),
        *(part for section in sections.reach(report) for part in (Text(), *_section(section))),
        *(part for section in sections.selection(report) for part in (Text(), *_section(section))),
    )


def _section(section: Section) -> Iterator[RenderableType]:
    yield Text(section.title, style="bold")
    if section.intro:
        yield Text(section.intro)
    for head, lines in section.short.items():
        yield Padding(Text(head), (0, 0, 0, 2)) if head else Text()
        yield Padding(Text("\n".join(lines)), (0, 0, 0, 4 if head else 0))
    if not section.short:
        for table in section.tables:
            if table.caption:
                yield Text(table.caption)
            yield _table(table, wraps=table.numbers_from >= len(table.heads))
            if table.note:
                yield Text(table.note, style="dim")
        yield from (Text(line, style="yellow") for line in section.lines)
    yield from (Text(note, style="dim") for note in section.notes)


class _Arms:
    """The table of arms: a column for each factor if they fit the terminal, else one column that wraps."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table, factors = self._table, self._table.numbers_from
        columns = (
            (head,) if head == EXCEPTIONS else (head, *cells)
            for head, *cells in zip(table.heads, *table.rows, strict=True)
        )
        width = sum(max(map(cell_len, column)) + _GAP for column in columns) - _GAP  # nothing but the exceptions wraps
        if width > options.max_width and factors > 1:
            names = table.heads[:factors]
            named = (", ".join(map("{}={}".format, names, row)) for row in table.rows)
            rows = tuple((name, *row[factors:]) for name, row in zip(named, table.rows, strict=True))
            table = Table(("arm", *table.heads[factors:]), rows)
        yield _table(table)


def _table(table: Table, *, wraps: bool = False) -> RichTable:
    """`wraps` is for tables of words, of which nothing may be cut off; in others numbers and names stay whole."""
    made = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=len(table.rows) >= _LONG)
    for i, name in enumerate(table.heads):
        is_text = i < table.numbers_from or name == EXCEPTIONS
        made.add_column(
            Text(name, no_wrap=not wraps),
            footer=Text(name),
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not wraps and (not is_text or (table.numbers_from > 1 and i < table.numbers_from)),
        )
    for row in table.rows:
        made.add_row(*map(Text, row))
    return made


def _claims(report: Report) -> Iterator[RenderableType]:
    for claim in report.main_claims:
        head = RichTable.grid(padding=(0, 1, 0, 0))
        head.add_column(width=_INDENT - 1)
        verdict = Text(claim.verdict.upper(), style=f"bold {_COLORS[claim.verdict]}")
        head.add_row(verdict, Text(f"{one_line(claim.statement)}{wording.mark(report)}", style="bold"))
        yield head
        text = f"{wording.sentence(claim, report)} {wording.left_out(claim)}".rstrip()
        yield Padding(Text(text), (0, 0, 0, _INDENT))
        for caveat in wording.caveats(claim, report):
            yield Padding(Text(f"Caveat: {caveat}."), (0, 0, 0, _INDENT))
    if report.claims:
        yield Text(f"\n{wording.say('glossary', report)}", style="dim")
        yield from (Text(remark, style="dim") for remark in wording.remarks(report))
        yield Text(wording.say("tally", report), style="bold")
