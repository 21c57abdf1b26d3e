"""A report as Markdown, what matters most first: the note of the MLflow run, and `report --format md`."""

import re
from collections.abc import Iterator, Sequence

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.reports.sections import EXCEPTIONS, one_line
from mnist_ablate.workloads.workload import Section, Table

_SPECIAL = re.compile(r"([\\`*\[\]#~])")


def markdown(report: Report, question: str) -> str:
    """Alarms, verdicts and remarks, then what was chosen, the arms, effects and inputs."""
    lines = [f"# {_inline(question)}", ""]
    lines += [f"**{_inline(alarm)}**\n" for alarm in wording.alarms(report)]
    lines += _claims(report) if report.claims else []
    for section in sections.selection(report):
        lines += _section(section)
    arms = sections.arm_table(report, report.arms)
    lines += [f"**{arms.caption}** ({wording.trials(report)})", "", *_table(arms), ""]
    for section in (*sections.effects(report), *sections.inputs(report)):
        lines += _section(section)
    return "\n".join(lines)


def _claims(report: Report) -> Iterator[str]:
    yield from (f"{wording.tally(report)}.", "")
    heads = ("claim", "verdict", "difference", f"{wording.level(report)} interval", "margin", "p", "pairs")
    rows = [
        (
            _inline(claim.statement),
            f"**{claim.verdict}**{wording.mark(report)}",
            wording.effect(claim.metric, claim.effect),
            wording.interval(claim),
            wording.margin(claim),
            wording.p_value(claim.p_value),
            str(claim.n_pairs),
        )
        for claim in report.claims
    ]
    yield from (*_rows(heads, rows, 2), "")
    for claim in report.claims:
        text = f"{wording.explanation(claim, report)} {wording.left_out(claim)}"
        yield f"- **{_inline(claim.name)}**: {_inline(text)}"
    yield from ("", wording.glossary(report), "")
    for remark in wording.remarks(report):
        yield from (_inline(remark), "")


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {_inline(section.title)}", "")
    if section.intro:
        yield from (_inline(section.intro), "")
    for table in section.tables:
        if table.caption:
            yield from (f"**{_inline(table.caption)}**", "")
        yield from (*_table(table), "")
        if table.note:
            yield from (_inline(table.note), "")
    if section.lines:
        yield from (*(f"- {_inline(line)}" for line in section.lines), "")
    for note in section.notes:
        yield from (_inline(note), "")


def _table(table: Table) -> Iterator[str]:
    return _rows(tuple(map(_inline, table.heads)), [tuple(map(_inline, row)) for row in table.rows], table.numbers_from)


def _rows(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers_from: int) -> Iterator[str]:
    """A table of cells that are Markdown already."""
    marks = ["---:" if i >= numbers_from and head != EXCEPTIONS else "---" for i, head in enumerate(heads)]
    for row in (heads, marks, *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _inline(text: str) -> str:
    """Text on one line, none of it read as Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", one_line(text)).replace("&", "&amp;").replace("<", "&lt;")
