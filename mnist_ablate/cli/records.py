"""The commands on what is recorded: `report`, `compare`, `verify`, `ui`, `sync`, `export` and `restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from mnist_ablate.cli import options
from mnist_ablate.cli.options import name_of, named, settings_of
from mnist_ablate.cli.sweeps import FAILED_TRIALS
from mnist_ablate.errors import SweepError
from mnist_ablate.text import counted, plainly

if TYPE_CHECKING:
    from mnist_ablate.reports.report import RecordedSweep, Report

Format = Literal["table", "md", "html", "svg", "png", "json", "bundle", "csv"]
SUFFIXES = dict(zip((".txt", ".md", ".html", ".svg", ".png", ".json", ".zip", ".csv"), get_args(Format), strict=True))
All = Annotated[bool, typer.Option("--all", help="Every recorded sweep.")]


def report(
    source: Annotated[str, named("[NAME|FILE]", "A shipped sweep, or a sweep file.")] = "",
    form: Annotated[
        Format | None, typer.Option("--format", help="How to write it: a table unless the name of --output tells.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A file in place of stdout.")] = None,
    compared: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="NAME[/N] NAME[/N]", help="Two records, as `compare`."),
    ] = None,
    home: options.Home = None,
) -> None:
    """Show the arms and verdicts of what is recorded of a sweep."""
    if bool(source) == bool(compared):
        raise SweepError("report takes a sweep, or --compare and two: report normalization")
    form = form or SUFFIXES.get((output.suffix.lower() if output else "") or ".txt")
    if form is None:
        known = f"no format has this suffix; known: {', '.join(SUFFIXES)}"
        raise SweepError(f"{plainly(str(output))}: {known}; or give --format")
    if output is None and form in {"png", "bundle"}:
        name = "NAME.png" if form == "png" else "NAME.zip"
        raise SweepError(f"--format {form} is no text: name a file with --output {name}")
    if compared and form not in {"table", "json"}:
        raise SweepError(f"--compare writes table or json, not {form}: leave --format out")
    text = _compared(compared, home, as_json=form == "json") if compared else _written(source, form, home, output)
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
    elif text:
        output.write_text(text, encoding="utf-8")


def _written(source: str, form: Format, home: Path | None, output: Path | None) -> str:
    """The report as text; nothing if it is in the file already."""
    from mnist_ablate.execution import recorded_report
    from mnist_ablate.processes import whole_file
    from mnist_ablate.reports import trial_table

    settings = settings_of(home)
    found, record = recorded_report.report(name_of(source), settings)
    if form == "csv":
        return trial_table.table(record.plan, record.entries())
    if form in {"json", "md", "table"}:
        return as_text(found, None, form)
    if form == "bundle" and output:
        content, digest = recorded_report.bundle(record, settings, found)
        with whole_file(output) as part:
            part.write_bytes(content)
        typer.echo(f"{output}: digest {digest}")
        return ""
    sweep = recorded_report.recorded_sweep(record)
    if form == "png" and output:
        from mnist_ablate.reports import charts, drawing

        drawing.to_png(charts.main_chart(found, sweep), output)
        return ""
    return as_text(found, sweep, form)


def as_text(found: "Report", recorded: "RecordedSweep | None", form: str) -> str:
    """A report in a format that is text. A page and a chart show what is `recorded`."""
    from rich.console import Console

    from mnist_ablate.reports import markdown, terminal

    if form == "json":
        return found.model_dump_json()
    if form == "md":
        return markdown.markdown(found, found.asked.question)
    if form == "table" or recorded is None:
        console = Console()
        with console.capture() as capture:
            console.print(terminal.tables(found))
        return capture.get()
    from mnist_ablate.reports import charts, drawing, html  # which import matplotlib

    if form == "html":
        return html.html(found, recorded)
    return drawing.to_svg_file(charts.main_chart(found, recorded))


def compare(
    first: Annotated[str, named("NAME[/N]")],
    second: Annotated[str, named("NAME[/N]")],
    as_json: options.Json = False,
    home: options.Home = None,
) -> None:
    """Compare two recorded sweeps, or two records of one: NAME/1 is the first, NAME the latest."""
    typer.echo(_compared((first, second), home, as_json=as_json))


def _compared(sources: tuple[str, str], home: Path | None, *, as_json: bool) -> str:
    from mnist_ablate.ledger import progress
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.reports import comparison

    ledger, sides = Ledger(settings_of(home).ledger_url), []
    for source in sources:
        name, slash, number = source.rpartition("/") if source.rpartition("/")[2].isdecimal() else (source, "", "")
        record = ledger.find(name_of(name), int(number) if slash else None)
        rows = progress.rows(record.plan, record.entries())
        if not rows:
            raise SweepError(f"{source}: no trial is recorded yet: run `mnist-ablate sweep {name}` first")
        asked = record.sweep
        about = {"sweep": record.name, "digest": asked.digest, "registered": record.registered}
        sides.append(comparison.Side(**about, asked=asked, rows=rows))
    found = comparison.compare(sides[0], sides[1])
    return found.model_dump_json() if as_json else found.text()


def verify(
    source: Annotated[str, named("NAME|FILE|BUNDLE.zip", "A recorded sweep, or what `report --format bundle` wrote.")],
    home: options.Home = None,
) -> None:
    """Check that plan, ledger and MLflow agree, or that the verdicts of a bundle follow from its records."""
    if source.lower().endswith(".zip"):
        from mnist_ablate.verification import bundle_check

        checked = bundle_check.check(Path(source))
        problems, verdicts = checked.problems, f"{checked.claims} verdicts follow from {checked.trials} recorded trials"
        published = f"digest {checked.digest}: compare it with the one that was published"
        good = [f"{Path(source).name}: {verdicts}", published]
    else:
        from mnist_ablate.verification import verify as checks

        problems = checks.problems(name_of(source), settings_of(home))
        good = [f"{name_of(source)}: plan, ledger and MLflow agree"]
    for line in problems or good:
        typer.echo(line)
    if problems:
        raise typer.Exit(FAILED_TRIALS)


def ui(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to serve.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page.")] = True,
    home: options.Home = None,
) -> None:
    """Serve MLflow's web page on the embedded store."""
    from mnist_ablate.tracking import web_ui

    settings = settings_of(home)
    settings.home.mkdir(parents=True, exist_ok=True)
    raise typer.Exit(web_ui.serve(settings, port, open_browser=open_browser, show=typer.echo))


def sync(
    source: Annotated[str, named("[NAME|FILE]", "A recorded sweep.")] = "",
    everything: All = False,
    home: options.Home = None,
) -> None:
    """Send MLflow what it lacks of a recorded sweep, or of every sweep with --all."""
    from mnist_ablate.execution import recorded_report
    from mnist_ablate.ledger.ledger import Ledger

    if bool(source) == everything:
        raise SweepError("sync takes the name of a sweep, or --all")
    settings = settings_of(home)
    for name in Ledger(settings.ledger_url).names() if everything else [name_of(source)]:
        sent, total, notice = recorded_report.sync(name, settings)
        typer.echo(f"{name}: MLflow has all {total} trials ({sent} sent now)")
        if notice:
            typer.echo(f"{name}: {notice}", err=True)


def export(
    words: Annotated[list[str], named("[NAME|FILE] OUTPUT", "A sweep unless --all, and the file to write.")],
    everything: All = False,
    home: options.Home = None,
) -> None:
    """Write every record of a sweep, or of all sweeps, to one file that `restore` reads."""
    from mnist_ablate.ledger import backup
    from mnist_ablate.ledger.ledger import Ledger
    from mnist_ablate.service import queue_backup

    if len(words) != 2 - everything:
        wanted = "a sweep and the file to write, or --all and the file"
        raise SweepError(f"export takes {wanted}: export normalization a.zip")
    url = settings_of(home).ledger_url
    names = Ledger(url).names() if everything else [name_of(words[0])]
    queue, queued = queue_backup.dump(url) if everything else (b"", 0)
    counts, sha256 = backup.export(url, names, Path(words[-1]), queue)
    for name, trials in counts.items():
        typer.echo(f"{name}: {trials} trials")
    if queued:
        typer.echo(f"queue of the service: {counted(queued, 'sweep')}")
    typer.echo(f"{words[-1]}: sha256 {sha256}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")],
    home: options.Home = None,
) -> None:
    """Add the records of a backup to the ledger, and its sweeps to the queue. What is already there stays."""
    from mnist_ablate.ledger import backup
    from mnist_ablate.service import queue_backup

    url = settings_of(home).ledger_url
    for name, (trials, written) in backup.restore(url, source).items():
        typer.echo(f"{name}: {trials} trials, {written} written now")
    if content := backup.queue_in(source):
        queued, added = queue_backup.load(url, content)
        typer.echo(f"queue of the service: {counted(queued, 'sweep')}, {added} added now")
    typer.echo("update MLflow with: mnist-ablate sync --all", err=True)
