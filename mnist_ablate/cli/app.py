"""The command line: parse, call, print. Results go to stdout, progress and messages to stderr."""

import errno
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from mnist_ablate.cli import compare, new, plan, records, report, service, sweep_ending
from mnist_ablate.cli.options import (
    Data,
    Home,
    Json,
    MaxTrials,
    Overrides,
    Quick,
    Seeds,
    Source,
    TlsCaFile,
    TlsCert,
    TlsKey,
    Weights,
    load_sweep,
    settings_of,
)
from mnist_ablate.errors import AblateError, DiskError, SweepError

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a claim about training a network into evidence and a verdict.",
    epilog="Add --debug to any command to see a traceback in place of a one-line error.",
)

_RARELY = (100_000, 20, 20)
"""Thresholds of the garbage collector. By default it takes a quarter of `report` at 10,000 trials, for nothing."""
_LEAVE_S = 1.0
_NO_SPACE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT}


@app.command(name="list")
def list_(what: Annotated[Literal["sweeps", "choices"] | None, typer.Argument()] = None) -> None:
    """List the shipped sweeps, and the values that a setting can have."""
    from mnist_ablate.sweep import sweep_file
    from mnist_ablate.workloads.workload import default_workload

    if what != "choices":
        typer.echo("sweeps")
        for name in sweep_file.shipped():
            typer.echo(f"  {name:22} {sweep_file.load(name).question}")
    if what != "sweeps":
        for setting, known in default_workload().choices.items():
            typer.echo(setting)
            for name, meaning in known.items():
                typer.echo(f"  {name:22} {meaning}")


app.command()(plan.plan)


@app.command()
def sweep(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Source,
    overrides: Overrides = None,
    seeds: Seeds = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes [one per core].")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDR", help="A Dask scheduler: tcp://host:8786.")] = None,
    quick: Quick = False,
    fresh: Annotated[bool, typer.Option(help="Begin a new record, and keep the old one.")] = False,
    as_json: Json = False,
    home: Home = None,
    data: Data = None,
    weights: Weights = None,
    trial_timeout: Annotated[
        float | None, typer.Option(min=1, metavar="S", help="Longest wait for news of a trial.")
    ] = None,
    require_mlflow: Annotated[bool, typer.Option(help="Do not start without MLflow.")] = False,
    register: Annotated[bool, typer.Option(help="Put the winner into MLflow's model registry.")] = False,
    max_trials: MaxTrials = 10_000,
    tls_ca_file: TlsCaFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
) -> None:
    """Train what is not yet recorded of a sweep, judge its claims, and show where to look."""
    from mnist_ablate.execution.dask_settings import tls_from_options

    certificates = tls_from_options(cluster, tls_ca_file, tls_cert, tls_key)
    question = load_sweep(source, overrides, seeds, quick)
    # These imports take seconds, so they wait until the file is found good.
    from mnist_ablate.cli.live_view import Watch
    from mnist_ablate.execution.cluster import default_jobs
    from mnist_ablate.execution.driver import drive
    from mnist_ablate.service.dask_service import check_address
    from mnist_ablate.service.webhook import failing

    if cluster is not None:
        check_address(cluster)
    settings = settings_of(
        home,
        data,
        weights=weights,
        jobs=jobs or default_jobs(),
        cluster=cluster,
        tls=certificates,
        trial_timeout_s=trial_timeout,
        max_trials=max_trials,
        fresh=fresh,
        require_mlflow=require_mlflow,
    )
    with failing(settings.webhook, question.name), Watch(sweep_ending.console(stderr=True)) as watch:
        result = drive(question, settings, watch)
    sweep_ending.end(result, settings, as_json=as_json, register=register)


app.command()(report.report)


@app.command()
def judge(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="Factors, seed and metrics, one trial per row.")],
    source: Annotated[str, typer.Option("--sweep", metavar="FILE", help="The sweep file with the claims.")],
    as_json: Json = False,
) -> None:
    """Judge the claims of a sweep file on a table of results from anywhere."""
    from mnist_ablate.ledger import progress
    from mnist_ablate.ledger import results_table as tables
    from mnist_ablate.reports import judging
    from mnist_ablate.sweep import sweep_file

    question = sweep_file.load(source, any_factors=True)
    metrics = list(dict.fromkeys(claim.metric for claim in question.claims))
    rows = tables.read(table, question.factors, metrics)
    sweep_ending.show(judging.of_rows(question, rows, progress.count(rows)), as_json=as_json)


app.command()(records.verify)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to serve.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page.")] = True,
    home: Home = None,
) -> None:
    """Serve MLflow's web page on the embedded store."""
    from mnist_ablate.tracking import web_ui

    settings = settings_of(home)
    settings.home.mkdir(parents=True, exist_ok=True)
    raise typer.Exit(web_ui.serve(settings, port, open_browser=open_browser, show=typer.echo))


app.command()(service.worker)
app.command()(service.scheduler)
app.command()(compare.compare)
app.command()(new.new)
app.command()(new.schema)
app.command()(records.sync)
app.command()(records.export)
app.command()(records.restore)
app.add_typer(service.stack_app, name="stack")


def main() -> None:
    """Run a command. Every error is one line on stderr and an exit code, with --debug a traceback."""
    from mnist_ablate.errors import mask
    from mnist_ablate.processes import Interrupted, raising

    gc.set_threshold(*_RARELY)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # after the last line Ctrl-C ends at once, without a traceback
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if not debug:
        warnings.simplefilter("ignore")
    try:
        with raising():
            app()
    except Interrupted as error:
        if debug:
            sys.stderr.write(mask(traceback.format_exc()))
        _leave_soon(error.exit_code)
    except Exception as error:  # noqa: BLE001 - this is where all of them end
        text, code = _message_and_code(error)
        sys.stderr.write(mask(traceback.format_exc() if debug else f"{text}\n"))
        sys.exit(code)


def _leave_soon(code: int) -> NoReturn:
    """Exit in order if that takes no longer than a second. A thread may hang, and an interrupt must not wait for it."""
    deadline = threading.Timer(_LEAVE_S, os._exit, (code,))
    deadline.daemon = True
    deadline.start()
    with suppress(OSError):
        sys.stderr.write("stopped; run the same command again to continue\n")
    sys.exit(code)


def _message_and_code(error: Exception) -> tuple[str, int]:
    if isinstance(error, AblateError):
        return str(error), error.exit_code
    if not isinstance(error, OSError):
        text = str(error).strip().partition("\n")[0]
        return f"internal error: {type(error).__name__}: {text}: run again with --debug and report it", 1
    if error.errno in _NO_SPACE:
        where = error.filename or "the disk"
        return f"no space on, or no right to write, {where}: free it and run again", DiskError.exit_code
    return f"{error.filename or 'input'}: {error.strerror or error}: check the path", SweepError.exit_code
