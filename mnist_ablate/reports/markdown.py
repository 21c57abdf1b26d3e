"""A report as Markdown, what matters most first: the notes of MLflow's page, and `report --format md`."""

import re

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report
from mnist_ablate.statistics.claim_verdict import ClaimVerdict


def markdown(report: Report, question: str) -> str:
    """Alarms, verdicts and remarks, then what was chosen, the arms, effects and inputs.

    Without a question it is what follows a `headline`, which has the question and the alarms.
    """
    given = {"report": report, "question": question, "sections": sections, "wording": wording, "inline": _inline}
    given["inlined"] = lambda cells: [*map(_inline, cells)]
    text = wording.templates().get_template("report.md.jinja").render(given)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def headline(report: Report, question: str, picture: str) -> str:
    """How many claims stand, a line each, the picture at an address, the question. The first line has no marks.

    Where only a line is shown, it is a sentence.
    """
    claims = report.main_claims
    reach = {found.name: f"; {_inline(wording.say('reach', found))}" for found in report.reach}
    said = [
        f"- {wording.SIGNS[each.verdict]} **{each.verdict}**{wording.mark(report)}: {_inline(each.statement)} "
        f"{_measure(each)}{wording.estimate(each)}{reach.get(each.name, '')}"
        for each in claims
    ]
    about = f"In parentheses: {wording.level(report)} intervals. {wording.meanings(report)}"
    told = [f"{wording.say('tally', report)}.", "\n".join(said), about] if claims else []
    told += [
        *(f"**{_inline(alarm)}**" for alarm in wording.alarms(report)),
        f"![The verdicts]({picture})" if picture else "",
    ]
    return "\n\n".join(filter(None, [*told, _inline(question)])) + "\n"


def _measure(claim: ClaimVerdict) -> str:
    """What a number is that is no plain difference: `Slope per doubling of width: `."""
    return "" if claim.measure == "difference" else f"{_inline(claim.measure[:1].upper() + claim.measure[1:])}: "


def _inline(text: str) -> str:
    """Text on one line, none of it read as Markdown or HTML."""
    one_line = sections.one_line(text)
    return re.sub(r"([\\`*\[\]#~])", r"\\\1", one_line).replace("&", "&amp;").replace("<", "&lt;")
