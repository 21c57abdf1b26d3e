"""A report as Markdown, what matters most first: the note of the MLflow run, and `report --format md`."""

import re

from mnist_ablate.reports import sections, wording
from mnist_ablate.reports.report import Report


def markdown(report: Report, question: str) -> str:
    """Alarms, verdicts and remarks, then what was chosen, the arms, effects and inputs."""
    given = {"report": report, "question": question, "sections": sections, "wording": wording, "inline": _inline}
    given["inlined"] = lambda cells: [*map(_inline, cells)]
    text = wording.templates().get_template("report.md.jinja").render(given)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _inline(text: str) -> str:
    """Text on one line, none of it read as Markdown or HTML."""
    one_line = sections.one_line(text)
    return re.sub(r"([\\`*\[\]#~])", r"\\\1", one_line).replace("&", "&amp;").replace("<", "&lt;")
