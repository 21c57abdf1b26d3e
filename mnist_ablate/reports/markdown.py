"""A report as Markdown, what matters most first: the notes of MLflow's page, and `report --format md`."""

import re

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report


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
    said = [
        f"- {wording.SIGNS[each.verdict]} **{each.verdict}**{wording.mark(report)}: {_inline(each.statement)} "
        f"{wording.estimate(each)}"
        for each in claims
    ]
    about = f"In parentheses: {wording.level(report)} intervals of the difference, treatment minus control."
    told = [f"{wording.say('tally', report)}.", "\n".join(said), about] if claims else []
    told += [
        *(f"**{_inline(alarm)}**" for alarm in wording.alarms(report)),
        f"![The verdicts]({picture})" if picture else "",
    ]
    return "\n\n".join(filter(None, [*told, _inline(question)])) + "\n"


def _inline(text: str) -> str:
    """Text on one line, none of it read as Markdown or HTML."""
    one_line = sections.one_line(text)
    return re.sub(r"([\\`*\[\]#~])", r"\\\1", one_line).replace("&", "&amp;").replace("<", "&lt;")
