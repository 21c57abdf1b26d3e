"""A report as Markdown, what matters most first: the note of the MLflow run, and `report --format md`."""

import re
from collections.abc import Iterator, Sequence

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.reports.sections import EXCEPTIONS, one_line
from mnist_ablate.workloads.workload import Section, Table


def markdown(report: Report, question: str) -> str:
    """Alarms, verdicts and remarks, then what was chosen, the arms, effects and inputs."""
    arms = sections.arm_table(report, report.arms)
    blocks = [
        f"# {_inline(question)}",
        *(f"**{_inline(alarm)}**" for alarm in wording.alarms(report)),
        *(_claims(report) if report.claims else ()),
        *(block for section in sections.selection(report) for block in _section(section)),
        f"**{arms.caption}** ({wording.say('trials', report)})",
        _table(arms),
        *(block for section in sections.effects(report) for block in _section(section)),
        *(block for section in sections.inputs(report) for block in _section(section)),
    ]
    return "\n\n".join(blocks) + "\n"


def _claims(report: Report) -> Iterator[str]:
    heads = ("claim", "verdict", "difference", f"{wording.level(report)} interval", "margin", "p", "pairs")
    rows, lines = [], []
    for claim in report.claims:
        verdict, difference = f"**{claim.verdict}**{wording.mark(report)}", wording.effect(claim.metric, claim.effect)
        numbers = (wording.interval(claim), wording.margin(claim), f"{claim.p_value:.3g}", str(claim.n_pairs))
        rows.append((_inline(claim.statement), verdict, difference, *numbers))
        text = f"{wording.explanation(claim, report)} {wording.left_out(claim)}"
        lines.append(f"- **{_inline(claim.name)}**: {_inline(text)}")
    yield from (
        f"{wording.say('tally', report)}.",
        _rows(heads, rows, 2),
        "\n".join(lines),
        wording.say("glossary", report),
    )
    yield from map(_inline, wording.remarks(report))


def _section(section: Section) -> Iterator[str]:
    yield f"## {_inline(section.title)}"
    if section.intro:
        yield _inline(section.intro)
    for table in section.tables:
        if table.caption:
            yield f"**{_inline(table.caption)}**"
        yield _table(table)
        if table.note:
            yield _inline(table.note)
    if section.lines:
        yield "\n".join(f"- {_inline(line)}" for line in section.lines)
    yield from map(_inline, section.notes)


def _table(table: Table) -> str:
    return _rows([*map(_inline, table.heads)], [[*map(_inline, row)] for row in table.rows], table.numbers_from)


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    """A table of cells that are Markdown already."""
    marks = ["---:" if i >= numbers_from and head != EXCEPTIONS else "---" for i, head in enumerate(heads)]
    lines = ([cell.replace("|", "\\|") for cell in row] for row in (heads, marks, *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inline(text: str) -> str:
    """Text on one line, none of it read as Markdown or HTML."""
    return re.sub(r"([\\`*\[\]#~])", r"\\\1", one_line(text)).replace("&", "&amp;").replace("<", "&lt;")
