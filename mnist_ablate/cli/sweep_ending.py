"""How `sweep` ends: verdicts shown and published, the winner registered, a webhook told, the exit code."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mnist_ablate.execution.driver import Result
    from mnist_ablate.reports.report import Report
    from mnist_ablate.settings import Settings

FAILED_TRIALS, NOT_IN_STEP = 1, 7


def end(result: "Result", settings: "Settings", *, as_json: bool, register: bool) -> None:
    """Judge, show, publish; leave with the exit code that says how it went."""
    from mnist_ablate.execution import publishing
    from mnist_ablate.reports import judging
    from mnist_ablate.service import webhook

    sweep = result.record.sweep
    report = judging.of_rows(sweep, result.rows, result.counts, result.about)
    show(report, as_json=as_json)
    in_step = result.delivered
    if in_step and not result.published and not result.interrupted:
        in_step = publishing.try_to_publish(result.record, result.records, result.mirror, settings, report)
    if not in_step:
        typer.echo(f"MLflow is not up to date: run: mnist-ablate sync {sweep.name}", err=True)
    if result.link:
        page = "  (start it with: mnist-ablate ui)" if settings.tracking_uri == settings.embedded_uri else ""
        typer.echo(f"runs: {result.link}{page}", err=True)
    if result.interrupted:
        typer.echo(
            f"stopped at {result.recorded} of {result.planned} trials; run the same command again to continue", err=True
        )
    elif register:
        in_step = _register(result, settings, report) if in_step else in_step
    code = _exit_code(result, in_step=in_step)
    if settings.webhook and (failure := webhook.ended(settings.webhook, report, result.link, code)):
        typer.echo(failure, err=True)
    raise typer.Exit(code)


def show(report: "Report", *, as_json: bool) -> None:
    """The arms and verdicts on stdout."""
    from mnist_ablate.reports import terminal

    if as_json:
        typer.echo(report.model_dump_json())
    else:
        console(stderr=False).print(terminal.tables(report))


def console(*, stderr: bool) -> "Console":
    """Where a person looks."""
    from rich.console import Console

    return Console(stderr=stderr)


def _register(result: "Result", settings: "Settings", report: "Report") -> bool:
    """False, after a line that says so, if MLflow could not be reached for it."""
    from mnist_ablate.errors import UnreachableError
    from mnist_ablate.tracking import model_registry

    verdicts = {claim.name: claim.verdict for claim in report.claims}
    try:
        line = model_registry.register(result.record, result.mirror, settings, verdicts)
    except UnreachableError as error:
        typer.echo(f"{error}; the winner is not registered: run again with --register", err=True)
        return False
    typer.echo(line, err=True)
    return True


def _exit_code(result: "Result", *, in_step: bool) -> int:
    if result.interrupted:
        return 128 + result.interrupted
    if result.broken:
        return FAILED_TRIALS
    return 0 if in_step else NOT_IN_STEP
