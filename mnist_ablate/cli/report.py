"""`report` writes what is recorded of a sweep in many forms; nothing is trained."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ablate.cli import compare, sweep_ending
from mnist_ablate.cli.options import Home, complete_source, name_of, settings_of
from mnist_ablate.errors import SweepError

if TYPE_CHECKING:
    from mnist_ablate.ledger.ledger import Record
    from mnist_ablate.reports.report import Report
    from mnist_ablate.settings import Settings


class Format(StrEnum):
    """What `report` can write."""

    table = "table"
    md = "md"
    html = "html"
    svg = "svg"
    png = "png"
    json = "json"
    bundle = "bundle"


_SUFFIXES = {
    ".txt": Format.table,
    ".md": Format.md,
    ".html": Format.html,
    ".svg": Format.svg,
    ".png": Format.png,
    ".json": Format.json,
    ".zip": Format.bundle,
}
_FILES = {Format.png: "png", Format.bundle: "zip"}
_COMPARED = (Format.table, Format.json)


def report(
    source: Annotated[
        str,
        typer.Argument(metavar="[NAME|FILE]", help="A shipped sweep, or a sweep file.", autocompletion=complete_source),
    ] = "",
    form: Annotated[
        Format | None, typer.Option("--format", help="How to write it: a table unless the name of --output tells.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A file in place of stdout.")] = None,
    compared: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="NAME[/N] NAME[/N]", help="Two records, as `compare`."),
    ] = None,
    home: Home = None,
) -> None:
    """Show the arms and verdicts of what is recorded of a sweep."""
    if bool(source) == bool(compared):
        raise SweepError("report takes a sweep, or --compare and two: report normalization")
    form = form or _told_by(output)
    if output is None and form in _FILES:
        raise SweepError(f"--format {form.value} is no text: name a file with --output NAME.{_FILES[form]}")
    if compared:
        text = _compared(compared, form, home)
    else:
        text = _written(name_of(source), form, settings_of(home, None), output)
    if text and output is None:
        typer.echo(text, nl=not text.endswith("\n"))
    elif text and output is not None:
        output.write_text(text, encoding="utf-8")


def _told_by(output: Path | None) -> Format:
    """The format that a file's suffix stands for; without a file or a suffix, a table."""
    if output is None or not output.suffix:
        return Format.table
    form = _SUFFIXES.get(output.suffix.lower())
    if form is None:
        from mnist_ablate.text import plainly

        raise SweepError(
            f"{plainly(str(output))}: no format has this suffix; known: {', '.join(_SUFFIXES)}; or give --format"
        )
    return form


def _compared(names: tuple[str, str], form: Format, home: Path | None) -> str:
    if form not in _COMPARED:
        raise SweepError(f"--compare writes {' or '.join(_COMPARED)}, not {form.value}: leave --format out")
    return compare.text(*names, home, as_json=form is Format.json)


def _written(name: str, form: Format, settings: "Settings", output: Path | None) -> str:
    """The report as text; nothing if it is in the file already."""
    from mnist_ablate.execution import recorded_report
    from mnist_ablate.reports import markdown, terminal

    found, record = recorded_report.report(name, settings)
    if output is not None and form is Format.bundle:
        return _bundle(found, record, settings, output)
    if form is Format.json:
        return found.model_dump_json()
    if form is Format.md:
        return markdown.markdown(found, record.sweep.question)
    if form is not Format.table:
        return _drawn(found, record, form, output)
    console = sweep_ending.console(stderr=False)
    with console.capture() as capture:
        console.print(terminal.tables(found))
    return capture.get()


def _drawn(found: "Report", record: "Record", form: Format, output: Path | None) -> str:
    from mnist_ablate.execution import publishing
    from mnist_ablate.reports import charts, drawing, html

    sweep = publishing.recorded_sweep(record)
    if form is Format.html:
        return html.html(found, sweep)
    chart = charts.main_chart(found, sweep)
    if output is None or form is Format.svg:
        return drawing.to_svg_file(chart)
    drawing.to_png(chart, output)
    return ""


def _bundle(found: "Report", record: "Record", settings: "Settings", output: Path) -> str:
    from mnist_ablate.execution import publishing
    from mnist_ablate.processes import whole_file

    content, digest = publishing.bundle(record, settings, found)
    with whole_file(output) as part:
        part.write_bytes(content)
    typer.echo(f"{output}: digest {digest}")
    return ""
